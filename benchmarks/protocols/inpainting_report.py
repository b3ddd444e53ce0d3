"""Inpainting's table and figure, made anew from all summaries in a folder."""

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
from benchmarks.protocols.inpainting import METRICS
from benchmarks.protocols.region_controls import CONTROLS, TRUE_MASK

__all__ = [
    "PAPER",
    "inpainting_figure",
    "inpainting_markdown",
    "qualities",
    "write_inpainting_report",
]

PAPER = {"ArcFace": (0.65, 0.15), "FaceNet": (0.69, 0.05)}
"""Shares improved and decreased in the paper (Sec. V-A, Fig. 3)."""

_WORDS = ("improved", "unchanged", "decreased")


def qualities(study: Study) -> dict[str, Any]:
    """Q before and after, and its standard deviation, of PLQ and of the true mask.

    Returns:
        *dict*: method → ``"before"``, ``"after"``, ``"sd"``, sorted by the first; the first
        method that worked stands in for PLQ.
    """
    names = [row["method"] for row in study.rows]
    chosen = "plq" if "plq" in names else names[0]
    found = {}
    for method in (chosen, TRUE_MASK):
        rows = sorted((r for r in study.rows if r["method"] == method), key=lambda r: r["before"])
        found[method] = {
            "before": [round(row["before"], 4) for row in rows],
            "after": [round(row["before"] + row["quality_gain"], 4) for row in rows],
            "sd": [round(row["sd"], 4) for row in rows],
        }
    return found


def write_inpainting_report(directory: Path) -> list[Path]:
    """Writes ``inpainting.md`` and ``inpainting.png`` over all ``inpainting-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "inpainting-*.json")
    text, picture = directory / "inpainting.md", directory / "inpainting.png"
    text.write_text(inpainting_markdown(records), encoding="utf-8")
    inpainting_figure(records).savefig(picture, dpi=120)
    return [text, picture]


def inpainting_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each network: shares of outcomes, by occluder too, and the comparisons."""
    lines = [
        "# Inpainting",
        "",
        "A face is occluded, a method marks the lowest region of its map, of the occluder's area, "
        "and the region is painted over from its surroundings. Q is the mean of several runs of "
        "SER-FIQ; a change within the larger of the two standard deviations (before, after) "
        "counts as unchanged. Shares are means over faces; in brackets 95 % bootstrap intervals.",
        "",
        "In the paper a person marks the region after a look at photograph and map, on photographs "
        "that were occluded when taken, and a learned network paints (Sec. IV-A1). Here all three "
        "steps are automatic, and the methods are given the occluder's area. The paper's shares, "
        "the first two rows, are therefore no target; rows of one table compare with each other: "
        "`true mask` is the ceiling, `random square` and `shifted mask` are chance.",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in METRICS.items()),
        "",
    ]
    for record in records:
        lines += _of_network(record)
    return "\n".join(lines)


def _of_network(record: dict[str, Any]) -> list[str]:
    estimates, occluders = record["estimates"], record["settings"]["occluders"]
    names = list(estimates["improved"])
    lines = [f"## {record['model']}", ""]
    if record["faces"]["warning"]:
        lines += [f"**{record['faces']['warning']}**", ""]
    rows = [
        [f"*paper, {model}, by hand*", f"{up:.0%}", f"{1 - up - down:.0%}", f"{down:.0%}", "", ""]
        for model, (up, down) in PAPER.items()
    ]
    rows += [
        [
            name,
            *(_share(estimates[word][name][ALL]) for word in _WORDS),
            _mean(estimates["quality_gain"][name][ALL], "+.4f"),
            _mean(estimates["iou"][name][ALL], ".3f"),
        ]
        for name in names
    ]
    lines += [*table(["method", *_WORDS, "quality gain", "IoU"], rows), ""]
    if any("harmful=yes" in estimates["improved"][name] for name in names):
        rows = [
            [name, *(_share(estimates[word][name].get("harmful=yes")) for word in _WORDS)]
            for name in names
        ]
        images = max(
            estimates["improved"][n].get("harmful=yes", {"rows": 0})["rows"] for n in names
        )
        title = f"### Only where the occluder lowered Q by more than its deviation ({images} rows)"
        lines += [title, "", *table(["method", *_WORDS], rows), ""]
    groups = [f"occluder={occluder}" for occluder in occluders]
    rows = [
        ["Q clean − Q occluded"]
        + [_mean(estimates["occluder_cost"][TRUE_MASK].get(g), "+.4f") for g in groups]
    ]
    for metric, form in (("improved", ""), ("iou", ".2f")):
        for name in names:
            cells = [estimates[metric][name].get(group) for group in groups]
            rows.append(
                [f"{name}: {metric}", *(_mean(x, form) if form else _share(x) for x in cells)]
            )
    lines += ["### By occluder", "", *table(["", *occluders], rows), ""]
    for metric, compared in record["comparisons"].items():
        if compared:
            lines += [f"### {metric}: difference to {record['against']}", ""]
            rows = [
                [name, interval(x["difference"], x["low"], x["high"]), number(x["p_holm"], ".2g")]
                for name, x in compared.items()
            ]
            lines += [*table(["method", "difference", "p, Wilcoxon, Holm"], rows), ""]
    lines += [f"- `{name}` failed here: {reason}" for name, reason in record["failed"].items()]
    lines += [f"- `{control.name}`: {control.description}" for control in CONTROLS]
    settings = record["settings"]
    return [
        *lines,
        "",
        f"Inpainting: {settings['inpainting']}; maps averaged over {settings['pool']}×"
        f"{settings['pool']} px; {settings['runs']} runs. {about(record)}",
        "",
    ]


def inpainting_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """As the paper's Fig. 3: Q before, sorted, and after, with the standard deviation.

    Args:

        records (sequence of dict): Summaries, at least one.

    Returns:
        *Figure*: a row per network; not known to pyplot.
    """
    figure = Figure(figsize=(9, 3.2 * len(records) + 0.4), layout="constrained")
    panels = figure.subplots(len(records), 2, squeeze=False, sharey="row")
    for row, record in zip(panels, records, strict=True):
        for axes, (method, found) in zip(row, record["qualities"].items(), strict=False):
            before, after, sd = (np.array(found[key]) for key in ("before", "after", "sd"))
            x = np.arange(len(before))
            axes.fill_between(x, before - sd, before + sd, color="tab:red", alpha=0.25, linewidth=0)
            axes.plot(x, before, color="tab:red", linewidth=1.2, label="occluded")
            axes.plot(x, after, ".", color="tab:green", markersize=3, label="inpainted")
            axes.set_title(f"{record['model']}, {method}", fontsize=9)
            axes.set_xlabel("image, sorted by Q", fontsize=8)
            axes.set_ylabel("Q", fontsize=8)
            axes.tick_params(labelsize=7)
            axes.legend(fontsize=7)
    warnings = sorted({r["faces"]["warning"] for r in records if r["faces"]["warning"]})
    if warnings:
        figure.supxlabel(" ".join(warnings), fontsize=7)
    return figure


def _share(x: dict[str, Any] | None) -> str:
    if x is None:
        return ""
    bounds = "" if x["low"] is None else f" [{x['low']:.0%}, {x['high']:.0%}]"
    return f"{x['mean']:.0%}{bounds}"


def _mean(x: dict[str, Any] | None, form: str) -> str:
    return "" if x is None else format(x["mean"], form)
