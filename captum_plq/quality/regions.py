"""The quality that each region of an aligned face loses."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from captum_plq.faces import REGIONS, face_regions
from captum_plq.faces.align import Template
from captum_plq.functional.enlargement import PlaceCentres, area_weights

__all__ = ["LEAST_TOLD", "lost_by_region", "worst_region"]

LEAST_TOLD = 0.01
"""Losses below this, in units of Q, are not told in words: 95 % of high-quality faces lose less in
each region, on the networks of this package."""


def lost_by_region(
    maps: Tensor, template: Template, size: tuple[int, int], centres: PlaceCentres | None = None
) -> Tensor:
    """Sum what local quality takes from Q over the regions of the face.

    Each place's value is shared between the regions as
    :func:`~captum_plq.functional.enlargement.enlarge` spreads it: nothing is lost or counted
    twice. The regions are those of the template; which lies where in each photo is not looked at.

    Args:

        maps (Tensor): (n, h, w), local quality at places, of
            ``LocalQuality.attribute(..., at_places=True)``.
        template (str): As of :func:`~captum_plq.faces.face_regions`.
        size (tuple[int, int]): Height and width of the network's input, in pixels.
        centres (PlaceCentres, optional): Where the places lie, of ``SpatialSERFIQ.tail`` or a
            calibration. ``None``: they share the image out in equal cells.

    Returns:
        *Tensor*: (n, 9), float64, one column for each of :data:`~captum_plq.faces.REGIONS`, in
        units of Q: minus the sum of the map over the region; negative where it adds to Q.

    Raises:
        ValueError: if ``template`` or ``size`` is not as for
            :func:`~captum_plq.faces.face_regions`.

    Examples::

        >>> maps = LocalQuality(model, reference=5.0).attribute(images, at_places=True)
        >>> lost = lost_by_region(maps, "arcface", (112, 112))
        >>> [REGIONS[worst] for worst in lost.argmax(1)]  # of each face
    """
    weights = _weights(template, size, (maps.shape[1], maps.shape[2]), centres).to(maps.device)
    return -torch.einsum("nhw,rhw->nr", maps.double(), weights)


def worst_region(lost: ArrayLike) -> str | None:
    """Return the region that takes most from Q, if that is enough to be told.

    Args:

        lost (array-like): (9,), of :func:`lost_by_region`; NaN where it is not known.

    Returns:
        *str or None*: of :data:`~captum_plq.faces.REGIONS`; ``None`` if each takes less than
        :data:`LEAST_TOLD`.

    Examples::

        >>> worst_region([0, 0.012, 0.03, 0, 0, 0, 0, 0, 0])
        'right_eye'
    """
    values = np.asarray(lost, dtype=np.float64)
    known = np.where(np.isnan(values), -np.inf, values)
    return REGIONS[int(known.argmax())] if known.max() >= LEAST_TOLD else None


@lru_cache(maxsize=8)
def _weights(
    template: Template,
    size: tuple[int, int],
    grid: tuple[int, int],
    centres: PlaceCentres | None,
) -> Tensor:
    """Return which part of each place lies in which region: (9, h, w)."""
    regions = np.stack(list(face_regions(template, size).values()))
    return area_weights(torch.from_numpy(regions), grid, centres)
