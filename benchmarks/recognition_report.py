"""Recognition along a map: its page and figure, made anew from all summaries in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.metric_report import write_metric_report
from benchmarks.recognition import METRICS
from benchmarks.study import Study
from benchmarks.study_report import line_styles
from benchmarks.tables import read_json

__all__ = ["mean_recognition_curves", "recognition_figure", "write_recognition_report"]

_INTRODUCTION = (
    "Recognition as pixels go by a map",
    "Pixels of the probe go in the order of a map; the gallery image and the threshold stay. Means "
    "over mated pairs of different people; in brackets 95 % bootstrap intervals over pairs. After "
    "the deletion and insertion evaluation curves of Huber et al., EUSIPCO 2022, in their manner.",
)


def mean_recognition_curves(study: Study) -> dict[str, Any]:
    """The mean over pairs of every curve.

    Args:

        study (Study): Its rows as from :func:`~benchmarks.recognition.with_errors`.

    Returns:
        *dict*: imputer → method → ``"fnmr"``, ``"similarity"``, ``"quality"`` → two curves,
        worst first and best first, or ``None``.
    """
    rows: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in study.rows:
        rows.setdefault(row["imputer"], {}).setdefault(row["method"], []).append(row)
    return {
        imputer: {
            method: {
                name: None
                if any(row[name] is None for row in own)
                else [
                    [float(f"{value:.5g}") for value in curve]
                    for curve in np.mean([row[name] for row in own], axis=0)
                ]
                for name in ("fnmr", "similarity", "quality")
            }
            for method, own in of.items()
        }
        for imputer, of in rows.items()
    }


def write_recognition_report(directory: Path) -> list[Path]:
    """Writes ``recognition.md`` and ``recognition.png`` over all ``recognition-*.json``.

    Raises:
        FileNotFoundError: if there are none.
    """
    records = read_json(directory, "recognition-*.json")
    page = write_metric_report(directory, "recognition", _INTRODUCTION, METRICS, extra=_threshold)
    picture = directory / "recognition.png"
    recognition_figure(records).savefig(picture, dpi=120)
    return [page, picture]


def _threshold(record: dict[str, Any]) -> list[str]:
    threshold, by = record["threshold"], record["settings"]["matcher_name"] or record["model"]
    if threshold["cosine"] is None:
        return ["One person only: there is no threshold, and so no false non-match rate.", ""]
    return [
        f"Recognised by {by}, a match from cosine {threshold['cosine']:.3f} on: a false match rate "
        f"of {threshold['fmr']:g} over {threshold['non_mated_pairs']} clean non-mated pairs.",
        "",
    ]


def recognition_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Mean curves, a row per network and a panel per imputer: worst first dashed.

    The false non-match rate, or where there is no threshold the cosine.

    Args:

        records (sequence of dict): Summaries, at least one.

    Returns:
        *Figure*: not known to pyplot.
    """
    columns = max(len(record["curves"]) for record in records)
    figure = Figure(figsize=(4.2 * columns + 2, 3.6 * len(records)), layout="constrained")
    panels = figure.subplots(len(records), columns, squeeze=False)
    for row, record in zip(panels, records, strict=True):
        name = "similarity" if record["threshold"]["cosine"] is None else "fnmr"
        for axes in row[len(record["curves"]) :]:
            axes.axis("off")
        for axes, (imputer, of) in zip(row, record["curves"].items(), strict=False):
            for method, style in line_styles(record, list(of)).items():
                worst, best = of[method][name]
                share = np.linspace(0, 100, len(worst))
                axes.plot(share, best, linewidth=1.6, label=method, **style)
                axes.plot(share, worst, linewidth=0.7, **style)
            axes.set_title(
                f"{record['model']}, {imputer}, {record['faces']['evaluated']} pairs", fontsize=9
            )
            axes.set_xlabel("pixels removed, %; thick: best first, thin: worst first", fontsize=8)
            axes.set_ylabel("false non-match rate" if name == "fnmr" else "cosine", fontsize=8)
            axes.tick_params(labelsize=7)
        row[len(record["curves"]) - 1].legend(
            fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    warnings = sorted({r["faces"]["warning"] for r in records if r["faces"]["warning"]})
    if warnings:
        figure.supxlabel(" ".join(warnings), fontsize=7)
    return figure
