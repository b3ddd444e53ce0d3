"""A whole gallery of photos to one table of their quality, which a killed run does not lose."""

from captum_plq.gallery.result import GalleryResult, read_result
from captum_plq.gallery.run import Progress, RunSummary, score_gallery
from captum_plq.gallery.settings import ScoreSettings

__all__ = [
    "GalleryResult",
    "Progress",
    "RunSummary",
    "ScoreSettings",
    "read_result",
    "score_gallery",
]
