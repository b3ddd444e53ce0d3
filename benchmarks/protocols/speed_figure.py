"""The speed figure: one panel of bars per result."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from benchmarks.protocols.speed_results import SpeedResult

__all__ = ["speed_figure"]

_COLOURS = {"plq": "#1a7f37", "other": "#5b8db8", "reference": "#c9822b", "control": "#a0a0a0"}
_LABELS = {
    "plq": "this package",
    "other": "other methods",
    "reference": "PLQ and SER-FIQ, naively",
    "control": "Saliency (control)",
}
_COLUMNS = 3


def speed_figure(results: Sequence[SpeedResult]) -> Figure:
    """Time ratios to Saliency on a logarithmic axis, medians with their quartiles.

    Args:

        results (sequence of SpeedResult): At least one; a panel each.

    Returns:
        *Figure*: its caption names the conditions; not known to pyplot.
    """
    columns = min(_COLUMNS, len(results))
    rows = math.ceil(len(results) / columns)
    most = max(len(result.methods) for result in results)
    caption = "\n".join(textwrap.fill(line, 80 * columns) for line in _conditions(results))
    lines = caption.count("\n") + 1
    height = rows * (0.9 + 0.24 * most) + 0.15 * lines + 0.7
    figure = Figure(figsize=(5.6 * columns, height), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, result in zip(panels, results, strict=False):
        _draw(panel, result, most)
    for panel in panels[len(results) :]:
        panel.set_axis_off()
    handles = [Patch(color=colour, label=_LABELS[kind]) for kind, colour in _COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2 * columns, fontsize=7)
    figure.supxlabel(caption, fontsize=7, x=0.01, ha="left")
    return figure


def _conditions(results: Sequence[SpeedResult]) -> list[str]:
    """Each set of conditions once, and when they were measured."""
    dates = sorted(result.conditions.date for result in results)
    lines = dict.fromkeys(result.conditions.line() for result in results)
    return [*lines, f"Measured {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else "")]


def _draw(axes: Axes, result: SpeedResult, most: int) -> None:
    shown = [(m, m.ratio) for m in reversed(result.methods) if m.ratio and m.reason is None]
    for place, (m, ratio) in enumerate(shown):
        axes.barh(place, ratio.median, color=_COLOURS[m.kind], left=0)
        axes.plot([ratio.low, ratio.high], [place, place], color="black", linewidth=1)
        axes.text(ratio.high * 1.05, place, f"{ratio.median:.3g}", va="center", fontsize=7)
    axes.set_ylim(len(shown) - most - 0.5, len(shown) - 0.5)  # bars of one width everywhere
    axes.set_yticks(range(len(shown)), [m.name for m, _ in shown], fontsize=8)
    axes.set_xscale("log")
    largest = max((ratio.high for _, ratio in shown), default=1.0)
    axes.set_xlim(0.3, 2 * max(largest, 1.0))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set_xlabel("time ÷ Saliency, median and quartiles", fontsize=8)
    void = " — VOID" if result.void else ""
    axes.set_title(f"{result.title}{void}", fontsize=9)
