"""Figures on an absolute colour scale."""

from captum_plq.visualization.quality_maps import plot_faces, plot_quality_map, plot_quality_maps

__all__ = [
    "plot_faces",
    "plot_quality_map",
    "plot_quality_maps",
]
