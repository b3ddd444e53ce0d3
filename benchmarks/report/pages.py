"""All pages from the results in a folder: one a protocol, and the report over all of them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.protocols import PROTOCOLS, protocol
from benchmarks.report.overview import Overview, headlines, overview, pareto_figure

_PICTURES = ("random-mask", "curves", "inpainting", "standards", "recognition", "edc", "map-time")
_ABOUT_TIME = "faithfulness against time"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
div.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap }
tr { border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left } tr.control { color: #888 }
td.best { font-weight: bold } td small { color: #888; font-weight: normal } img { max-width: 100% }
"""


def write_pages(directory: Path) -> list[Path]:
    """Write page and figures of every protocol that a folder has results of, and the report.

    Returns:
        *list[Path]*: what was written.
    """
    run = [name for name in PROTOCOLS if any(directory.glob(f"{name}-*.json"))]
    written = [path for name in run for path in protocol(name).write(directory)]
    return [*written, *write_overview(directory)]


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


def _meanings() -> list[str]:
    return [f"{column.title}: {column.meaning}" for own in headlines().values() for column in own]


def _markdown(tables: Sequence[Overview], figure: bool) -> str:
    lines = [
        "# All maps, all protocols",
        "",
        "Best in bold, controls in italics; in brackets 95 % bootstrap intervals over faces, of "
        "times the quartiles. A number means something only beside its controls: a random map, a "
        "map of the image's centre, the gradient of the embedding's sum (no quality in it), and "
        "the same method on the network with random weights.",
        "",
        *(f"- {meaning}" for meaning in _meanings()),
        "",
    ]
    for own in tables:
        lines += [f"## {own.model}", "", *own.markdown(), ""]
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
    parts.append("<h2>Columns</h2><ul>")
    parts += [f"<li>{html.escape(meaning)}</li>" for meaning in _meanings()]
    parts.append("</ul>")
    for name in _PICTURES:
        for path in sorted(directory.glob(f"{name}*.png")):
            parts += [f"<h2>{html.escape(path.stem)}</h2>", _picture(path.read_bytes(), path.stem)]
    return "\n".join(parts)


def _table(own: Overview) -> list[str]:
    lines = [f"<p><strong>{html.escape(warning)}</strong></p>" for warning in own.warnings]
    lines.append("<div class=wide><table><tr><th>method</th>")
    lines += [f"<th>{html.escape(title)}</th>" for title in own.cells]
    lines.append("</tr>")
    for method, kind in own.kinds.items():
        lines.append(f"<tr class={kind}><td>{html.escape(method)}</td>")
        lines += [
            f"<td{' class=best' * best}>{text}</td>"
            for text, best in own.written(method, " <small>{low}…{high}</small>")
        ]
        lines.append("</tr>")
    return [*lines, "</table></div>"]


def _picture(content: bytes, about: str) -> str:
    data = base64.b64encode(content).decode()
    return f"<img alt='{html.escape(about)}' src='data:image/png;base64,{data}'>"
