"""Verdict and causes, in the rows of a result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.feedback import give_feedback
from captum_plq.gallery.compute import FaceScorer, Measured
from captum_plq.gallery.schema import lost_column

__all__ = ["add_feedback"]


def add_feedback(
    rows: Sequence[dict[str, Any]],
    chips: NDArray[np.uint8],
    measured: Measured,
    scorer: FaceScorer,
) -> None:
    """Write verdict and causes into the rows of faces that have a quality.

    Args:

        rows (sequence of dict): One per face.
        chips (ndarray): (n, H, W, 3), uint8, RGB: the faces.
        measured (Measured): Of these faces.
        scorer (FaceScorer): What they were measured with.
    """
    columns = measured.columns
    lost = [columns[lost_column(region)] for region in scorer.regions]
    for i, row in enumerate(rows):
        if i in measured.refused:
            continue
        points = row.get("landmarks")
        found = give_feedback(
            chips[i],
            scorer.spec,
            landmarks=None if points is None else np.reshape(points, (5, 2)).astype(np.float64),
            detector_score=row.get("detector_score"),
            cut_off=row.get("cut_off"),
            scaled_quality=(
                float(columns["scaled_quality"][i]) if "scaled_quality" in columns else None
            ),
            lost=[float(values[i]) for values in lost] or None,
            calibration=scorer.calibration,
        )
        row["verdict"] = found.verdict
        row["causes"] = [reason.cause for reason in found.reasons]
        row["weak"] = [reason.weak for reason in found.reasons]
