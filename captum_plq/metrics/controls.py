"""What a score map is worth without the image: controls that every claim stands beside."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_plq.metrics.checks import require_maps
from captum_plq.metrics.similarity import spearman, standard_ranks

__all__ = [
    "centre_gaussian",
    "centre_similarity",
    "random_map",
    "similarity_between_images",
]


def similarity_between_images(maps: Tensor) -> float:
    r"""How much of a method's maps is the same whatever the image: mean pairwise Spearman.

    .. math:: \frac{2}{B(B-1)} \sum_{i<j} \rho(P_i, P_j)

    Faces are aligned, so a network does look at the same places in all of them; a method at 1,
    though, tells nothing about the image at hand.

    Args:

        maps (Tensor): (B, H, W), B ≥ 2, score maps of different images.

    Returns:
        *float*: in [-1, 1]; 0 for maps with nothing in common, NaN if one is constant.

    Raises:
        TypeError: if ``maps`` is no floating-point tensor.
        ValueError: if it is not (B, H, W) with B ≥ 2, or a value is not finite.

    Examples::

        >>> round(similarity_between_images(torch.stack([score_map, score_map])), 6)
        1.0
    """
    ranks = standard_ranks(require_maps(maps))
    n = len(ranks)
    if n < 2:
        raise ValueError("maps must be of at least two images to be compared, but got one.")
    # The squared length of a sum of unit vectors is n plus twice the sum over pairs.
    return float((ranks.sum(0).square().sum() - n) / (n * (n - 1)))


def centre_similarity(maps: Tensor) -> Tensor:
    """Spearman's correlation of each map with how near a pixel is to the image's centre.

    That is the correlation with :func:`centre_gaussian` of any σ, since all of these order the
    pixels alike.

    Args:

        maps (Tensor): (B, H, W), score maps.

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; NaN for a constant map.

    Raises:
        TypeError: if ``maps`` is no floating-point tensor.
        ValueError: if it is not (B, H, W), or a value is not finite.

    Examples::

        >>> centre_similarity(centre_gaussian(112, 112, 30.0)[None]) > 0.999
        tensor([True])
    """
    height, width = require_maps(maps).shape[1:]
    return spearman(maps, -_squared_radius(height, width).to(maps.device)[None])


def centre_gaussian(height: int, width: int, sigma: float) -> Tensor:
    r"""A score map that knows only where the image's centre is.

    .. math:: \exp\left(-\frac{(y-\bar y)^2+(x-\bar x)^2}{2\sigma^2}\right)

    Args:

        height (int): H, in pixels.
        width (int): W, in pixels.
        sigma (float): σ, in pixels, > 0.

    Returns:
        *Tensor*: (H, W), float32, in [0, 1]; 1 at the centre ((H − 1)/2, (W − 1)/2).

    Raises:
        ValueError: if a side is below 1, or ``sigma`` is not above 0 and finite.

    Examples::

        >>> centre_gaussian(1, 3, 1.0)  # exp(−½) either side
        tensor([[0.6065, 1.0000, 0.6065]])
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be above 0 and finite, but got {sigma}.")
    return torch.exp(-_squared_radius(height, width) / (2 * sigma**2)).float()


def random_map(height: int, width: int, seed: int) -> Tensor:
    """A score map that knows nothing: pixels drawn independently and uniformly.

    Args:

        height (int): H, in pixels.
        width (int): W, in pixels.
        seed (int): Of the draw; the global random state is left alone. One per image.

    Returns:
        *Tensor*: (H, W), float32, in [0, 1).

    Raises:
        ValueError: if a side is below 1.

    Examples::

        >>> controls = torch.stack([random_map(112, 112, seed) for seed in range(len(images))])
    """
    _check_sides(height, width)
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def _squared_radius(height: int, width: int) -> Tensor:
    """(H, W), float64: squared distance of each pixel from the centre, in pixels."""
    _check_sides(height, width)
    y, x = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width))
    return y.square()[:, None] + x.square()


def _check_sides(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, but got {height} and {width}.")
