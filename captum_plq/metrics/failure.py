"""How often recognition fails as a function of quality, with an interval.

The rate at which mated pairs are not matched (false non-match rate, FNMR) is estimated as a
function of the pair's quality that never rises: isotonic regression. Its interval is pointwise.
Where enough people fail and enough do not, it is the bootstrap's, over people. In the tails, where
resamples see no failure (or nothing else) and the bootstrap would promise certainty, it is Clopper
and Pearson's for the pairs next to that quality: as the rate never rises, the mean rate of pairs of
lower quality bounds it from above, that of pairs of higher quality from below.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_plq.errors import extra
from captum_plq.metrics.checks import require_finite

__all__ = ["FailureCurve", "failure_curve", "quality_at_failure"]

_LEAST = 20
"""Pairs, and half as many people, below which nothing is estimated."""

_KNOTS = 33
_RESAMPLES = 1000
_FEW = 10
"""People in a tail from which on the bootstrap is trusted."""

_PERCENTILES = (1.0, 99.0)
"""Of the resamples, for 95 %: isotonic fits scatter less between resamples than between samples."""

_NEIGHBOURS = (50, 100, 200, 400)
"""Pairs that a bound in the tails may be taken from; the tightest is."""

Numbers = NDArray[np.float64]


class FailureCurve(NamedTuple):
    """The false non-match rate as a function of quality: linear between knots, never rising.

    Args:

        quality (tuple[float, ...]): The knots, rising; the first and the last are the lowest and
            the highest quality measured.
        rate (tuple[float, ...]): There, in [0, 1].
        low (tuple[float, ...]): Lower end of its 95 % interval.
        high (tuple[float, ...]): Upper end.
    """

    quality: tuple[float, ...]
    rate: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, quality: ArrayLike) -> tuple[Numbers, Numbers, Numbers]:
        """Return rate, lower and upper end of its interval.

        Args:

            quality (array-like): Of any shape. Beyond the measured range, what holds at its end is
                returned.

        Returns:
            *tuple[ndarray, ndarray, ndarray]*: of that shape; NaN where ``quality`` is NaN.

        Examples::

            >>> curve = FailureCurve((0.4, 0.6), (0.5, 0.1), (0.4, 0.0), (0.6, 0.2))
            >>> [round(float(x), 3) for x in curve.at(0.5)]
            [0.3, 0.2, 0.4]
        """
        q = np.asarray(quality, dtype=np.float64)
        rate, low, high = (np.interp(q, self.quality, values) for values in self[1:])
        return rate, low, high


def failure_curve(
    mated_scores: Tensor,
    quality: Tensor,
    threshold: float,
    people: Sequence[Hashable],
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> FailureCurve:
    """Estimate the false non-match rate of mated pairs as a function of their quality.

    Args:

        mated_scores (Tensor): (n,), similarities of pairs of the same person, finite; n ≥ 20.
        quality (Tensor): (n,), of the pairs: of each, the lower of its two; finite.
        threshold (float): A pair matches if its score is at or above it, see
            :func:`~captum_plq.metrics.threshold_at_fmr`.
        people (sequence): n, whom each pair is of; 10 people at least. Pairs of one person are
            drawn together.
        resamples (int): Of the bootstrap. Default: 1000.
        seed (int): Of its random numbers.

    Returns:
        *FailureCurve*: at most 33 knots, at quantiles of ``quality``. The interval is pointwise,
        for the threshold as it is given.

    Raises:
        ValueError: if there are too few pairs or people, these are not equally many numbers, one
            is not finite, or all qualities are equal.
        MissingExtraError: without SciPy 1.12 (the extra ``metrics``).

    Examples::

        >>> scores, quality = torch.rand(300), torch.rand(300)
        >>> curve = failure_curve(scores, quality, 0.31, [i // 2 for i in range(300)])
        >>> rate, low, high = curve.at(0.58)
    """
    n = mated_scores.numel()
    if any(x.shape != (n,) for x in (mated_scores, quality)) or len(people) != n:
        raise ValueError(
            "mated_scores and quality must be (n,), and people n, of the same pairs, but got "
            f"{tuple(mated_scores.shape)}, {tuple(quality.shape)} and {len(people)}."
        )
    for name, values in (("mated_scores", mated_scores), ("quality", quality)):
        require_finite(name, values)
    require_finite("threshold", threshold)
    known = {person: i for i, person in enumerate(dict.fromkeys(people))}
    if n < _LEAST or len(known) < _LEAST // 2:
        raise ValueError(
            f"How often pairs fail needs at least {_LEAST} mated pairs of {_LEAST // 2} people, "
            f"better some hundred, but got {n} of {len(known)}."
        )
    q = quality.detach().double().cpu().numpy()
    order = np.argsort(q, kind="stable")
    q = q[order]
    if not q[-1] > q[0]:
        raise ValueError(f"All pairs have quality {q[0]:g}: no rate depends on it.")
    wrong = (mated_scores.detach().cpu() < threshold).numpy()[order].astype(np.float64)
    person = np.array([known[one] for one in people])[order]
    knots = np.unique(np.quantile(q, np.linspace(0, 1, _KNOTS), method="nearest"))
    with extra("metrics"):
        from scipy.optimize import isotonic_regression

    def fitted(weights: Numbers) -> Numbers:
        drawn = weights > 0
        groups, first = np.unique(q[drawn], return_index=True)  # equal qualities go together
        sums = np.add.reduceat(weights[drawn], first)
        means = np.add.reduceat((weights * wrong)[drawn], first) / sums
        fit = isotonic_regression(means, weights=sums, increasing=False).x
        at_knots: Numbers = np.interp(knots, groups, fit)
        return at_knots

    generator = np.random.default_rng(seed)
    samples = []
    for _ in range(resamples):
        drawn = generator.integers(len(known), size=len(known))
        times = np.bincount(drawn, minlength=len(known)).astype(np.float64)
        samples.append(fitted(times[person]))
    rate = fitted(np.ones(n))
    low, high = np.percentile(samples, _PERCENTILES, axis=0)
    for i, knot in enumerate(knots):
        failing, matching = person[(q >= knot) & (wrong > 0)], person[(q <= knot) & (wrong == 0)]
        if min(len(np.unique(failing)), len(np.unique(matching))) < _FEW:
            least, most = _bounds(q, wrong, person, knot)
            low[i], high[i] = min(low[i], least), max(high[i], most)
    low = np.minimum(np.minimum.accumulate(low), rate)
    high = np.maximum(np.maximum.accumulate(high[::-1])[::-1], rate)
    return FailureCurve(*(tuple(values.tolist()) for values in (knots, rate, low, high)))


def quality_at_failure(curve: FailureCurve, rate: float) -> tuple[float, float, float]:
    """Return the lowest quality from which on the false non-match rate is no higher than ``rate``.

    Args:

        curve (FailureCurve): Of :func:`failure_curve`.
        rate (float): In (0, 1).

    Returns:
        *tuple[float, float, float]*: the quality, and its 95 % interval: where the lower and where
        the upper end of the rate's interval comes down to ``rate``. ``-inf``: the rate is that low
        at the lowest quality measured; ``inf``: nowhere in the range measured.

    Raises:
        ValueError: if ``rate`` is not in (0, 1), or the curve is not finite.

    Examples::

        >>> curve = FailureCurve((0.4, 0.6), (0.5, 0.1), (0.4, 0.0), (0.6, 0.2))
        >>> quality_at_failure(curve, 0.3)
        (0.5, 0.45, 0.55)
    """
    if not 0 < rate < 1:
        raise ValueError(f"rate must be strictly between 0 and 1, but got {rate}.")
    require_finite("curve", torch.tensor(curve, dtype=torch.float64))
    q, low, high = (_reached(curve.quality, values, rate) for values in curve[1:])
    return q, low, high


def _reached(knots: Sequence[float], values: Sequence[float], rate: float) -> float:
    """Where falling values come down to a rate."""
    i = next((i for i, value in enumerate(values) if value <= rate), None)
    if i is None:
        return float("inf")
    if i == 0:
        return float("-inf")
    share = (values[i - 1] - rate) / (values[i - 1] - values[i])
    return float(round(knots[i - 1] + share * (knots[i] - knots[i - 1]), 12))


def _bounds(
    q: Numbers, wrong: Numbers, person: NDArray[np.int64], at: float
) -> tuple[float, float]:
    """Return bounds of the rate from the pairs of higher, and of lower quality."""
    with extra("metrics"):
        from scipy.stats import beta

    below, above = int(np.searchsorted(q, at, "right")), int(np.searchsorted(q, at, "left"))
    least, most = 0.0, 1.0
    for count in _NEIGHBOURS:
        part = slice(above, above + count)
        n = independent_pairs(wrong[part], person[part])
        if (k := float(wrong[part].mean()) * n) > 0:
            least = max(least, float(beta.ppf(0.025, k, n - k + 1)))
        part = slice(max(0, below - count), below)
        n = independent_pairs(wrong[part], person[part])
        if (k := float(wrong[part].mean()) * n) < n:
            most = min(most, float(beta.ppf(0.975, k + 1, n - k)))
    return least, most


def independent_pairs(wrong: Numbers, person: NDArray[np.int64]) -> float:
    """To how many independent pairs these amount, as people have several."""
    n, mean = len(wrong), float(wrong.mean())
    people, of = np.unique(person, return_inverse=True)
    if mean in (0.0, 1.0) or len(people) < 2:
        return float(len(people))
    sums = np.bincount(of, weights=wrong - mean)
    variance = float((sums**2).sum()) / n**2 * len(people) / (len(people) - 1)
    return float(min(n, mean * (1 - mean) / max(variance, 1e-12)))
