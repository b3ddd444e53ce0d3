"""Two curves per method, best and worst pixels first: a row per network, a panel per imputer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.old_study_report import line_styles

__all__ = ["Panel", "curve_panels"]

Record = dict[str, Any]
Panel = Callable[[Record, Any], tuple[Sequence[float], Sequence[float]]]
"""A summary and what it holds of a method → its curves, best first and worst first."""


def curve_panels(
    records: Sequence[Record],
    curves: Panel,
    measured: Callable[[Record], str],
    *,
    width: float,
    unit: str,
) -> Figure:
    """Mean curves of all methods but those on random weights: best first thick, worst first thin.

    Args:

        records (sequence of dict): Summaries with ``"curves"``: imputer → method; at least one.
        curves (Callable): see :data:`Panel`.
        measured (Callable): A summary → what its curves show.
        width (float): Of a panel, in inches.
        unit (str): What ``"evaluated"`` counts, e.g. faces.

    Returns:
        *Figure*: not known to pyplot.
    """
    columns = max(len(record["curves"]) for record in records)
    figure = Figure(figsize=(width * columns + 2, 3.6 * len(records)), layout="constrained")
    panels = figure.subplots(len(records), columns, squeeze=False)
    for row, record in zip(panels, records, strict=True):
        for axes in row[len(record["curves"]) :]:
            axes.axis("off")
        for axes, (imputer, of) in zip(row, record["curves"].items(), strict=False):
            for name, style in line_styles(record, list(of)).items():
                best, worst = curves(record, of[name])
                share = np.linspace(0, 100, len(best))
                axes.plot(share, best, linewidth=1.6, label=name, **style)
                axes.plot(share, worst, linewidth=0.7, **style)
            axes.set_title(
                f"{record['model']}, {imputer}, {record['faces']['evaluated']} {unit}", fontsize=9
            )
            axes.set_xlabel("pixels removed, %; thick: best first, thin: worst first", fontsize=8)
            axes.set_ylabel(measured(record), fontsize=8)
            axes.tick_params(labelsize=7)
        row[len(record["curves"]) - 1].legend(
            fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    warnings = sorted({r["faces"]["warning"] for r in records if r["faces"]["warning"]})
    if warnings:
        figure.supxlabel(" ".join(warnings), fontsize=7)
    return figure
