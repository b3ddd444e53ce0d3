"""A page of tables for a protocol: every metric of every map, and the paired comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.old_study_report import about
from benchmarks.harness.old_summary import ALL
from benchmarks.harness.tables import number, read_json, table

__all__ = ["Extra", "interval", "metric_markdown", "write_metric_report"]

Record = dict[str, Any]
Extra = Callable[[Record], list[str]]
"""A summary → more lines of Markdown for its network, after the tables."""


def write_metric_report(
    directory: Path,
    protocol: str,
    introduction: Sequence[str],
    metrics: Mapping[str, str],
    *,
    digits: int = 3,
    extra: Extra = lambda record: [],
) -> Path:
    """Writes ``PROTOCOL.md`` over all ``PROTOCOL-*.json`` of a folder and returns its path.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, f"{protocol}-*.json")
    path = directory / f"{protocol}.md"
    text = metric_markdown(records, introduction, metrics, digits=digits, extra=extra)
    path.write_text(text, encoding="utf-8")
    return path


def metric_markdown(
    records: Sequence[Record],
    introduction: Sequence[str],
    metrics: Mapping[str, str],
    *,
    digits: int = 3,
    extra: Extra = lambda record: [],
) -> str:
    """For each network a table of methods × metrics per group of rows, and the comparisons.

    Args:

        records (sequence of dict): Summaries of one protocol. Those whose rows have conditions
            name them in ``record["groups"]``; the others have one table of all rows.
        introduction (sequence of str): The title, without "#", and lines below it.
        metrics (mapping): Name → meaning of each.
        digits (int): After the point.
        extra (Callable): More lines for a network.
    """
    title, *lines = introduction
    page = [f"# {title}", "", *lines, ""]
    page += [*(f"- `{name}`: {meaning}" for name, meaning in metrics.items()), ""]
    for record in records:
        page += [f"## {record['model']}", ""]
        if record["faces"]["warning"]:
            page += [f"**{record['faces']['warning']}**", ""]
        for group in record.get("groups", [ALL]):
            if group != ALL:
                page += [f"### {group.replace('=', ' ')}", ""]
            page += _estimates(record, metrics, group, digits)
        page += _comparisons(record, digits)
        page += extra(record)
        page += [f"- `{name}` failed here: {why}" for name, why in record["failed"].items()]
        page += ["", about(record), ""]
    return "\n".join(page)


def _estimates(record: Record, metrics: Mapping[str, str], group: str, digits: int) -> list[str]:
    found = record["estimates"]
    shown = [metric for metric in metrics if found.get(metric)]
    methods = dict.fromkeys(method for metric in shown for method in found[metric])
    rows = []
    for method in methods:
        kind = record["methods"][method]["kind"]
        cells = [found[metric].get(method, {}).get(group) for metric in shown]
        if any(cell is not None for cell in cells):
            name = f"*{method}*" if kind == "control" else method
            rows.append([name, *(interval(cell, digits) for cell in cells)])
    return [*table(["method", *shown], rows), ""]


def _comparisons(record: Record, digits: int) -> list[str]:
    lines: list[str] = []
    for metric, own in record["comparisons"].items():
        if not own:
            continue
        rows = [
            [name, interval({**x, "mean": x["difference"]}, digits), number(x["p_holm"], ".2g")]
            for name, x in own.items()
        ]
        lines += [
            f"### {metric}: difference to {record['against']}",
            "",
            *table(["method", "difference", "p, Wilcoxon, Holm"], rows),
            "",
        ]
    return lines


def interval(cell: Mapping[str, Any] | None, digits: int) -> str:
    """A mean and, where there is one, its interval; nothing for ``None``.

    Args:

        cell (mapping, optional): With ``mean``, ``low`` and ``high``; the last two ``None`` for one
            image.
        digits (int): After the point.
    """
    if cell is None:
        return ""
    form = f".{digits}f"
    bounds = "" if cell["low"] is None else f" [{cell['low']:{form}}, {cell['high']:{form}}]"
    return f"{cell['mean']:{form}}{bounds}"
