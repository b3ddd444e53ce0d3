"""Recognition along a map: its page and figure, made anew from all summaries in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness.old_metric_report import write_metric_report
from benchmarks.harness.old_study import Study
from benchmarks.harness.tables import read_json
from benchmarks.protocols.curve_panels import curve_panels
from benchmarks.protocols.recognition import METRICS

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

        study (Study): Its rows as from :func:`~benchmarks.protocols.recognition.with_errors`.

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
    if not _has_threshold(record):
        return ["One person only: there is no threshold, and so no false non-match rate.", ""]
    return [
        f"Recognised by {by}, a match from cosine {threshold['cosine']:.3f} on: a false match rate "
        f"of {threshold['fmr']:g} over {threshold['non_mated_pairs']} clean non-mated pairs.",
        "",
    ]


def recognition_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """False non-match rate along the mean curves, or the cosine where there is no threshold.

    See :func:`~benchmarks.protocols.curve_panels.curve_panels`.
    """

    def curves(record: dict[str, Any], own: dict[str, Any]) -> tuple[list[float], list[float]]:
        worst, best = own["fnmr" if _has_threshold(record) else "similarity"]
        return best, worst

    def measured(record: dict[str, Any]) -> str:
        return "false non-match rate" if _has_threshold(record) else "cosine"

    return curve_panels(records, curves, measured, width=4.2, unit="pairs")


def _has_threshold(record: dict[str, Any]) -> bool:
    return record["threshold"]["cosine"] is not None
