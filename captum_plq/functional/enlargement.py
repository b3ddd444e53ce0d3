"""From the places of a spatial feature map to the pixels of an image."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PlaceCentres", "area_weights", "enlarge", "interpolate"]


class PlaceCentres(NamedTuple):
    """Where in an image the places of a spatial feature map lie.

    Args:

        first (tuple[float, float]): The middle of the place at the top left, in shares of the
            image's height and width; 0 is its edge.
        step (tuple[float, float]): From one place to the next, likewise, > 0.

    Examples::

        >>> PlaceCentres((0.5 / 7, 0.5 / 7), (1 / 7, 1 / 7))  # of cells that share the image out
    """

    first: tuple[float, float]
    step: tuple[float, float]


def enlarge(maps: Tensor, size: tuple[int, int], centres: PlaceCentres | None = None) -> Tensor:
    """Spread each place's value bilinearly over the pixels around it, keeping the sums.

    Examples::

        >>> enlarge(torch.ones(1, 7, 7), (112, 112)).sum()
        tensor(49.)

    Args:

        maps (Tensor): (B, h, w).
        size (tuple[int, int]): H and W, of the image.
        centres (PlaceCentres, optional): Where the places lie. ``None``: they share the image out
            in equal cells.

    Returns:
        *Tensor*: (B, H, W), per pixel.
    """
    return _spread(maps, *_both(maps, size, centres, keeps_sums=True))


def interpolate(maps: Tensor, size: tuple[int, int], centres: PlaceCentres | None = None) -> Tensor:
    """Return the values of maps at the pixels of an image, bilinearly between the places.

    Examples::

        >>> interpolate(torch.ones(1, 7, 7), (112, 112)).unique()
        tensor([1.])

    Args:

        maps (Tensor): (B, h, w).
        size (tuple[int, int]): H and W, of the image.
        centres (PlaceCentres, optional): As for :func:`enlarge`.

    Returns:
        *Tensor*: (B, H, W), in the maps' unit, beyond the outermost places as they are.
    """
    return _spread(maps, *_both(maps, size, centres, keeps_sums=False))


def area_weights(
    areas: Tensor, grid: tuple[int, int], centres: PlaceCentres | None = None
) -> Tensor:
    """Return which part of each place's value lies in which area of the image.

    The sum of a map over an area, once enlarged, is the sum of the map times these weights.

    Examples::

        >>> upper = torch.zeros(1, 112, 112, dtype=torch.bool)
        >>> upper[:, :56] = True
        >>> weights = area_weights(torch.cat([upper, ~upper]), (7, 7))
        >>> weights.sum((1, 2))  # of a map of ones
        tensor([24.5000, 24.5000], dtype=torch.float64)

    Args:

        areas (Tensor): (A, H, W), bool, or the share of each pixel that belongs to an area.
        grid (tuple[int, int]): h and w, of the map at places.
        centres (PlaceCentres, optional): As for :func:`enlarge`.

    Returns:
        *Tensor*: (A, h, w), float64, as :func:`enlarge` spreads the places. They add up to 1 at
        each place if the areas share all pixels out.
    """
    shares = areas.double()
    places = shares.new_empty(1, *grid)
    size = (shares.shape[1], shares.shape[2])
    rows, columns = _both(places, size, centres, keeps_sums=True)
    return rows @ shares @ columns.T


def _spread(maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    with torch.autocast(maps.device.type, enabled=False):
        return rows.T @ maps @ columns


def _both(
    maps: Tensor, size: tuple[int, int], centres: PlaceCentres | None, *, keeps_sums: bool
) -> tuple[Tensor, Tensor]:
    """(h, H) and (w, W) weights."""
    grid = (maps.shape[1], maps.shape[2])
    if centres is None:
        centres = PlaceCentres((0.5 / grid[0], 0.5 / grid[1]), (1 / grid[0], 1 / grid[1]))
    one, other = (
        _bilinear(*axis, keeps_sums, maps.device, maps.dtype)
        for axis in zip(grid, size, centres.first, centres.step, strict=True)
    )
    return one, other


@lru_cache(maxsize=32)
def _bilinear(
    small: int,
    large: int,
    first: float,
    step: float,
    keeps_sums: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """(small, large) weights of each place at each pixel; not to be written to."""
    with torch.inference_mode(False), torch.no_grad():
        middles = (torch.arange(large, dtype=torch.float64, device="cpu") + 0.5) / large
        at = ((middles - first) / step).clamp(0, small - 1)
        places = torch.arange(small, dtype=torch.float64, device="cpu")
        weights = (1 - (at - places[:, None]).abs()).clamp_min(0)
        if keeps_sums:
            empty = weights.sum(1) == 0  # no pixel is near it
            nearest = (first + step * places[:, None] - middles).abs().argmin(1)
            weights[empty, nearest[empty]] = 1
            weights = weights / weights.sum(1, keepdim=True)
        return weights.to(device, dtype)
