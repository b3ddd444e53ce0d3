"""Aligned faces, and photos of them, to maps, figures and records on disk."""

from captum_plq.explanation.explainer import Explainer, matching_calibration
from captum_plq.explanation.local import LocalMaps
from captum_plq.explanation.photos import PhotosSummary, explain_photos
from captum_plq.explanation.result import Explanation
from captum_plq.explanation.settings import PhotoSettings, Settings
from captum_plq.explanation.watcher import Watcher

__all__ = [
    "Explainer",
    "Explanation",
    "LocalMaps",
    "PhotoSettings",
    "PhotosSummary",
    "Settings",
    "Watcher",
    "explain_photos",
    "matching_calibration",
]
