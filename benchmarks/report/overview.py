"""One table over all protocols: what a map costs, and what it is good for.

Read from the summaries in a folder, so that it may be made anew at any time; a protocol that was
not run leaves its columns empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.tables import table

__all__ = ["COLUMNS", "Cell", "Column", "Overview", "overview", "pareto_figure"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A number of one method, its interval if it has one, and a word to show in its place."""

    value: float
    low: float | None = None
    high: float | None = None
    word: str = ""

    def written(self, form: str, bounds: str) -> str:
        """The word, or the number and its interval.

        Args:

            form (str): Of each number.
            bounds (str): Template with ``{low}`` and ``{high}``.
        """
        if self.word:
            return self.word
        number = f"{self.value:{form}}"
        if self.low is None:
            return number
        return number + bounds.format(low=f"{self.low:{form}}", high=f"{self.high:{form}}")


@dataclass(frozen=True)
class Column:
    """One column of the table.

    Args:

        title (str): Its head.
        meaning (str): What it is, and which way is better.
        protocol (str): The summaries it is read from: ``PROTOCOL-MODEL*.json``.
        read (Callable): Summary and method → its cell, or ``None``.
        form (str): How numbers are written.
        highest (bool): Whether the highest is the best.
    """

    title: str
    meaning: str
    protocol: str
    read: Callable[[Record, str], Cell | None]
    form: str = ".3f"
    highest: bool = True


def _estimate(metric: str, group: str) -> Callable[[Record, str], Cell | None]:
    def read(record: Record, method: str) -> Cell | None:
        found = record["estimates"].get(metric, {}).get(method, {}).get(group)
        if found is None or found["mean"] is None:
            return None
        return Cell(found["mean"], found["low"], found["high"])

    return read


def _time(record: Record, method: str) -> Cell | None:
    found = record["ratios"].get(method)
    return None if found is None else Cell(found["median"], found["low"], found["high"])


def _verdict(record: Record, method: str) -> Cell | None:
    failed = record["verdicts"].get(method)
    if failed is None:
        return None
    return Cell(float(not failed), word="fails" if failed else "passes")


COLUMNS = (
    Column("time", "from image to map, as a ratio to one forward and one backward; quartiles",
           "map-time", _time, ".2f", False),
    *(
        Column(f"AUROC, {fill}",
               f"of squares of 20 to 40 px filled with {words}, by low scores; ½ is chance",
               "random-mask", _estimate("auroc", f"middle={fill}"), ".2f")
        for fill, words in (("black", "black"), ("mean", "the image's mean colour"),
                            ("noise", "noise"), ("texture", "another face"), ("blur", "its blur"))
    ),
    Column("clean AUROC", "of the map of the CLEAN image on the same squares",
           "random-mask", _estimate("auroc_clean", "all"), ".2f"),
    Column("SRG, mean", "area between removing worst first and best first; 0 is chance",
           "curves", _estimate("srg", "imputer=mean"), "+.3f"),
    Column("SRG, ROAD", "the same with ROAD's imputation",
           "curves", _estimate("srg", "imputer=road"), "+.3f"),
    Column("inpainting", "share improved less share decreased, the lowest region painted over",
           "inpainting", _estimate("outcome", "all"), "+.2f"),
    Column("FNMR gain", "false non-matches: area between removing best first and worst first, with "
           "the image's mean colour; 0 is chance",
           "recognition", _estimate("fnmr_gain", "imputer=mean"), "+.3f"),
    Column("sensitivity", "Captum's max-sensitivity: how far a map may move under small noise",
           "captum", _estimate("sensitivity", "all"), ".2f", False),
    Column("infidelity", "of the gradient against a square put on the image, normalised; 1 is that "
           "of a map of zeros",
           "captum", _estimate("infidelity_node", "perturbation=square"), ".3f", False),
    Column("sanity", "whether the map depends on the weights and on the image, by the stated rule",
           "sanity", _verdict),
)  # fmt: skip
"""The columns, in order. What compares nothing (the clean AUROC) or only judges has no best."""
_NO_BEST = ("clean AUROC", "sanity")
_SAME = 1.05
"""Times whose ratio is less do not differ."""
_TICKS = (1, 1.5, 2, 3, 5, 10, 20, 50)
_NOTHING = 0.5
"""Maps that take less than half a gradient ask the network nothing."""


@dataclass(frozen=True)
class Overview:
    """The table of one network.

    Args:

        model (str): Its name.
        kinds (dict[str, str]): Method → ``"plq"``, ``"other"`` or ``"control"``, in order.
        cells (dict[str, dict[str, Cell]]): Column's title → method → cell; columns that no
            summary fills are left out.
        warnings (tuple[str, ...]): What must be said of the faces.
    """

    model: str
    kinds: dict[str, str]
    cells: dict[str, dict[str, Cell]]
    warnings: tuple[str, ...]

    def best(self, title: str) -> str | None:
        """The best method of a column that is no control."""
        column = next(column for column in COLUMNS if column.title == title)
        own = {m: c.value for m, c in self.cells[title].items() if self.kinds[m] != "control"}
        if not own or title in _NO_BEST:
            return None
        return (max if column.highest else min)(own, key=lambda method: own[method])

    def markdown(self) -> list[str]:
        """Lines of the table: best in bold, controls in italics."""
        forms = {column.title: column.form for column in COLUMNS}
        best = {title: self.best(title) for title in self.cells}
        rows = []
        for method, kind in self.kinds.items():
            row = [f"*{method}*" if kind == "control" else method]
            for title, own in self.cells.items():
                text = _text(own.get(method), forms[title])
                row.append(f"**{text}**" if method == best[title] else text)
            rows.append(row)
        lines = [f"**{warning}**\n" for warning in self.warnings]
        return [*lines, *table(["method", *self.cells], rows)]


def overview(directory: Path) -> list[Overview]:
    """The tables of all networks that a folder has summaries of.

    Raises:
        FileNotFoundError: if it has none.
    """
    found: dict[str, dict[str, Record]] = {}
    for protocol in dict.fromkeys(column.protocol for column in COLUMNS):
        for path in sorted(directory.glob(f"{protocol}-*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            found.setdefault(record["model"], {})[protocol] = record
    if not found:
        raise FileNotFoundError(f"There are no summaries of maps in {directory}.")
    return [_overview(model, records) for model, records in sorted(found.items())]


def pareto_figure(
    tables: Sequence[Overview], titles: Sequence[str] = ("AUROC, mean", "SRG, mean", "FNMR gain")
) -> Figure | None:
    """Faithfulness against time, a row per network; ``None`` if none has both.

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


def _overview(model: str, records: dict[str, Record]) -> Overview:
    kinds: dict[str, str] = {}
    for record in records.values():
        for method, about in record.get("methods", {}).items():
            kinds.setdefault(method, about["kind"])
    cells: dict[str, dict[str, Cell]] = {}
    for column in COLUMNS:
        record_of = records.get(column.protocol)
        if record_of is not None:
            own = {m: cell for m in kinds if (cell := column.read(record_of, m)) is not None}
            if own:
                cells[column.title] = own
    used = {
        method: kind for method, kind in kinds.items() if any(method in c for c in cells.values())
    }
    warnings = {r["faces"]["warning"]: None for r in records.values() if r.get("faces")}
    return Overview(model, used, cells, tuple(filter(None, warnings)))


def _text(cell: Cell | None, form: str) -> str:
    return "" if cell is None else cell.written(form, " [{low}, {high}]")
