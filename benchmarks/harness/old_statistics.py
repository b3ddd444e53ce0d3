"""Means and comparisons over images: all rows of an image stay together, as one observation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "Estimate", "compare", "holm", "over_images", "per_image_means"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over images.

    Args:

        mean (float): Of the images' own means.
        low (float or None), high (float or None): Percentile bootstrap interval of it, 95 %,
            images drawn with replacement; ``None`` for a single image.
        positive (float): Share of the rows whose value is above 0.
        images (int), rows (int): How many.
    """

    mean: float
    low: float | None
    high: float | None
    positive: float
    images: int
    rows: int


@dataclass(frozen=True)
class Comparison:
    """One method against another on the same images and conditions.

    Args:

        difference (float): Mean over images of the method's per-image mean less the other's.
        low (float or None), high (float or None): Paired bootstrap interval, 95 %.
        p (float): Of the two-sided Wilcoxon signed-rank test on the per-image means; 1 where
            all of them are equal.
        p_holm (float): The same, corrected after Holm for all comparisons made together.
        images (int): How many are common to both.
    """

    difference: float
    low: float | None
    high: float | None
    p: float
    p_holm: float
    images: int


def per_image_means(values: Sequence[float], images: Sequence[str]) -> dict[str, float]:
    """The mean of each image's rows, in the order in which the images first occur.

    Raises:
        ValueError: if a value is not finite.
    """
    _check_finite(values)
    rows: dict[str, list[float]] = {}
    for value, image in zip(values, images, strict=True):
        rows.setdefault(image, []).append(value)
    return {image: float(np.mean(own)) for image, own in rows.items()}


def over_images(values: Sequence[float], images: Sequence[str], *, seed: int = 0) -> Estimate:
    """Mean over images with its bootstrap interval, and the share of rows above 0.

    Args:

        values (sequence of float): One per row, at least one.
        images (sequence of str): The image of each row.
        seed (int): Of the bootstrap.

    Returns:
        *Estimate*

    Raises:
        ValueError: if there are no rows, or a value is not finite.
    """
    _check(values)
    means = np.array(list(per_image_means(values, images).values()))
    low, high = _interval(means, seed)
    positive = float(np.mean(np.asarray(values) > 0))
    return Estimate(float(means.mean()), low, high, positive, len(means), len(values))


def compare(
    values: dict[str, dict[Hashable, float]],
    image_of: dict[Hashable, str],
    reference: str,
    *,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Every method against a named one, in pairs.

    Args:

        values (dict): Method → row → value. A row is whatever names image and condition; only
            rows that both methods have count.
        image_of (dict): Row → its image.
        reference (str): The method that all others are compared with.
        seed (int): Of the bootstrap.

    Returns:
        *dict[str, Comparison]*: of all methods but ``reference`` that share rows with it.

    Raises:
        ValueError: if there is no such method, or a value is not finite.
    """
    from scipy.stats import wilcoxon

    if reference not in values:
        raise ValueError(f"There is no {reference!r} to compare with among {', '.join(values)}.")
    found: dict[str, tuple[NDArray[np.float64], float]] = {}
    for name, own in values.items():
        common = [row for row in own if row in values[reference]]
        if name == reference or not common:
            continue
        gaps = [own[row] - values[reference][row] for row in common]
        _check(gaps)
        differences = per_image_means(gaps, [image_of[row] for row in common])
        d = np.array(list(differences.values()))
        found[name] = d, float(wilcoxon(d).pvalue) if d.any() else 1.0
    corrected = holm([p for _, p in found.values()])
    return {
        name: Comparison(float(d.mean()), *_interval(d, seed), p, adjusted, len(d))
        for (name, (d, p)), adjusted in zip(found.items(), corrected, strict=True)
    }


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scand. J. Statist. 6, 1979) of p-values made together.

    Raises:
        ValueError: if a p-value is not in [0, 1], e.g. NaN.

    Examples::

        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    if wrong := [value for value in p if not 0 <= value <= 1]:
        raise ValueError(f"A p-value lies in [0, 1], but {len(wrong)} of {len(p)} are {wrong}.")
    adjusted, highest = [0.0] * len(p), 0.0
    for turn, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - turn) * p[i]))
        adjusted[i] = highest
    return adjusted


def _interval(means: NDArray[np.float64], seed: int) -> tuple[float | None, float | None]:
    if len(means) < 2:
        return None, None
    if np.ptp(means) == 0:
        return float(means[0]), float(means[0])
    from scipy.stats import bootstrap

    interval = bootstrap(
        (means,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _check(values: Sequence[float]) -> None:
    if not len(values):
        raise ValueError("There are no rows to take a mean of.")
    _check_finite(values)


def _check_finite(values: Sequence[float]) -> None:
    wrong = len(values) - int(np.isfinite(values).sum())
    if wrong:
        raise ValueError(
            f"Values must be finite, but {wrong} of {len(values)} are NaN or infinite: leave these "
            "out, and say how many they are."
        )
