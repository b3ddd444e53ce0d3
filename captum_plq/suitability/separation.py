"""How well a score tells clean images from the same images made worse, and how surely."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Estimate", "Separation", "auroc", "auroc_gain", "separation", "share_falling"]


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
    times = _times_drawn(len(clean), resamples, seed)
    falls, wins = (degraded < clean).double().cpu(), _wins(clean, degraded).cpu()
    return Separation(
        _estimate(falls.mean(), times @ falls / len(clean), confidence),
        _estimate(wins.mean(), _quadratic(times, wins), confidence),
    )


def auroc_gain(
    scores: Tensor,
    over: Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """By how much one score's mean AUROC over several degradations exceeds another score's.

    Both scores are of the same images, and are resampled together.

    Args:

        scores (Tensor): (1 + k, n), of the clean images, then of their k degradations.
        over (Tensor): (1 + k, n), the score to compare with, in the same order.
        confidence (float): as for :func:`separation`.
        resamples (int): as for :func:`separation`.
        seed (int): as for :func:`separation`.

    Returns:
        *Estimate*: in [-1, 1]; above 0 where ``scores`` separates better.

    Raises:
        ValueError: if the shapes differ, there is no degradation, a score is not finite, or
            ``confidence`` or ``resamples`` are out of range.

    Examples::

        >>> auroc_gain(one, other).low > 0  # surely better
        True
    """
    if scores.shape != over.shape or scores.ndim != 2 or len(scores) < 2:
        raise ValueError(
            "Two scores to compare must be (1 + k, n) each, k ≥ 1, but got "
            f"{tuple(scores.shape)} and {tuple(over.shape)}."
        )
    mean_wins = []
    for clean, *degraded in (scores, over):
        for worse in degraded:
            _check(clean, worse)
        mean_wins.append(torch.stack([_wins(clean, worse) for worse in degraded]).mean(0).cpu())
    gains = mean_wins[0] - mean_wins[1]
    times = _times_drawn(scores.shape[1], resamples, seed)
    return _estimate(gains.mean(), _quadratic(times, gains), confidence)


def _times_drawn(n: int, resamples: int, seed: int) -> Tensor:
    """(resamples, n): how often each of n images was drawn in each resample."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but got {resamples}.")
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(resamples, n, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times))


def _quadratic(times: Tensor, wins: Tensor) -> Tensor:
    """Mean of (n, n) wins over the pairs of each resample: (resamples,)."""
    return ((times @ wins) * times).sum(1) / len(wins) ** 2


def _estimate(value: Tensor, values: Tensor, confidence: float) -> Estimate:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, but got {confidence}.")
    outside = (1 - confidence) / 2
    ends = torch.tensor([outside, 1 - outside], dtype=values.dtype)
    low, high = torch.quantile(values, ends).tolist()
    return Estimate(float(value), low, high)


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
    for name, scores in (("clean", clean), ("degraded", degraded)):
        if wrong := int((~torch.isfinite(scores)).sum()):
            raise ValueError(
                f"Scores must be finite, but {wrong} of the {len(scores)} {name} ones are NaN or "
                "infinite."
            )
