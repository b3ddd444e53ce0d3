"""The random masks' tables and figures, made anew from all summaries in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.old_study import Study
from benchmarks.harness.old_study_report import about, interval
from benchmarks.harness.old_summary import ALL
from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.random_mask import METRICS

__all__ = [
    "distributions",
    "random_mask_figure",
    "random_mask_markdown",
    "write_random_mask_report",
]

SHOWN = ("quality_change", "pixel_change")
_BINS = 40


def distributions(study: Study, sizes: Sequence[int]) -> dict[str, Any]:
    """Histograms of ΔQ and Δp by size, of PLQ's map or of the first that there is.

    Returns:
        *dict*: ``"method"``, and metric → ``"edges"`` and ``"counts"`` (size → counts); empty
        if no method worked.
    """
    names = list(dict.fromkeys(row["method"] for row in study.rows))
    if not names:
        return {}
    method = "plq" if "plq" in names else names[0]
    found: dict[str, Any] = {"method": method}
    for metric in SHOWN:
        rows = [r for r in study.rows if r["method"] == method and r[metric] is not None]
        edges = np.histogram_bin_edges([row[metric] for row in rows], _BINS)
        found[metric] = {
            "edges": [float(f"{edge:.5g}") for edge in edges],
            "counts": {
                str(size): np.histogram(
                    [row[metric] for row in rows if row["size"] == size], edges
                )[0].tolist()
                for size in sizes
            },
        }
    return found


def write_random_mask_report(directory: Path) -> list[Path]:
    """Writes ``random-mask.md`` and ``random-mask.png`` over all ``random-mask-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "random-mask-*.json")
    text, picture = directory / "random-mask.md", directory / "random-mask.png"
    text.write_text(random_mask_markdown(records), encoding="utf-8")
    random_mask_figure(records).savefig(picture, dpi=120)
    return [text, picture]


def random_mask_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each network: AUROC by fill, all metrics, the comparisons, and the conditions."""
    lines = [
        "# Random masks",
        "",
        "A square of s×s pixels at a random place of the inner 90 % of an aligned face. Means over "
        "faces of each face's mean; in brackets 95 % bootstrap intervals over faces.",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in METRICS.items()),
        "",
        "AUROC within one image is ½ by chance, but `auroc_clean` says what the same map finds "
        "where there is no square: only the gain over it is the square's.",
        "",
    ]
    for record in records:
        lines += _of_network(record)
    return "\n".join(lines)


def _of_network(record: dict[str, Any]) -> list[str]:
    fills, estimates = record["settings"]["fills"], record["estimates"]
    lines = [f"## {record['model']}", ""]
    if record["faces"]["warning"]:
        lines += [f"**{record['faces']['warning']}**", ""]
    for title, metric, condition in (
        ("auroc by fill, s = 20 to 40 (of 112)", "auroc", "middle"),
        ("auroc by fill", "auroc", "fill"),
        ("auroc_gain by fill", "auroc_gain", "fill"),
    ):
        groups = [*([] if condition == "middle" else [ALL]), *(f"{condition}={f}" for f in fills)]
        head = ["method", *("all" if g == ALL else g.partition("=")[2] for g in groups)]
        cells = [[name, *(_cell(of.get(g)) for g in groups)] for name, of in
                 estimates[metric].items()]  # fmt: skip
        lines += [f"### {title}", "", *table(head, cells), ""]
    metrics = [metric for metric in METRICS if metric not in ("auroc", "auroc_gain")]
    names = list(dict.fromkeys(name for of in estimates.values() for name in of))
    cells = [
        [name, *(_plain(estimates[metric].get(name, {}).get(ALL)) for metric in metrics)]
        for name in names
    ]
    lines += ["### All fills", "", *table(["method", *metrics], cells), ""]
    lines += _shares(record)
    for metric, compared in record["comparisons"].items():
        if compared:
            lines += [f"### {metric}: difference to {record['against']}", ""]
            rows = [
                [name, interval(x["difference"], x["low"], x["high"]), number(x["p_holm"], ".2g")]
                for name, x in compared.items()
            ]
            lines += [*table(["method", "difference", "p, Wilcoxon, Holm"], rows), ""]
    lines += [f"- `{name}` failed here: {reason}" for name, reason in record["failed"].items()]
    return [*lines, about(record), ""]


def _shares(record: dict[str, Any]) -> list[str]:
    """By size: how often ΔQ and Δp are positive, as the paper's Fig. 5 is read."""
    method = record["distributions"].get("method")
    if method is None:
        return []
    sizes = record["settings"]["sizes"]
    rows = []
    for metric in SHOWN:
        of = record["estimates"][metric].get(method, {})
        found = [of.get(f"size={size}") for size in sizes]
        rows.append([metric, *(number(x["positive"] if x else None, ".0%") for x in found)])
    return [
        f"### Share above 0 by size, {method}",
        "",
        *table(["", *(f"s = {size}" for size in sizes)], rows),
        "",
    ]


def _cell(x: dict[str, Any] | None) -> str:
    return "" if x is None else interval(x["mean"], x["low"], x["high"], "")


def _plain(x: dict[str, Any] | None) -> str:
    return "" if x is None else f"{x['mean']:.4f}" if abs(x["mean"]) < 0.1 else f"{x['mean']:.3f}"


def random_mask_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """As the paper's Fig. 5: how ΔQ and Δp are distributed for each size, a row per network.

    Args:

        records (sequence of dict): Summaries, at least one.

    Returns:
        *Figure*: not known to pyplot.
    """
    figure = Figure(figsize=(9, 3.2 * len(records) + 0.4), layout="constrained")
    panels = figure.subplots(len(records), 2, squeeze=False)
    for row, record in zip(panels, records, strict=True):
        for axes, metric, label in zip(row, SHOWN, ("ΔQ", "Δp in the square"), strict=True):
            found = record["distributions"].get(metric, {"edges": [0, 1], "counts": {}})
            edges = np.array(found["edges"])
            for size, counts in found["counts"].items():
                if total := sum(counts):
                    density = np.array(counts) / total
                    axes.stairs(density, edges, label=f"s = {size}", linewidth=1.4)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_xlabel(label, fontsize=8)
            axes.set_ylabel("share of rows", fontsize=8)
            axes.tick_params(labelsize=7)
            method = record["distributions"].get("method", "nothing")
            axes.set_title(
                f"{record['model']}, {method}, {record['faces']['evaluated']} faces", fontsize=9
            )
            axes.legend(fontsize=7)
    warnings = sorted({r["faces"]["warning"] for r in records if r["faces"]["warning"]})
    if warnings:
        figure.supxlabel(" ".join(warnings), fontsize=7)
    return figure
