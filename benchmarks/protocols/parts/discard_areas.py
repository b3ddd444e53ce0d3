"""Areas under curves of error versus discard, with intervals over people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.statistics import holm, rounded
from captum_plq.metrics import error_versus_discard
from captum_plq.metrics.recognition import DiscardCurve

FLOOR = "comparison score"
"""The score itself as quality of the pair: no quality can do better, and none may look at it."""
LIMITS = (0.2, 0.3)
"""Up to which share of discarded pairs the areas go."""
_RESAMPLES = 1000


def discarded(
    scores: Tensor,
    qualities: Mapping[str, tuple[Tensor, Tensor]],
    people: Sequence[str],
    threshold: float,
    *,
    against: str,
    seed: int = 0,
) -> dict[str, Any]:
    """Return curves and areas of several qualities of the same mated pairs, and their floor.

    Args:

        scores (Tensor): (n,), cosines of the pairs.
        qualities (mapping): Name → quality of the first images and of the second, (n,) each.
        people (sequence of str): Whom each pair is of; all pairs of a person are drawn together.
        threshold (float): A pair matches if its score is at or above it.
        against (str): The quality that all others are compared with.
        seed (int): Of the bootstrap.

    Returns:
        *dict*: ``pairs``, ``people``, ``starting_error``, ``curves`` (quality → discarded shares
        and errors) and ``areas`` (quality → limit → area over that of a quality that knows
        nothing, with its bootstrap interval over people, and the same of the difference to
        ``against`` with its corrected p; ``None`` without errors).
    """
    of = {**qualities, FLOOR: (scores, scores)}
    curves = {name: error_versus_discard(scores, *both, threshold) for name, both in of.items()}
    return {
        "pairs": len(scores),
        "people": len(set(people)),
        "starting_error": curves[FLOOR].starting_error,
        "curves": {name: _thinned(curve) for name, curve in curves.items()},
        "areas": _areas(scores, of, np.array(people), threshold, against, seed),
    }


def _thinned(curve: DiscardCurve) -> list[list[float]]:
    """Some 200 points at most up to twice the greatest limit, for the figure."""
    shown = curve.discarded <= 2 * max(LIMITS)
    step = max(1, int(shown.sum()) // 200)
    both = (curve.discarded, curve.errors)
    thinned: list[list[float]] = rounded([values[shown][::step].tolist() for values in both])
    return thinned


def _areas(
    scores: Tensor,
    qualities: Mapping[str, tuple[Tensor, Tensor]],
    people: NDArray[np.str_],
    threshold: float,
    against: str,
    seed: int,
) -> dict[str, dict[str, Any]] | None:
    """Relative areas with bootstrap intervals over people, and paired differences."""
    if not bool((scores < threshold).any()):
        return None
    times = _times_drawn(scores, people, threshold, seed)
    wrong = scores.numpy() < threshold
    values = {
        name: _relative_areas(torch.minimum(*both).numpy(), wrong, times)
        for name, both in qualities.items()
    }
    found: dict[str, dict[str, Any]] = {name: {} for name in values}
    for k, limit in enumerate(LIMITS):
        gaps = {n: v[:, k] - values[against][:, k] for n, v in values.items() if n != against}
        corrected = dict(zip(gaps, holm([_p(gap[1:]) for gap in gaps.values()]), strict=True))
        for name, own in values.items():
            cell: dict[str, Any] = {"area": _with_interval(own[:, k])}
            if name in gaps:
                cell["difference"] = _with_interval(gaps[name])
                cell["p_holm"] = corrected[name]
            found[name][f"{limit:g}"] = cell
    return found


def _times_drawn(
    scores: Tensor, people: NDArray[np.str_], threshold: float, seed: int
) -> NDArray[np.float64]:
    """How often each pair is in the sample itself, once, and in its resamples, (1 + r, n).

    People are drawn with replacement; resamples without any error are drawn again.
    """
    rows_of = [np.flatnonzero(people == person) for person in dict.fromkeys(people.tolist())]
    generator = np.random.default_rng(seed)
    found = [np.ones(len(scores))]
    while len(found) < 1 + _RESAMPLES:
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        rows = np.concatenate([rows_of[i] for i in drawn])
        if bool((scores[rows] < threshold).any()):
            found.append(np.bincount(rows, minlength=len(scores)).astype(float))
    return np.stack(found)


def _relative_areas(
    quality: NDArray[np.float64], wrong: NDArray[np.bool_], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Areas over those of a quality that knows nothing, of each sample up to each limit.

    As of :func:`~captum_plq.metrics.partial_area` on the pairs of a sample, each as often as it was
    drawn, but for all samples at once.
    """
    order = np.argsort(quality, kind="stable")
    first = np.flatnonzero(np.diff(quality[order], prepend=-np.inf) > 0)  # of each quality

    def before(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sums of what has a lower quality, for each quality, and of all."""
        sums = np.cumsum(counts[:, order], 1)
        return np.pad(sums, ((0, 0), (1, 0)))[:, [*first, len(order)]]

    gone, wrong_gone = before(times), before(times * wrong)
    all_, wrong_all = gone[:, -1:], wrong_gone[:, -1:]
    left = np.maximum(all_ - gone[:, :-1], 1)  # where none are left, the step has no width
    errors = (wrong_all - wrong_gone[:, :-1]) / left
    starting = (wrong_all / all_)[:, 0]
    areas = []
    for limit in LIMITS:
        widths = np.diff(np.minimum(gone / all_, limit), axis=1)
        areas.append((widths * errors).sum(1) / (limit * starting))
    return np.stack(areas, 1)


def _p(gaps: NDArray[np.float64]) -> float:
    """Two-sided, of the bootstrap; no less than its resolution. NaN would count as neither side."""
    if not np.isfinite(gaps).all():
        raise ValueError("Areas must be finite, but some are NaN or infinite.")
    one_sided = min((gaps <= 0).mean(), (gaps >= 0).mean())
    return float(min(1.0, max(2 * one_sided, 1 / len(gaps))))


def _with_interval(values: NDArray[np.float64]) -> list[float]:
    """The value of the sample, and the percentile interval of its resamples, 95 %."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return [float(f"{x:.5g}") for x in (values[0], low, high)]
