"""One table over all protocols: what a map costs, and what it is good for.

Read from the summaries in a folder, so that it may be made anew at any time; a protocol that was
not run leaves its columns empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.pages import table
from benchmarks.harness.protocol import Cell, Headline, Record, read_record
from benchmarks.protocols import PROTOCOLS, protocol

_SAME = 1.05
"""Times whose ratio is less do not differ."""
_TICKS = (1, 1.5, 2, 3, 5, 10, 20, 50)
_NOTHING = 0.5
"""Maps that take less than half a gradient ask the network nothing."""


def headlines() -> dict[str, tuple[Headline, ...]]:
    """Return the columns that each protocol gives to the table, in order."""
    found = {name: protocol(name).headlines for name in PROTOCOLS}
    return {name: own for name, own in found.items() if own}


@dataclass(frozen=True)
class Overview:
    """The table of one network.

    Args:

        model (str): Its name.
        kinds (dict[str, str]): Method → ``"plq"``, ``"other"`` or ``"control"``, in order.
        columns (dict[str, Headline]): By title; those that no summary fills are left out.
        cells (dict[str, dict[str, Cell]]): Column's title → method → cell.
        warnings (tuple[str, ...]): What must be said of the faces.
    """

    model: str
    kinds: dict[str, str]
    columns: dict[str, Headline]
    cells: dict[str, dict[str, Cell]]
    warnings: tuple[str, ...]

    def best(self, title: str) -> str | None:
        """Return the best method of a column that is no control."""
        own = {m: c.value for m, c in self.cells[title].items() if self.kinds[m] != "control"}
        better = self.columns[title].better
        if not own or better is None:
            return None
        return (max if better == "higher" else min)(own, key=lambda method: own[method])

    def written(self, method: str, bounds: str) -> list[tuple[str, bool]]:
        """Return the cells of a method as text, and whether each is the best of its column.

        Args:

            method (str): Which.
            bounds (str): How an interval is written, with ``{low}`` and ``{high}``.
        """
        return [
            (_text(cells.get(method), self.columns[title].form, bounds), self.best(title) == method)
            for title, cells in self.cells.items()
        ]

    def markdown(self) -> list[str]:
        """Return lines of the table: best in bold, controls in italics."""
        rows = []
        for method, kind in self.kinds.items():
            texts = self.written(method, " [{low}, {high}]")
            name = f"*{method}*" if kind == "control" else method
            rows.append([name, *(f"**{text}**" if best else text for text, best in texts)])
        lines = [f"**{warning}**\n" for warning in self.warnings]
        return [*lines, *table(["method", *self.cells], rows)]


def _text(cell: Cell | None, form: str, bounds: str) -> str:
    if cell is None:
        return ""
    if cell.word:
        return cell.word
    if cell.low is None or cell.high is None:
        return format(cell.value, form)
    low, high = format(cell.low, form), format(cell.high, form)
    return format(cell.value, form) + bounds.format(low=low, high=high)


def overview(directory: Path) -> list[Overview]:
    """Return the tables of all networks that a folder has summaries of.

    Raises:
        FileNotFoundError: if it has none.
    """
    found: dict[str, dict[str, Record]] = {}
    for name in headlines():
        for path in sorted(directory.glob(f"{name}-*.json")):
            record = read_record(path)
            found.setdefault(record["model"], {})[name] = record
    if not found:
        raise FileNotFoundError(f"There are no summaries of maps in {directory}.")
    return [_overview(model, records) for model, records in sorted(found.items())]


def _overview(model: str, records: dict[str, Record]) -> Overview:
    kinds: dict[str, str] = {}
    for record in records.values():
        for method, about in record.get("methods", {}).items():
            kinds.setdefault(method, about["kind"])
    columns: dict[str, Headline] = {}
    cells: dict[str, dict[str, Cell]] = {}
    for name, own in headlines().items():
        for column in own if name in records else ():
            read = {method: column.read(records[name], method) for method in kinds}
            if given := {method: cell for method, cell in read.items() if cell is not None}:
                columns[column.title], cells[column.title] = column, given
    used = {m: kind for m, kind in kinds.items() if any(m in given for given in cells.values())}
    warnings = {r["faces"]["warning"]: None for r in records.values() if r.get("faces")}
    return Overview(model, used, columns, cells, tuple(filter(None, warnings)))


def pareto_figure(
    tables: Sequence[Overview], titles: Sequence[str] = ("AUROC, mean", "SRG, mean", "FNMR gain")
) -> Figure | None:
    """Return faithfulness against time, a row per network; ``None`` if none has both.

    Args:

        tables (sequence of Overview): At least one.
        titles (sequence of str): The columns that stand for faithfulness, one panel each.
    """
    shown = [t for t in tables if "time" in t.cells and any(title in t.cells for title in titles)]
    if not shown:
        return None
    figure = Figure(figsize=(5.5 * len(titles), 4.4 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), len(titles), squeeze=False)
    for row, own in zip(panels, shown, strict=True):
        for axes, title in zip(row, titles, strict=True):
            if title in own.cells:
                _pareto(axes, own, title)
            else:
                axes.set_axis_off()
        row[0].set_title(
            f"{own.model} (large: on the front; green: PLQ; grey: control)", fontsize=8
        )
    return figure


def _pareto(axes: Axes, own: Overview, title: str) -> None:
    front = _front(own, title)
    for method, cell in own.cells[title].items():
        time = own.cells["time"].get(method)
        if time is None:
            continue
        colour = {"plq": "C2", "other": "C0", "control": "0.6"}[own.kinds[method]]
        if time.value < _NOTHING:
            axes.axhline(cell.value, color=colour, linestyle="--", linewidth=0.8)
            axes.text(0.01, cell.value, f"{method} (no network)", fontsize=6, va="bottom",
                      transform=axes.get_yaxis_transform())  # fmt: skip
            continue
        marker = "o" if method in front else "."
        axes.plot(time.value, cell.value, marker, color=colour, markersize=8)
        if cell.low is not None and cell.high is not None:
            axes.plot([time.value] * 2, [cell.low, cell.high], color=colour, linewidth=0.8)
        axes.annotate(method, (time.value, cell.value), fontsize=6, textcoords="offset points",
                      xytext=(4, 3))  # fmt: skip
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("time, ratio to one forward and one backward", fontsize=8)
    axes.set_ylabel(title, fontsize=8)


def _front(own: Overview, title: str) -> set[str]:
    """Methods, controls aside, that no other beats in one and matches in the other."""
    points = {
        method: (own.cells["time"][method].value, cell.value)
        for method, cell in own.cells[title].items()
        if method in own.cells["time"] and own.kinds[method] != "control"
    }
    return {
        method
        for method, (time, value) in points.items()
        if not any(
            (t <= time * _SAME and v > value) or (t * _SAME < time and v >= value)
            for t, v in points.values()
        )
    }
