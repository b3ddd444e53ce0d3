"""How well a score map finds an occluded area: low scores inside it, high ones outside."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.metrics.checks import require_finite

__all__ = ["auroc", "log_contrast", "mass_accuracy", "pointing_game", "rank_accuracy"]

_SMALLEST = 1e-30
"""Scores below count as this in logarithms."""


def auroc(maps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the probability that a pixel inside scores lower than one outside, ties counting half.

    Args:

        maps (Tensor): (B, H, W), scores, high = useful.
        masks (Tensor): (B, H, W), bool, true inside; some pixels in and some out.

    Returns:
        *ndarray*: (B,), in [0, 1]; ½ for a map that knows nothing of the area.

    Examples::

        >>> auroc(torch.tensor([[[0.1, 0.5, 0.9]]]), torch.tensor([[[True, False, False]]]))
        array([1.])
    """
    from scipy.stats import rankdata

    scores, inside = _flat(maps, masks)
    n, others = inside.sum(1), (~inside).sum(1)
    ranks = (rankdata(scores, axis=1) * inside).sum(1)
    return np.asarray(1 - (ranks - n * (n + 1) / 2) / (n * others), dtype=np.float64)


def pointing_game(maps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return whether the lowest pixel lies inside: 1 or 0; of tied ones the share that does.

    After Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016. Arguments
    and result as of :func:`auroc`.
    """
    scores, inside = _flat(maps, masks)
    lowest = scores == scores.min(1, keepdims=True)
    return np.asarray((lowest & inside).sum(1) / lowest.sum(1), dtype=np.float64)


def rank_accuracy(maps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the share inside of the n lowest pixels, n being the area's size; ties count in part.

    Relevance rank accuracy of Arras et al., "CLEVR-XAI", Information Fusion 2022, for low
    scores. Arguments and result as of :func:`auroc`; by chance the area's share of the image.
    """
    scores, inside = _flat(maps, masks)
    n = inside.sum(1)
    last = np.sort(scores, axis=1)[np.arange(len(n)), n - 1][:, None]
    below, tied = scores < last, scores == last
    share = (tied & inside).sum(1) / tied.sum(1)
    found = (below & inside).sum(1) + (n - below.sum(1)) * share
    return np.asarray(found / n, dtype=np.float64)


def mass_accuracy(qualities: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the share of all missing quality, Σ (1 − p), that lies inside.

    Relevance mass accuracy of Arras et al. (2022), for low quality.

    Args:

        qualities (Tensor): (B, H, W), in [0, 1].
        masks (Tensor): as of :func:`auroc`.

    Returns:
        *ndarray*: (B,), in [0, 1]; NaN where no quality is missing.
    """
    scores, inside = _flat(qualities, masks)
    missing = 1 - scores
    with np.errstate(invalid="ignore"):
        return np.asarray((missing * inside).sum(1) / missing.sum(1), dtype=np.float64)


def log_contrast(maps: Tensor, masks: Tensor) -> NDArray[np.float64]:
    """Return the mean ln score outside less that inside: positive where the area scores lower.

    Arguments as of :func:`auroc`. It does not depend on the unit of the scores.

    Returns:
        *ndarray*: (B,).
    """
    scores, inside = _flat(maps, masks)
    logs = np.log(np.maximum(scores, _SMALLEST))
    outside = (logs * ~inside).sum(1) / (~inside).sum(1)
    return np.asarray(outside - (logs * inside).sum(1) / inside.sum(1), dtype=np.float64)


def _flat(maps: Tensor, masks: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    if maps.shape != masks.shape or maps.ndim != 3 or masks.dtype != torch.bool:
        raise ValueError(
            f"Maps and masks must be (B, H, W), masks bool, but got {tuple(maps.shape)} and "
            f"{tuple(masks.shape)}, {masks.dtype}."
        )
    inside = masks.flatten(1).cpu().numpy()
    if not (inside.any(1) & ~inside.all(1)).all():
        raise ValueError("Each mask must have pixels inside and outside.")
    require_finite("maps", maps)
    return maps.detach().flatten(1).double().cpu().numpy(), inside
