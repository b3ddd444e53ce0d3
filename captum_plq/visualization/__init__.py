"""Figures on absolute colour scales."""

from captum_plq.visualization.faces import plot_faces
from captum_plq.visualization.local_maps import plot_local_quality, quality_in_words
from captum_plq.visualization.overview import plot_contact_sheet, plot_detections
from captum_plq.visualization.quality_maps import plot_quality_map, plot_quality_maps

__all__ = [
    "plot_contact_sheet",
    "plot_detections",
    "plot_faces",
    "plot_local_quality",
    "plot_quality_map",
    "plot_quality_maps",
    "quality_in_words",
]
