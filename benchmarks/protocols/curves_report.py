"""The perturbation curves' tables and figure, made anew from all summaries in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.study import Study
from benchmarks.harness.study_report import about
from benchmarks.harness.tables import number, read_json, table
from benchmarks.protocols.curve_panels import curve_panels
from benchmarks.protocols.curves import METRICS

__all__ = ["curves_figure", "curves_markdown", "mean_curves", "write_curves_report"]


def mean_curves(study: Study) -> dict[str, Any]:
    """The mean over faces of every curve.

    Returns:
        *dict*: imputer → method → ``[morf, lerf]``, Q at each step.
    """
    curves: dict[str, dict[str, list[Any]]] = {}
    for row in study.rows:
        of = curves.setdefault(row["imputer"], {})
        of.setdefault(row["method"], []).append(row["curves"])
    return {
        imputer: {
            method: [[float(f"{q:.5g}") for q in curve] for curve in np.mean(found, axis=0)]
            for method, found in of.items()
        }
        for imputer, of in curves.items()
    }


def write_curves_report(directory: Path) -> list[Path]:
    """Writes ``curves.md`` and ``curves.png`` over all ``curves-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "curves-*.json")
    text, picture = directory / "curves.md", directory / "curves.png"
    text.write_text(curves_markdown(records), encoding="utf-8")
    curves_figure(records).savefig(picture, dpi=120)
    return [text, picture]


def curves_markdown(records: Sequence[dict[str, Any]]) -> str:
    """For each network: the three areas by imputer, the comparisons, and the conditions."""
    lines = [
        "# Perturbation curves on Q",
        "",
        "Pixels go in the order of a map, and Q is measured on what is left. Means over faces; in "
        "brackets 95 % bootstrap intervals over faces.",
        "",
        *(f"- `{name}`: {meaning}" for name, meaning in METRICS.items()),
        "",
        "Inserting the best pixels first is removing the worst first, backwards, so `morf` is also "
        "the deletion area and `lerf` the insertion area. Neither says anything alone: both depend "
        "on what removed pixels become. A map of a network with random weights is measured on "
        "that network, and its areas compare with nothing but its own `srg` with 0.",
        "",
    ]
    for record in records:
        lines += _of_network(record)
    return "\n".join(lines)


def _of_network(record: dict[str, Any]) -> list[str]:
    imputers, estimates = record["settings"]["imputers"], record["estimates"]
    lines = [f"## {record['model']}", ""]
    if record["faces"]["warning"]:
        lines += [f"**{record['faces']['warning']}**", ""]
    head = ["method", *(f"{metric}, {imputer}" for imputer in imputers for metric in METRICS)]
    cells = []
    for name in estimates["srg"]:
        line = [name]
        for imputer in imputers:
            for metric in METRICS:
                x = estimates[metric].get(name, {}).get(f"imputer={imputer}")
                if metric == "srg":
                    line.append("" if x is None else _small(x["mean"], x["low"], x["high"]))
                else:
                    line.append(number(None if x is None else x["mean"], ".4f"))
        cells.append(line)
    lines += [*table(head, cells), ""]
    if record["comparisons"].get("srg"):
        lines += [f"### srg: difference to {record['against']}", ""]
        rows = [
            [name, _small(x["difference"], x["low"], x["high"]), number(x["p_holm"], ".2g")]
            for name, x in record["comparisons"]["srg"].items()
        ]
        lines += [*table(["method", "difference", "p, Wilcoxon, Holm"], rows), ""]
    lines += [f"- `{name}` failed here: {reason}" for name, reason in record["failed"].items()]
    return [*lines, about(record), ""]


def _small(mean: float, low: float | None, high: float | None) -> str:
    """SRG is a few hundredths: four digits."""
    bounds = "" if low is None or high is None else f" [{low:+.4f}, {high:+.4f}]"
    return f"{mean:+.4f}{bounds}"


def curves_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Q along the mean curves, see :func:`~benchmarks.protocols.curve_panels.curve_panels`."""
    return curve_panels(records, lambda _, own: own, lambda _: "Q", width=5.2, unit="faces")
