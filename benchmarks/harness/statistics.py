"""Means and comparisons over images: all rows of an image stay together, as one observation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALL = "all"
"""The group of all rows, under whatever conditions."""

Row = dict[str, Any]
"""Numbers of one image, one method and one condition; ``image`` and ``method`` name the first
two, ``network`` the number of its random weights, if it has such. A number that does not
exist, e.g. as it would be NaN, is ``None``; one that the condition does not ask for is not in the
row."""

_RESAMPLES = 2000


def over_images(
    values: Sequence[float], images: Sequence[Hashable], *, seed: int = 0
) -> dict[str, Any]:
    """Return the mean over images with its bootstrap interval, and the share of rows above 0.

    Args:

        values (sequence of float): One per row, at least one.
        images (sequence of str): The image of each row.
        seed (int): Of the bootstrap.

    Returns:
        *dict*: ``"mean"`` of the images' own means; ``"low"`` and ``"high"`` of its percentile
        bootstrap interval, 95 %, images drawn with replacement (``None`` for a single image);
        ``"positive"``: the share of the rows above 0; and how many ``"images"`` and ``"rows"``.

    Raises:
        ValueError: if there are no rows, or a value is not finite.
    """
    means = _per_image_means(values, images)
    return {
        "mean": float(means.mean()),
        **_interval(means, seed),
        "positive": float(np.mean(np.asarray(values) > 0)),
        "images": len(means),
        "rows": len(values),
    }


def by_network(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows of one method by the random weights that they are of; all of them if of none."""
    found: dict[int, list[Row]] = {}
    for row in rows:
        found.setdefault(row.get("network", 0), []).append(row)
    return [found[number] for number in sorted(found)]


def over_networks(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of estimates, one per network with random weights, and their range.

    Args:

        cells (sequence of dict): Each with at least ``"mean"``, ``"images"`` and ``"rows"``.

    Returns:
        *dict*: of a single one: itself. Otherwise ``"mean"`` of theirs; ``"low"`` and ``"high"``,
        the lowest and the highest of theirs; ``"networks"``, all of them; the smallest number of
        ``"images"``, all ``"rows"``, and the mean of ``"positive"``, if there.
    """
    if len(cells) == 1:
        return cells[0]
    means = [cell["mean"] for cell in cells]
    found = {key: float(np.mean([c[key] for c in cells])) for key in cells[0] if key == "positive"}
    return {
        "mean": float(np.mean(means)),
        "low": min(means),
        "high": max(means),
        **found,
        "images": min(cell["images"] for cell in cells),
        "rows": sum(cell["rows"] for cell in cells),
        "networks": means,
    }


def compare(
    values: Mapping[str, Mapping[tuple[Hashable, ...], float]],
    reference: str,
    *,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Compare every method with a named one, in pairs.

    Args:

        values (mapping): Method → row → value. A row is named by its image and its conditions;
            only rows that both methods have count.
        reference (str): The method that all others are compared with.
        seed (int): Of the bootstrap.

    Returns:
        *dict*: of all methods but ``reference`` that share rows with it: ``"difference"``, the
        mean over images of the method's per-image mean less the other's; ``"low"`` and ``"high"``
        of its paired bootstrap interval; ``"p"`` of the two-sided Wilcoxon signed-rank test on the
        per-image means (1 where all of them are equal); ``"p_holm"``, corrected after Holm for
        all comparisons made together; and the number of common ``"images"``.

    Raises:
        ValueError: if there is no such method, or a value is not finite.
    """
    from scipy.stats import wilcoxon

    if reference not in values:
        raise ValueError(f"There is no {reference!r} to compare with among {', '.join(values)}.")
    found: dict[str, dict[str, Any]] = {}
    for name, own in values.items():
        common = [row for row in own if row in values[reference]]
        if name != reference and common:
            gaps = [own[row] - values[reference][row] for row in common]
            means = _per_image_means(gaps, [row[0] for row in common])
            found[name] = {
                "difference": float(means.mean()),
                **_interval(means, seed),
                "p": float(wilcoxon(means).pvalue) if means.any() else 1.0,
                "images": len(means),
            }
    for cell, p in zip(found.values(), holm([x["p"] for x in found.values()]), strict=True):
        cell["p_holm"] = p
    return found


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values made together by Holm's step-down method (Scand. J. Statist. 6, 1979).

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


def summarise(
    rows: Sequence[Row],
    methods: Sequence[str],
    metrics: Sequence[str],
    conditions: Sequence[str],
    *,
    compared: Sequence[str] = (),
    against: str = "plq",
    seed: int = 0,
) -> dict[str, Any]:
    """Return means over images of every metric, and every method against a named one.

    Args:

        rows (sequence of dict): Of a study.
        methods (sequence of str): Those that may have rows, in order.
        metrics (sequence of str): Their numbers.
        conditions (sequence of str): E.g. size and fill. Means are over all rows, and over those
            with each value of each condition.
        compared (sequence of str): Metrics that methods are compared in.
        against (str): With which one; if it has no rows, nothing is compared.
        seed (int): Of the bootstraps.

    Returns:
        *dict*: ``"estimates"``: metric → method → ``"all"`` or ``"fill=black"`` and the like → as
        of :func:`over_images` (and ``"undefined"``, the number of rows that it leaves out, if
        any), for rows of several random networks as of :func:`over_networks`, and
        ``"comparisons"``: metric → method → as of :func:`compare`.
    """
    groups: dict[str, dict[str, list[Row]]] = {method: {} for method in methods}
    for row in rows:
        for name in (ALL, *(f"{condition}={row[condition]}" for condition in conditions)):
            groups[row["method"]].setdefault(name, []).append(row)
    estimates: dict[str, dict[str, Any]] = {metric: {} for metric in metrics}
    for metric, found in estimates.items():
        for method, of in groups.items():
            cells = {name: _estimate(own, metric, seed) for name, own in of.items()}
            if cells := {name: cell for name, cell in cells.items() if cell}:
                found[method] = cells
    comparisons: dict[str, Any] = {}
    for metric in compared:
        found_by: dict[str, dict[tuple[Hashable, ...], list[float]]] = {}
        for row in rows:
            if row.get(metric) is not None:
                key = (row["image"], *(row[condition] for condition in conditions))
                found_by.setdefault(row["method"], {}).setdefault(key, []).append(row[metric])
        values = {
            method: {key: float(np.mean(own)) for key, own in of.items()}
            for method, of in found_by.items()
        }
        against_it = compare(values, against, seed=seed) if against in values else {}
        comparisons[metric] = rounded(against_it)
    return {"against": against, "estimates": estimates, "comparisons": comparisons}


def grouped(rows: Sequence[Row], first: str, second: str) -> dict[str, dict[str, list[Row]]]:
    """Return rows by the values of two of their keys, e.g. imputer → method → rows."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault(row[first], {}).setdefault(row[second], []).append(row)
    return found


def rounded(value: Any, digits: int = 5) -> Any:
    """Round all numbers in lists and mappings: five digits are far below any of the intervals."""
    if isinstance(value, dict):
        return {key: rounded(own, digits) for key, own in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [rounded(own, digits) for own in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def _estimate(rows: Sequence[Row], metric: str, seed: int) -> dict[str, Any]:
    """Over the rows that have the number; ``"undefined"``: in how many it does not exist."""
    asked = [row for row in rows if metric in row]
    kept = [row for row in asked if row[metric] is not None]
    if not kept:
        return {}
    found = over_networks([
        over_images([r[metric] for r in own], [r["image"] for r in own], seed=seed)
        for own in by_network(kept)
    ])  # fmt: skip
    undefined = len(asked) - len(kept)
    return {**rounded(found), **({"undefined": undefined} if undefined else {})}


def _per_image_means(values: Sequence[float], images: Sequence[Hashable]) -> NDArray[np.float64]:
    """The mean of each image's rows, in the order in which the images first occur."""
    if not len(values):
        raise ValueError("There are no rows to take a mean of.")
    if wrong := len(values) - int(np.isfinite(values).sum()):
        raise ValueError(
            f"Values must be finite, but {wrong} of {len(values)} are NaN or infinite: leave these "
            "out, and say how many they are."
        )
    rows: dict[Hashable, list[float]] = {}
    for value, image in zip(values, images, strict=True):
        rows.setdefault(image, []).append(value)
    return np.array([np.mean(own) for own in rows.values()])


def _interval(means: NDArray[np.float64], seed: int) -> dict[str, float | None]:
    if len(means) < 2:
        return {"low": None, "high": None}
    if np.ptp(means) == 0:
        return {"low": float(means[0]), "high": float(means[0])}
    from scipy.stats import bootstrap

    interval = bootstrap(
        (means,),
        np.mean,
        n_resamples=_RESAMPLES,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return {"low": float(interval.low), "high": float(interval.high)}
