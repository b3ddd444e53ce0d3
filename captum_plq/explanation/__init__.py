"""Aligned faces to maps, figures and records on disk."""

from captum_plq.explanation.explainer import Explainer, matching_calibration
from captum_plq.explanation.local import LocalMaps
from captum_plq.explanation.result import Explanation
from captum_plq.explanation.settings import Settings

__all__ = [
    "Explainer",
    "Explanation",
    "LocalMaps",
    "Settings",
    "matching_calibration",
]
