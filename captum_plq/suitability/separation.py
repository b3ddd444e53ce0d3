"""How well a score separates clean images from degraded ones, with bootstrap intervals."""

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

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


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
    """Return the share of images whose score is lower after the degradation; ties do not count.

    Examples::

        >>> share_falling(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 5.0]))
        0.5

    Args:

        clean (Tensor): (n,), the scores of the clean images.
        degraded (Tensor): (n,), the scores of the same images degraded, in the same order.

    Returns:
        *float*: in [0, 1]; about 0.5 if the score is uninformative.

    Raises:
        ValueError: if these are not equally many finite numbers, at least one each.
    """
    _check(clean, degraded)
    return float((degraded < clean).double().mean())


def auroc(clean: Tensor, degraded: Tensor) -> float:
    """Return the probability that a random clean image scores above a random degraded one.

    The area under the ROC curve, or the Mann-Whitney U statistic over n²; ties count half.

    Examples::

        >>> auroc(torch.tensor([3.0, 5.0]), torch.tensor([2.0, 5.0]))  # (1 + 0 + 1 + ½) / 4
        0.625

    Args:

        clean (Tensor): (n,), the scores of the clean images.
        degraded (Tensor): (n,), the scores of the same images degraded.

    Returns:
        *float*: in [0, 1]; 0.5 if the score is uninformative, 1 if all clean images score higher
        than all degraded ones.

    Raises:
        ValueError: as for :func:`share_falling`.
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
    """Compute :func:`share_falling` and :func:`auroc` with percentile bootstrap intervals.

    Images are resampled with replacement, a clean image together with its degraded version.

    Examples::

        >>> found = separation(clean, degraded)
        >>> found.auroc.low > 0.5  # significantly better than chance
        True

    Args:

        clean (Tensor): (n,), the scores of the clean images.
        degraded (Tensor): (n,), the scores of the same images degraded, in the same order.
        confidence (float): Share of the resampled values inside the interval, in (0, 1).
        resamples (int): Draws of n images with replacement.
        seed (int): Of the draws; the global random state is left alone.

    Returns:
        *Separation*: both figures with their intervals.

    Raises:
        ValueError: as for :func:`share_falling`, or if ``confidence`` or ``resamples`` are out of
            range.
    """
    _check(clean, degraded)
    times = _times_drawn(len(clean), resamples, seed)
    falls = (degraded < clean).double().cpu()
    return Separation(
        _estimate(falls.mean(), times @ falls / len(clean), confidence),
        _mean_of_pairs(_wins(clean, degraded).cpu(), times, confidence),
    )


def auroc_gain(
    scores: Tensor,
    over: Tensor,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Return by how much a score's mean AUROC over several degradations exceeds another score's.

    Both scores are of the same images, and are resampled together.

    Examples::

        >>> auroc_gain(one, other).low > 0  # significantly better
        True

    Args:

        scores (Tensor): (1 + k, n), of the clean images, then of their k degradations.
        over (Tensor): (1 + k, n), the score to compare with, in the same order.
        confidence (float): as for :func:`separation`.
        resamples (int): likewise.
        seed (int): likewise.

    Returns:
        *Estimate*: in [-1, 1]; above 0 where ``scores`` separates better.

    Raises:
        ValueError: if the shapes differ, there is no degradation, a score is not finite, or
            ``confidence`` or ``resamples`` are out of range.
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
    times = _times_drawn(scores.shape[1], resamples, seed)
    return _mean_of_pairs(mean_wins[0] - mean_wins[1], times, confidence)


def _times_drawn(n: int, resamples: int, seed: int) -> Tensor:
    """(resamples, n): how often each of n images was drawn in each resample."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but got {resamples}.")
    drawn = torch.randint(n, (resamples, n), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(resamples, n, dtype=torch.float64)
    return times.scatter_add_(1, drawn, torch.ones_like(times))


def _mean_of_pairs(wins: Tensor, times: Tensor, confidence: float) -> Estimate:
    """Mean of (n, n) over the pairs, and its interval over (resamples, n) draws."""
    resampled = ((times @ wins) * times).sum(1) / len(wins) ** 2
    return _estimate(wins.mean(), resampled, confidence)


def _estimate(value: Tensor, resampled: Tensor, confidence: float) -> Estimate:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be strictly between 0 and 1, but got {confidence}.")
    outside = (1 - confidence) / 2
    ends = torch.tensor([outside, 1 - outside], dtype=resampled.dtype)
    return Estimate(float(value), *torch.quantile(resampled, ends).tolist())


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
