"""A whole gallery of photos to one table of their quality, which a killed run does not lose."""

from captum_plq.gallery.result import GalleryResult, read_result

__all__ = ["GalleryResult", "read_result"]
