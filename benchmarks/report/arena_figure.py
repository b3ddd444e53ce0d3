"""The figure over all quality scores: areas with intervals, and AUROC by degradation."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.figures import label
from benchmarks.harness.protocol import Record
from benchmarks.report.arena import ALL_CONTROLS, FMR, LIMIT, SETS, Arena, areas_of, arena, page

PAGE, PICTURE = "scores.md", "scores.png"
_MARKERS = "os^Dv"


def arena_figure(own: Arena) -> Figure:
    """Return a row of areas, a panel a network, and below it a row of AUROC.

    Args:

        own (Arena): What is known of the scores.
    """
    rows = [row for row in (own.edc, own.suitability) if row]
    columns, names = max(map(len, rows)), own.names()
    size = (3.5 * columns + 1.6, (0.27 * len(names) + 1.2) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False, sharey=True)
    for row, records in zip(panels, rows, strict=True):
        for axes in row[len(records) :]:
            axes.axis("off")
        for axes, (model, record) in zip(row, records.items(), strict=False):
            (_areas if records is own.edc else _aurocs)(axes, model, record, names)
            axes.grid(axis="y", color="0.92")
            axes.legend(fontsize=6, loc="best")
    panels[0][0].set_yticks(range(len(names)), names)
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _areas(axes: Axes, model: str, record: Record, names: list[str]) -> None:
    axes.axvline(1, color="0.5", linestyle=":", linewidth=1)
    for k, kind in enumerate(SETS):
        areas, told = areas_of(record, kind) or {}, False
        for i, name in enumerate(names):
            if name not in areas:
                continue
            value, low, high = areas[name][LIMIT]["area"]
            y, colour = i + 0.3 * (k - 0.5), "0.55" if name in ALL_CONTROLS else f"C{k}"
            axes.plot([low, high], [y, y], color=colour, linewidth=1)
            shown = None if told or name in ALL_CONTROLS else kind
            axes.plot(value, y, _MARKERS[k], color=colour, markersize=4, label=shown)
            told = told or shown is not None
    measured = areas_of(record, SETS[-1]) or {}
    for i, name in enumerate(names):
        if name not in measured:
            why = "not on this network" if name in record["failed"] else "not measured"
            axes.text(0.02, i, why, fontsize=6, color="0.5", va="center",
                      transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_xlim(0, 1.25)
    x = f"area to {float(LIMIT):.0%} discarded, FMR {FMR:g}; 1 = chance, lower is better"
    label(axes, model, x)


def _aurocs(axes: Axes, model: str, record: Record, names: list[str]) -> None:
    readings = record["readings"]
    axes.axvline(0.5, color="0.5", linestyle=":", linewidth=1)
    told: set[str] = set()
    for i, name in enumerate(names):
        if name not in readings:
            why = "not on this network" if name in record["failed"] else "not measured"
            axes.text(0.02, i, why, fontsize=6, color="0.5", va="center",
                      transform=axes.get_yaxis_transform())  # fmt: skip
        each = readings.get(name, {"degradations": {}})["degradations"]
        for k, (way, of) in enumerate(each.items()):
            cell, y = of["auroc"], i + 0.13 * (k - 2)
            axes.plot([cell["low"], cell["high"]], [y, y], color=f"C{k}", linewidth=0.8)
            shown = None if way in told else way
            axes.plot(cell["value"], y, _MARKERS[k % 5], color=f"C{k}", markersize=3, label=shown)
            told.add(way)
    label(axes, model, "AUROC, clean against degraded; ½ = chance, higher is better")


def write_arena(directory: Path) -> list[Path]:
    """Write page and figure over all scores that a folder has measurements of.

    Returns:
        *list[Path]*: what was written.

    Raises:
        FileNotFoundError: if there are none.
    """
    own = arena(directory)
    written = [directory / PAGE, directory / PICTURE]
    written[0].write_text(page(own, PICTURE), encoding="utf-8")
    arena_figure(own).savefig(written[1], dpi=120)
    return written
