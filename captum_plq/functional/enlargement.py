"""From the places of a spatial map to the pixels of an image, with the sums kept."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["area_weights", "enlarge"]


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Spread each place's value bilinearly over the pixels around it, keeping the sums.

    Examples::

        >>> enlarge(torch.ones(1, 7, 7), (112, 112)).sum()
        tensor(49.)

    Args:

        maps (Tensor): (B, h, w).
        size (tuple[int, int]): H and W, of the image.

    Returns:
        *Tensor*: (B, H, W), per pixel.
    """
    rows, columns = (
        _bilinear(small, large, maps.device, maps.dtype)
        for small, large in zip(maps.shape[1:], size, strict=True)
    )
    return rows.T @ maps @ columns


def area_weights(areas: Tensor, grid: tuple[int, int]) -> Tensor:
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

    Returns:
        *Tensor*: (A, h, w), float64, as :func:`enlarge` spreads the places. They add up to 1 at
        each place if the areas share all pixels out.
    """
    shares = areas.double()
    rows, columns = (
        _bilinear(small, large, shares.device, shares.dtype)
        for small, large in zip(grid, shares.shape[1:], strict=True)
    )
    return rows @ shares @ columns.T


@lru_cache(maxsize=16)
def _bilinear(small: int, large: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(small, large) weights of bilinear enlargement, each row of sum 1; not to be written to."""
    with torch.inference_mode(False), torch.no_grad():
        one = torch.eye(small, dtype=torch.float64, device="cpu")[None]
        weights = F.interpolate(one, size=large, mode="linear")[0]
        return (weights / weights.sum(1, keepdim=True)).to(device, dtype)
