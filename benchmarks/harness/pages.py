"""Markdown tables, and what the pages of all studies of maps have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.environment import dated
from benchmarks.harness.protocol import Record
from benchmarks.harness.statistics import ALL
from benchmarks.subjects.methods import is_null, null_name

NULL = "random weights"
"""Heads a column of what maps find without what the network has learned."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """Return the lines of a Markdown table; all but the first ``words`` columns are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def number(value: Any, form: str) -> str:
    """Return a formatted number; nothing where there is none."""
    return "" if value is None else format(value, form)


Field = tuple[str, "str | Callable[[Any], Any]", str]
"""Head of a column, the key of its values or how they are read, and how they are written."""


def listing(fields: Sequence[Field], items: Iterable[Any], words: int = 1) -> list[str]:
    """Return the lines of a Markdown table with a row for each item."""

    def cell(item: Any, read: str | Callable[[Any], Any], form: str) -> str:
        return number(read(item) if callable(read) else item[read], form)

    rows = [[cell(item, read, form) for _, read, form in fields] for item in items]
    return table([head for head, _, _ in fields], rows, words)


def estimate(
    cell: Mapping[str, Any] | None, form: str | Callable[[float], str] = ".3f", bounds: bool = True
) -> str:
    """Return a mean and its interval in brackets; nothing where there is none.

    Args:

        cell (mapping, optional): With ``mean``, ``median`` or ``difference``, ``low`` and ``high``.
        form (str or Callable): How numbers are written.
        bounds (bool): Whether the interval is.
    """
    if cell is None:
        return ""
    write = form if callable(form) else (lambda value: format(value, form))
    text = write(next(cell[key] for key in ("mean", "median", "difference") if key in cell))
    if not bounds or cell["low"] is None:
        return text
    return f"{text} [{write(cell['low'])}, {write(cell['high'])}]"


@dataclass(frozen=True)
class Shown:
    """A column of a table of methods: a metric over a group of rows.

    Args:

        head (str): What stands above it.
        metric (str): Which number.
        group (str): Of which rows, ``"all"`` or e.g. ``"fill=black"``.
        form (str or Callable): How it is written.
        bounds (bool): Whether with its interval.
    """

    head: str
    metric: str
    group: str = ALL
    form: str | Callable[[float], str] = ".3f"
    bounds: bool = True


def methods_of(record: Record, metrics: Sequence[str]) -> list[str]:
    """Return the methods that have an estimate in one of some metrics."""
    return list(dict.fromkeys(m for metric in metrics for m in record["estimates"].get(metric, {})))


def by_method(
    record: Record,
    shown: Sequence[Shown],
    before: Sequence[Sequence[str]] = (),
    *,
    nulls_beside: bool = False,
) -> list[str]:
    """Return a table of methods, controls in italics; metrics that nobody has are left out.

    Args:

        record (dict): Summary of a study of maps.
        shown (sequence of Shown): Its columns.
        before (sequence of rows): Rows that come first.
        nulls_beside (bool): Whether what a method has on random weights stands in a column beside
            each of its own, and in no row.
    """
    found = record["estimates"]
    shown = [x for x in shown if found.get(x.metric)]
    methods = methods_of(record, [x.metric for x in shown])
    beside = nulls_beside and any(is_null(method) for method in methods)
    rows = list(before)
    for method in methods:
        names = [method, null_name(method)] if beside else [method]
        cells = [found[x.metric].get(n, {}).get(x.group) for x in shown for n in names]
        if any(cell is not None for cell in cells) and not (beside and is_null(method)):
            control = record["methods"][method]["kind"] == "control"
            texts = [
                estimate(cell, x.form, x.bounds)
                for cell, x in zip(cells, [x for x in shown for _ in names], strict=True)
            ]
            rows.append([f"*{method}*" if control else method, *texts])
    heads = [head for x in shown for head in (x.head, *([NULL] * beside))]
    return [*table(["method", *heads], rows), ""]


def comparisons(record: Record, form: str = "+.3f") -> list[str]:
    """Return a table for each metric in which methods were compared with one of them."""
    lines: list[str] = []
    for metric, own in record["comparisons"].items():
        if own:
            rows = [[n, estimate(x, form), number(x["p_holm"], ".2g")] for n, x in own.items()]
            lines += [f"### {metric}: difference to {record['against']}", ""]
            lines += [*table(["method", "difference", "p, Wilcoxon, Holm"], rows), ""]
    return lines


def about(record: Record) -> str:
    """Return network, faces and environment of a summary, in one paragraph."""
    faces = record["faces"]
    parts = [
        f"{record['source']} (network {record['network']}). {faces['evaluated']} faces evaluated, "
        f"{faces['reference']} others as reference ({faces['about']}, {faces['digest']}). "
        f"{'; '.join(map(dated, record['sessions']))}."
    ]
    for again in record.get("reruns", []):
        names = ", ".join(f"`{name}`" for name in again["methods"])
        when = "; ".join(map(dated, again["sessions"]))
        parts.append(f"Measured again: {names} ({again['why']}): {when}.")
    return " ".join([*parts, *_nulls(record), *_left_out(record)])


def _nulls(record: Record) -> Iterator[str]:
    """Say over how many networks with random weights, and how many faces, if not all."""
    of_nulls = {
        (len(cell["networks"]), cell["images"])
        for of in record["estimates"].values()
        for cells in of.values()
        if (cell := cells.get(ALL)) and "networks" in cell
    }
    for networks, images in sorted(of_nulls):
        fewer = f", {images} faces" if images < record["faces"]["evaluated"] else ""
        yield (
            f"Random weights: mean over {networks} networks{fewer}; in brackets the lowest and the "
            "highest of these."
        )


def _left_out(record: Record) -> Iterator[str]:
    """Say which means are over fewer rows or faces than there are, and over how many."""
    if unusable := record["faces"].get("unusable"):
        yield f"{unusable} images that were drawn could not be used."
    for metric, methods in record["estimates"].items():
        cells = {name: of.get(ALL, {}) for name, of in methods.items()}
        fewer = [
            f"`{name}` {cell['undefined']} of {cell['rows'] + cell['undefined']}"
            for name, cell in cells.items()
            if cell.get("undefined")
        ]
        if fewer:
            yield f"Rows in which `{metric}` does not exist: {', '.join(fewer)}."
    faces = record["faces"]["evaluated"]
    for metric, compared in record.get("comparisons", {}).items():
        fewer = [f"`{name}` {x['images']}" for name, x in compared.items() if x["images"] < faces]
        if fewer:
            yield f"Faces over which `{metric}` is compared: {', '.join(fewer)}."
