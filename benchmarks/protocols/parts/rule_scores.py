"""How often rules name the right cause, and limits that do it best on some people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.protocols.parts.drawn_causes import CAUSES, CLEAN
from captum_plq.feedback.rules import Rule

__all__ = ["NOTHING", "confusion", "f1_scores", "fitted", "named_causes", "scores"]

NOTHING = CAUSES[CLEAN]

Columns = Mapping[str, NDArray[np.float64]]
"""Quantity of the rules → (n,), of n images."""

_RESAMPLES = 2000
_CANDIDATES = 32
_CLEAN_SHARE = 0.975
"""Of clean faces that limits must leave alone on the people that they are set on: more than the
95 % asked for, as other people differ."""

_PRICES = (1.0, 3.0, 10.0)
"""Of a clean face that is not left alone, in macro F1, one for each time over. A high price from
the start would be paid with the first limit that is set, whichever that is."""


def named_causes(columns: Columns, rules: Sequence[Rule]) -> NDArray[np.str_]:
    """Return the first cause that rules see in each image, or that there is nothing to correct.

    The last of the rules, which says that no cause was found, comes last here too.
    """
    count = len(next(iter(columns.values())))
    named = np.full(count, NOTHING, dtype="U40")
    for rule in reversed(rules):
        named[rule.holds(columns)] = rule.cause
    return named


def confusion(
    named: NDArray[np.str_], drawn: NDArray[np.str_], people: NDArray[Any]
) -> tuple[NDArray[np.int64], list[str]]:
    """Count what is named by what was drawn, for each person.

    Returns:
        *tuple[ndarray, list[str]]*: (people, 9, columns), and the columns: the right answers, in
        the order of :data:`CAUSES`, and whatever else was named.
    """
    right = list(CAUSES.values())
    heads = right + sorted(set(named.tolist()) - set(right))
    _, who = np.unique(people, return_inverse=True)
    counts = np.zeros((who.max() + 1, len(CAUSES), len(heads)), dtype=np.int64)
    kinds = list(CAUSES)
    rows = np.array([kinds.index(kind) for kind in drawn.tolist()])
    columns = np.array([heads.index(cause) for cause in named.tolist()])
    np.add.at(counts, (who, rows, columns), 1)
    return counts, heads


def f1_scores(counts: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """Return precision, recall and F1 of each drawn cause, (..., 9) each, 0 where undefined."""
    number = counts.shape[-2]
    hits = np.diagonal(counts[..., :number], axis1=-2, axis2=-1).astype(np.float64)
    said, there = counts[..., :number].sum(-2), counts.sum(-1)
    precision = hits / np.maximum(said, 1)
    recall = hits / np.maximum(there, 1)
    return precision, recall, 2 * hits / np.maximum(said + there, 1)


def scores(
    named: NDArray[np.str_], drawn: NDArray[np.str_], people: NDArray[Any], seed: int = 0
) -> dict[str, Any]:
    """Return what is right, cause by cause and over all, with 95 % intervals over people.

    Args:

        named (ndarray): (n,), of :func:`named_causes`.
        drawn (ndarray): (n,), keys of :data:`CAUSES`.
        people (ndarray): (n,), whose faces they are.
        seed (int): Of the resampling of people.

    Returns:
        *dict*: ready for JSON: ``macro_f1`` and ``clean``, the share of clean faces with nothing to
        correct, each with ``mean``, ``low`` and ``high``; ``causes``, each with ``precision``,
        ``recall`` and ``f1``; ``confusion`` with its ``heads``.
    """
    counts, heads = confusion(named, drawn, people)
    total = counts.sum(0)
    precision, recall, f1 = f1_scores(total)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES)
    again = np.einsum("rp,pkc->rkc", weights, counts)
    _, recalls, f1s = f1_scores(again)
    where = list(CAUSES).index(CLEAN)
    return {
        "macro_f1": _with_interval(float(f1.mean()), f1s.mean(-1)),
        "clean": _with_interval(float(recall[where]), recalls[:, where]),
        "causes": {
            kind: {"precision": float(p), "recall": float(r), "f1": float(f)}
            for kind, p, r, f in zip(CAUSES, precision, recall, f1, strict=True)
        },
        "heads": heads,
        "confusion": total.tolist(),
    }


def fitted(columns: Columns, drawn: NDArray[np.str_], rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return rules with limits on regions that name most causes, set one after the other.

    Each limit in turn takes the value, of the quantiles of its number, at which macro F1 is
    highest, less a price for the clean faces with something to correct beyond 2.5 % of them. Three
    times over, and the price rises each time.
    Limits on measures of the whole image are left as they are.

    Args:

        columns (Mapping): Of the images that limits are set on.
        drawn (ndarray): (n,), keys of :data:`CAUSES`.
        rules (sequence of Rule): Where to begin.
    """
    best = tuple(rules)
    for price in _PRICES:
        reached = _worth(columns, drawn, best, price)
        for i, rule in enumerate(rules):
            if not rule.group:
                continue
            for j, condition in enumerate(rule.when):
                for limit in _candidates(columns[condition.quantity]):
                    tried = _with_limit(best, i, j, limit)
                    worth = _worth(columns, drawn, tried, price)
                    if worth > reached:
                        best, reached = tried, worth
    return best


def _worth(columns: Columns, drawn: NDArray[np.str_], rules: Sequence[Rule], price: float) -> float:
    named = named_causes(columns, rules)
    right = np.array([
        [np.count_nonzero((drawn == kind) & (named == cause)) for kind, cause in CAUSES.items()],
        [np.count_nonzero(drawn == kind) for kind in CAUSES],
        [np.count_nonzero(named == cause) for cause in CAUSES.values()],
    ])  # fmt: skip
    hits, there, said = right
    clean = hits[list(CAUSES).index(CLEAN)] / max(there[list(CAUSES).index(CLEAN)], 1)
    f1 = 2 * hits / np.maximum(there + said, 1)
    return float(f1.mean()) + price * min(0.0, float(clean) - _CLEAN_SHARE)


def _candidates(values: NDArray[np.float64]) -> list[float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return []
    found = np.quantile(known, np.linspace(0.01, 0.99, _CANDIDATES))
    return sorted({float(f"{x:.2g}") for x in found if x > 0})


def _with_limit(rules: tuple[Rule, ...], i: int, j: int, limit: float) -> tuple[Rule, ...]:
    when = list(rules[i].when)
    when[j] = replace(when[j], limit=limit)
    return (*rules[:i], replace(rules[i], when=tuple(when)), *rules[i + 1 :])


def _with_interval(value: float, drawn: NDArray[np.float64]) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"mean": value, "low": float(low), "high": float(high)}
