"""From the rows of a study to the numbers that are kept: DIR/PROTOCOL-MODEL.json."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.harness.old_statistics import Comparison, Estimate, compare, over_images
from benchmarks.harness.old_study import Study
from benchmarks.subjects.methods import Method

__all__ = ["ALL", "summarise"]

ALL = "all"
"""The name under which a table holds all conditions together."""


def summarise(
    study: Study,
    methods: Sequence[Method],
    metrics: Sequence[str],
    by: Sequence[str],
    *,
    compared: Sequence[str] = (),
    against: str = "plq",
    seed: int = 0,
) -> dict[str, Any]:
    """Means over images of every metric, and every method against a named one.

    Args:

        study (Study): The run.
        methods (sequence of Method): Those of the run.
        metrics (sequence of str): Numbers of its rows.
        by (sequence of str): The conditions of its rows, e.g. size and fill. Means are over all
            rows, and over those with each value of each condition.
        compared (sequence of str): Metrics that methods are compared in.
        against (str): With which one; if it is not in the run, nothing is compared.
        seed (int): Of the bootstraps.

    Returns:
        *dict*: ready for JSON: header, ``"estimates"``: metric → method →
        ``"all"`` or ``"fill=black"`` and the like →
        :class:`~x.Estimate` (and ``"undefined"``, the number of rows
        that it leaves out, if any),
        means with intervals,
    """
    estimates: dict[str, dict[str, dict[str, Any]]] = {metric: {} for metric in metrics}
    for method in methods:
        own = [row for row in study.rows if row["method"] == method.name]
        groups: dict[str, list[dict[str, Any]]] = {ALL: own} if own else {}
        for row in own:
            for condition in by:
                groups.setdefault(f"{condition}={row[condition]}", []).append(row)
        for metric in metrics:
            cells = {name: _estimate(rows, metric, seed) for name, rows in groups.items()}
            if found := {name: cell for name, cell in cells.items() if cell is not None}:
                estimates[metric][method.name] = found
    return {
        **study.header,
        "sessions": study.sessions,
        "methods": {
            m.name: {"kind": m.kind, "description": m.description, "slow": m.slow} for m in methods
        },
        "failed": study.failed,
        "against": against,
        "estimates": estimates,
        "comparisons": {
            metric: _comparisons(study, metric, by, against, seed) for metric in compared
        },
    }


def _estimate(rows: list[dict[str, Any]], metric: str, seed: int) -> dict[str, Any] | None:
    """Over the rows that have the number; ``"undefined"``: in how many it does not exist."""
    asked = [row for row in rows if metric in row]
    kept = [row for row in asked if row[metric] is not None]
    if not kept:
        return None
    estimate = over_images([r[metric] for r in kept], [r["image"] for r in kept], seed=seed)
    undefined = len(asked) - len(kept)
    return _rounded(estimate) | ({"undefined": undefined} if undefined else {})


def _comparisons(
    study: Study, metric: str, by: Sequence[str], against: str, seed: int
) -> dict[str, Any]:
    values: dict[str, dict[Hashable, float]] = {}
    image_of: dict[Hashable, str] = {}
    for row in study.rows:
        if row.get(metric) is not None:
            key = (row["image"], *(row[condition] for condition in by))
            image_of[key] = row["image"]
            values.setdefault(row["method"], {})[key] = row[metric]
    if against not in values:
        return {}
    found = compare(values, image_of, against, seed=seed)
    return {name: _rounded(comparison) for name, comparison in found.items()}


def _rounded(result: Estimate | Comparison) -> dict[str, Any]:
    """Five digits are far below any of the intervals."""
    return {
        key: float(f"{value:.5g}") if isinstance(value, float) else value
        for key, value in asdict(result).items()
    }
