"""What a run over a gallery has found: figures of the whole, and the faces to look at."""

from captum_plq.gallery.inspect.export import write_csv
from captum_plq.gallery.inspect.page import render_page
from captum_plq.gallery.inspect.pictures import RowPicture, pictures_of
from captum_plq.gallery.inspect.statistics import Inspection, Refusals, RegionLoss, inspect_result

__all__ = [
    "Inspection",
    "Refusals",
    "RegionLoss",
    "RowPicture",
    "inspect_result",
    "pictures_of",
    "render_page",
    "write_csv",
]
