"""Aligned faces to maps, figures and records on disk."""

from captum_plq.explanation.explainer import Explainer, Settings, calibration_that_holds
from captum_plq.explanation.result import Explanation

__all__ = [
    "Explainer",
    "Explanation",
    "Settings",
    "calibration_that_holds",
]
