"""Predicted failure rates against observed ones, in bins of quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta
from torch import Tensor

from benchmarks.harness.pages import table
from captum_plq.metrics.failure import FailureCurve, independent_pairs

BINS = 8

CALLED = (
    ("failures", "failures", ".1%"),
    ("met", "bins met", ".0%"),
    ("strictly", "strictly", ".0%"),
    ("error", "error", ".3f"),
    ("brier", "Brier", ".0%"),
)
"""Key of :func:`summary`, its head, and how it is written."""


def binned(
    curve: FailureCurve, wrong: Tensor, quality: Tensor, people: Sequence[str]
) -> list[dict[str, Any]]:
    """Return predicted and observed rates in bins of equally many pairs, by quality.

    Args:

        curve (FailureCurve): What predicts.
        wrong (Tensor): (n,), bool: the pairs that fail.
        quality (Tensor): (n,), of the pairs.
        people (sequence of str): n, whom each is of.

    Returns:
        *list[dict]*: ``low`` and ``high`` quality, ``pairs``, ``predicted`` and ``observed`` with
        their intervals, and the sum of squared errors of the prediction pair by pair, ``squares``.
    """
    order = np.argsort(quality.numpy(), kind="stable")
    of = np.unique(people, return_inverse=True)[1]
    bins = []
    for rows in np.array_split(order, BINS):
        q, failed = quality.numpy()[rows], wrong.numpy()[rows].astype(float)
        predicted = curve.at(q)
        n, share = independent_pairs(failed, of[rows]), float(failed.mean())
        k = share * n
        low = float(beta.ppf(0.025, k, n - k + 1)) if k > 0 else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        bins.append(
            {
                "low": float(q[0]),
                "high": float(q[-1]),
                "pairs": len(rows),
                "predicted": [float(values.mean()) for values in predicted],
                "observed": [share, low, high],
                "squares": float(((predicted[0] - failed) ** 2).sum()),
            }
        )
    return bins


def summary(bins: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return which share of all pairs fails, and how well the bins are predicted.

    Args:

        bins (sequence of dict): Of :func:`binned`.

    Returns:
        *dict*: ``failures``; ``met``, the share of bins whose intervals overlap; ``strictly``,
        those whose prediction lies within the observed interval; ``error``, the mean distance;
        ``brier``, the mean squared error pair by pair over that of the constant rate.
    """
    pairs = np.array([x["pairs"] for x in bins])
    predicted, observed = (np.array([x[key] for x in bins]).T for key in ("predicted", "observed"))
    rate = float((observed[0] * pairs).sum() / pairs.sum())
    squares = sum(x["squares"] for x in bins)
    return {
        "failures": rate,
        "met": float(((predicted[1] <= observed[2]) & (observed[1] <= predicted[2])).mean()),
        "strictly": float(((predicted[0] >= observed[1]) & (predicted[0] <= observed[2])).mean()),
        "error": float((abs(predicted[0] - observed[0]) * pairs).sum() / pairs.sum()),
        "brier": float(squares / (pairs.sum() * rate * (1 - rate))) if 0 < rate < 1 else 0.0,
    }


def rate_tables(at: Mapping[str, Any]) -> list[str]:
    """Return the lines of the page for one false match rate of a record."""
    mixes = at["mixes"]
    bins = [
        [f"{x['low']:.3f}–{x['high']:.3f}", str(x["pairs"])]
        + [_share(x[key]) for key in ("predicted", "observed")]
        for x in mixes["graded"]["serfiq"]["bins"]
    ]
    rows = [
        [mix, name, *(format(own[key], form) for key, _, form in CALLED)]
        for mix, scores in mixes.items()
        for name, own in scores.items()
    ]
    reached = [
        [
            f"{x['rate']:.0%}",
            *("none" if x[key] is None else f"{x[key]:.3f}" for key in ("quality", "low", "high")),
            f"{x['kept']:.0%}",
            "" if x["observed"] is None else f"{x['observed']:.1%}",
        ]
        for x in at["reached"]
    ]
    least = ["failures at most", "from Q", "low", "high", "pairs kept", "failures of these"]
    return [
        f"### FMR {at['fmr']:g}",
        "",
        f"A match from a cosine of {at['threshold']:.3f} on; on the people reported on this is an "
        f'FMR of {at["fmr_reported"]:.2g}. The mix "graded":',
        "",
        *table(["Q", "pairs", "predicted", "observed"], bins),
        "",
        *table(["mix", "score", *(head for _, head, _ in CALLED)], rows, 2),
        "",
        *table(least, reached),
        "",
    ]


def _share(value: Sequence[float]) -> str:
    share, low, high = value
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"
