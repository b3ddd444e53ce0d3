"""How alike two score maps are: in the order of their pixels, or in their structure."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from captum_plq.errors import extra
from captum_plq.metrics.checks import require_maps

__all__ = ["spearman", "standard_ranks", "structural_similarity"]


def spearman(maps: Tensor, others: Tensor) -> Tensor:
    r"""Spearman's rank correlation of each map with its counterpart, over the pixels.

    Ties share their mean rank, as in ``scipy.stats.spearmanr``. Nothing that keeps the order of
    the pixels (a scale, γ of Eq. 6) changes it.

    Args:

        maps (Tensor): (B, H, W), score maps.
        others (Tensor): (B, H, W), or (1, H, W) to compare all with one.

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; NaN where a map is constant and so has no order.

    Raises:
        TypeError: if these are no floating-point tensors.
        ValueError: if the shapes do not fit, or a value is not finite.

    Examples::

        >>> spearman(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 3.0, 2.0]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    maps, others = require_maps(maps), require_maps(others, "others")
    if maps.shape[1:] != others.shape[1:] or others.shape[0] not in (1, maps.shape[0]):
        raise ValueError(
            "Maps to compare must have the same shape, but got "
            f"{tuple(maps.shape)} and {tuple(others.shape)}."
        )
    return (standard_ranks(maps) * standard_ranks(others)).sum(1)


def standard_ranks(maps: Tensor) -> Tensor:
    """Ranks of the pixels of each map, centred, of unit length: their products are Spearman's.

    Args:

        maps (Tensor): (B, ...), at least one value per row.

    Returns:
        *Tensor*: (B, N), float64; NaN for a constant map.
    """
    ranks = torch.stack([_ranks(row) for row in maps.flatten(1)])
    centred = ranks - ranks.mean(1, keepdim=True)
    unit: Tensor = centred / centred.norm(dim=1, keepdim=True)
    return unit


def _ranks(values: Tensor) -> Tensor:
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    shared: Tensor = last - (count.double() - 1) / 2
    return shared[place]


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """SSIM of each map with its counterpart, both first brought to the same scale.

    Each map is divided by its root mean square (Binder et al., "Shortcomings of Top-Down
    Randomization-Based Sanity Checks", CVPR 2023); the data range is that of both together.
    The window is scikit-image's default, 7×7, uniform. SSIM was made for values of one sign: the
    negative of a map can be similar to it where windows have a mean; where only the size of an
    attribution counts, compare that.

    Args:

        maps (Tensor): (B, H, W), H, W ≥ 7, score maps.
        others (Tensor): (B, H, W).

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; 1 for maps that differ by a positive factor, or
        that are both constant.

    Raises:
        TypeError: if these are no floating-point tensors.
        ValueError: if the shapes differ or are too small, or a value is not finite.
        MissingExtraError: if scikit-image is not installed.

    Examples::

        >>> structural_similarity(maps, 3 * maps) > 0.999  # maps: (2, H, W)
        tensor([True, True])
    """
    maps, others = require_maps(maps), require_maps(others, "others")
    if maps.shape != others.shape or min(maps.shape[1:]) < 7:
        raise ValueError(
            "Maps to compare must have the same shape, 7×7 or more, but got "
            f"{tuple(maps.shape)} and {tuple(others.shape)}."
        )
    with extra("metrics"):
        from skimage.metrics import structural_similarity as ssim

    scores = []
    for one, other in zip(_unit_power(maps), _unit_power(others), strict=True):
        extent = max(one.max(), other.max()) - min(one.min(), other.min())
        scores.append(float(ssim(one, other, data_range=extent)) if extent > 0 else 1.0)
    return torch.tensor(scores, dtype=torch.float64)


def _unit_power(maps: Tensor) -> np.ndarray:
    values: np.ndarray = maps.double().cpu().numpy()
    power = np.sqrt((values**2).mean(axis=(1, 2), keepdims=True))
    scaled: np.ndarray = values / np.where(power > 0, power, 1.0)
    return scaled
