"""How well a score tells clean images from the same images made worse, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "Separation", "auroc", "separation", "share_falling"]


@dataclass(frozen=True)
class Estimate:
    """A number and the bounds of its confidence interval, in the number's own units."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Separation:
    """How clean and degraded images differ in a score, each with its confidence interval.

    Args:

        share (Estimate): see :func:`share_falling`.
        auroc (Estimate): see :func:`auroc`.
    """

    share: Estimate
    auroc: Estimate


def share_falling(clean: Tensor, degraded: Tensor) -> float:
    """Share of images whose score is lower after the degradation; ties do not count.

    Args:

        clean (Tensor): (n,), the scores of the images as they are.
        degraded (Tensor): (n,), those of the same images, in the same order, made worse.

    Returns:
        *float*: in [0, 1]; about 0.5 if the score knows nothing.

    Raises:
        ValueError: if these are not two equally many finite numbers, at least one each.

    Examples::

        >>> share_falling(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 5.0]))
        0.5
    """
    _check(clean, degraded)
    return float((degraded < clean).double().mean())


def auroc(clean: Tensor, degraded: Tensor) -> float:
    """Probability that a clean image scores higher than a degraded one, each drawn at random.

    The area under the ROC curve, or the Mann-Whitney U statistic over n²; ties count half.

    Args:

        clean (Tensor): (n,), the scores of the images as they are.
        degraded (Tensor): (n,), the scores of the same images made worse.

    Returns:
        *float*: in [0, 1]; 0.5 if the score knows nothing, 1 if all clean images score higher
        than all degraded ones.

    Raises:
        ValueError: if these are not two equally many finite numbers, at least one each.

    Examples::

        >>> auroc(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 5.0]))  # (1 + 0 + 1 + ½) / 4
        0.625
    """
    _check(clean, degraded)
    return float(_wins(clean, degraded).mean())


def separation(
    clean: Tensor,
    degraded: Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Separation:
    """:func:`share_falling` and :func:`auroc` with intervals by the percentile bootstrap.

    Images are drawn with replacement, each with both its scores, so that the intervals know
    of the pairing (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13). A
    share or AUROC of exactly 1 gets an interval of width 0: resampling cannot show what
    never occurred.

    Args:

        clean (Tensor): (n,), the scores of the images as they are.
        degraded (Tensor): (n,), those of the same images, in the same order, made worse.
        confidence (float): Of the intervals, in (0, 1).
        resamples (int): How many times to draw n images.
        seed (int): Of the draws; the global random state is left alone.

    Returns:
        *Separation*: each number with its interval.

    Raises:
        ValueError: if the scores are not two equally many finite numbers, at least one each,
            or ``confidence`` or ``resamples`` are out of range.

    Examples::

        >>> separation(clean, degraded).auroc.low > 0.5
        True
    """
    _check(clean, degraded)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, but got {confidence}.")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but got {resamples}.")
    n = len(clean)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n, (resamples, n), generator=generator)
    falls, wins = (degraded < clean).double().cpu(), _wins(clean, degraded).cpu()
    # How often each image was drawn; the AUROC is then a quadratic form, exact up to the division.
    times = torch.zeros(resamples, n, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    shares, areas = times @ falls / n, ((times @ wins) * times).sum(1) / n**2

    def estimate(value: float, values: Tensor) -> Estimate:
        outside = (1 - confidence) / 2
        ends = torch.tensor([outside, 1 - outside], dtype=values.dtype)
        low, high = torch.quantile(values, ends).tolist()
        return Estimate(value, low, high)

    return Separation(estimate(float(falls.mean()), shares), estimate(float(wins.mean()), areas))


def _wins(clean: Tensor, degraded: Tensor) -> Tensor:
    """(n, n), 1 where the clean image of the row beats the degraded one of the column."""
    difference = clean.detach()[:, None] - degraded.detach()[None, :]
    return (difference.sign().double() + 1) / 2


def _check(clean: Tensor, degraded: Tensor) -> None:
    if clean.ndim != 1 or clean.shape != degraded.shape or len(clean) == 0:
        raise ValueError(
            "Clean and degraded scores must be (n,) each, of the same images, but got "
            f"{tuple(clean.shape)} and {tuple(degraded.shape)}."
        )
    if not bool(torch.isfinite(clean).all() and torch.isfinite(degraded).all()):
        raise ValueError("Scores must be finite, but some are NaN or infinite.")
