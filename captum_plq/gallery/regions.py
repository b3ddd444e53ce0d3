"""From the places of a spatial map to the regions of a face."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_plq.faces.align import Template
from captum_plq.faces.regions import face_regions
from captum_plq.functional.local import enlarge

__all__ = ["region_weights"]


def region_weights(
    template: Template, size: tuple[int, int], grid: tuple[int, int]
) -> tuple[tuple[str, ...], Tensor]:
    """Return how much of each place of a map belongs to each region of an aligned face.

    A place's value is spread over the pixels around it as by
    :func:`~captum_plq.functional.local.enlarge`, so that sums are kept.

    Args:

        template (str): As for :func:`~captum_plq.faces.align_face`.
        size (tuple[int, int]): Height and width of an aligned face, in pixels.
        grid (tuple[int, int]): h and w of the map.

    Returns:
        *tuple[tuple[str, ...], Tensor]*: the names of the regions, and (h·w, regions), float32;
        rows add up to 1.

    Examples::

        >>> names, weights = region_weights("arcface", (112, 112), (7, 7))
        >>> lost = -(maps.flatten(1) @ weights)  # by region, of maps (B, 7, 7)
    """
    regions = face_regions(template, size)
    masks = torch.stack([torch.from_numpy(mask) for mask in regions.values()]).float()
    places = grid[0] * grid[1]
    spread = enlarge(torch.eye(places).view(places, *grid), size)
    return tuple(regions), spread.flatten(1) @ masks.flatten(1).T
