"""All pages from the results in a folder: one a protocol, and one table over all of them.

The table says what a map costs, and what it is good for. A protocol that was not run leaves its
columns empty.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.harness.pages import NULL, table
from benchmarks.harness.protocol import Cell, Headline, Record, read_record
from benchmarks.protocols import PROTOCOLS, protocol
from benchmarks.report.arena_figure import write_arena
from benchmarks.subjects.methods import is_null, null_name

_SAME = 1.05
"""Times whose ratio is less do not differ."""
_TICKS = (1, 1.5, 2, 3, 5, 10, 20, 50)
_NOTHING = 0.5
"""Maps that take less than half a gradient ask the network nothing."""
_PICTURES = ("random-mask", "curves", "inpainting", "standards", "recognition", "edc", "map-time")
_ABOUT_TIME = "faithfulness against time"
_FIRST = (
    "First table: where quality is lost, and how much. Beside each number stands that of random "
    "weights, which should be chance."
)
_SECOND = "Second table: what matters on clean faces, and what else is to be known of a map."

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
div.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap }
tr { border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } tr.control { color: #888 }
td.best { font-weight: bold } td small { color: #888; font-weight: normal } img { max-width: 100% }
"""


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

    def heads(self, first: bool) -> list[str]:
        """Return the heads of the columns of the first table, or of the second."""
        own = [title for title, column in self.columns.items() if column.first == first]
        return [head for title in own for head in (title, *([NULL] * first))]

    def written(
        self, first: bool, bounds: str
    ) -> Iterator[tuple[str, bool, list[tuple[str, bool]]]]:
        """Yield the rows of a table: method, whether it is a control, and its cells.

        Those are text, and whether it is the best of its column. In the first table, what a
        method says on random weights stands beside each cell.

        Args:

            first (bool): Which table.
            bounds (str): How an interval is written, with ``{low}`` and ``{high}``.
        """
        own = {title: column for title, column in self.columns.items() if column.first == first}
        for method, kind in self.kinds.items():
            names = [method, null_name(method)] if first else [method]
            cells = [
                (_text(self.cells[title].get(name), column.form, bounds), self.best(title) == name)
                for title, column in own.items()
                for name in names
            ]
            if any(text for text, _ in cells) and not (first and is_null(method)):
                yield method, kind == "control", cells

    def markdown(self) -> list[str]:
        """Return lines of both tables: best in bold, controls in italics."""
        lines = [f"**{warning}**\n" for warning in self.warnings]
        for first in (True, False):
            rows = [
                [f"*{method}*" if control else method,
                 *(f"**{text}**" if best else text for text, best in cells)]
                for method, control, cells in self.written(first, " [{low}, {high}]")
            ]  # fmt: skip
            lines += [*table(["method", *self.heads(first)], rows), ""] if rows else []
        return lines


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


def write_pages(directory: Path) -> list[Path]:
    """Write page and figures of every protocol that a folder has results of, and the report.

    Returns:
        *list[Path]*: what was written.
    """
    run = [name for name in PROTOCOLS if any(directory.glob(f"{name}-*.json"))]
    written = [path for name in run for path in protocol(name).write(directory)]
    return [*written, *write_arena(directory), *write_overview(directory)]


def write_overview(directory: Path) -> list[Path]:
    """Write ``report.md``, ``report.html`` and ``pareto.png`` over the summaries in a folder.

    Returns:
        *list[Path]*: what was written.

    Raises:
        FileNotFoundError: if there are no summaries.
    """
    tables = overview(directory)
    figure = pareto_figure(tables)
    written = [directory / "report.md", directory / "report.html"]
    written[0].write_text(_markdown(tables, figure is not None), encoding="utf-8")
    written[1].write_text(_html(tables, figure, directory), encoding="utf-8")
    if figure is not None:
        figure.savefig(directory / "pareto.png", dpi=120)
        written.append(directory / "pareto.png")
    return written


def _meanings(first: bool) -> list[str]:
    columns = [column for own in headlines().values() for column in own if column.first == first]
    return [f"{column.title}: {column.meaning}" for column in columns]


def _markdown(tables: Sequence[Overview], figure: bool) -> str:
    lines = [
        "# All maps, all protocols",
        "",
        "Best in bold, controls in italics; in brackets 95 % bootstrap intervals over faces, of "
        "times the quartiles. A number means something only beside its controls: a random map, a "
        "map of the image's centre, the gradient of the embedding's sum (no quality in it), and "
        "the same method on the network with random weights.",
        "",
        _FIRST,
        "",
        *(f"- {meaning}" for meaning in _meanings(True)),
        "",
        _SECOND,
        "",
        *(f"- {meaning}" for meaning in _meanings(False)),
        "",
    ]
    for own in tables:
        lines += [f"## {own.model}", "", *own.markdown()]
    if figure:
        lines += [f"![{_ABOUT_TIME}](pareto.png)", ""]
    return "\n".join(lines)


def _html(tables: Sequence[Overview], figure: Figure | None, directory: Path) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>All maps, all protocols</title><style>{_STYLE}</style>",
        "<h1>All maps, all protocols</h1><p>Best in bold, controls in grey; small: 95 % bootstrap "
        "intervals over faces, of times the quartiles.</p>",
    ]
    for own in tables:
        parts += [f"<h2>{html.escape(own.model)}</h2>", *_table(own)]
    if figure is not None:
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=120, format="png")
        parts.append(_picture(buffer.getvalue(), _ABOUT_TIME))
    parts.append("<h2>Columns</h2>")
    for first, words in ((True, _FIRST), (False, _SECOND)):
        parts += [f"<p>{html.escape(words)}</p><ul>"]
        parts += [f"<li>{html.escape(meaning)}</li>" for meaning in _meanings(first)]
        parts.append("</ul>")
    for name in _PICTURES:
        for path in sorted(directory.glob(f"{name}*.png")):
            parts += [f"<h2>{html.escape(path.stem)}</h2>", _picture(path.read_bytes(), path.stem)]
    return "\n".join(parts)


def _table(own: Overview) -> list[str]:
    lines = [f"<p><strong>{html.escape(warning)}</strong></p>" for warning in own.warnings]
    for first in (True, False):
        heads = own.heads(first)
        if not heads:
            continue
        lines.append("<div class=wide><table><tr><th>method</th>")
        lines += [f"<th>{html.escape(title)}</th>" for title in heads]
        lines.append("</tr>")
        for method, control, cells in own.written(first, " <small>{low}…{high}</small>"):
            lines.append(f"<tr{' class=control' * control}><td>{html.escape(method)}</td>")
            lines += [f"<td{' class=best' * best}>{text}</td>" for text, best in cells]
            lines.append("</tr>")
        lines.append("</table></div>")
    return lines


def _picture(content: bytes, about: str) -> str:
    data = base64.b64encode(content).decode()
    return f"<img alt='{html.escape(about)}' src='data:image/png;base64,{data}'>"
