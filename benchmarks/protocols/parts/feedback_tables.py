"""The tables of the page on feedback."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.environment import dated
from benchmarks.harness.pages import estimate, table
from benchmarks.harness.protocol import Record
from benchmarks.protocols.parts.drawn_causes import CAUSES

__all__ = ["EIGENFACES", "MAP", "RANDOM", "WHOLE", "feedback_tables"]

MAP, RANDOM, EIGENFACES, WHOLE = "local quality", "random weights", "eigenfaces", "no map"
"""What tells the rules of regions."""


def feedback_tables(record: Record) -> list[str]:
    """Return the lines of a record of :class:`~benchmarks.protocols.feedback.FeedbackCauses`."""
    evidence: dict[str, Any] = record["evidence"]
    rows = []
    for name, own in evidence.items():
        cells = [estimate(own[key][what], ".2f" if what == "macro_f1" else ".3f")
                 for key in ("table", "set") for what in ("macro_f1", "clean")]  # fmt: skip
        rows.append([name if name == MAP else f"*{name}*", *cells])
    rows.append(["*majority class*", estimate(record["majority"], ".2f"), "", "", ""])
    head = ["evidence of regions", "macro F1", "clean left alone", "macro F1, limits set for it",
            "clean left alone"]  # fmt: skip
    own = evidence[MAP]["table"]
    causes = [
        [
            f"{drawn} → {CAUSES[drawn]}",
            *(f"{x[key]:.2f}" for key in ("precision", "recall", "f1")),
            f"{evidence[WHOLE]['table']['causes'][drawn]['f1']:.2f}",
        ]
        for drawn, x in own["causes"].items()
    ]
    named = [
        [drawn, *map(str, counts)] for drawn, counts in zip(CAUSES, own["confusion"], strict=True)
    ]
    weak, seconds = record["weak"], record["seconds"]
    told = [
        f"{word}: {x['reasons']}" + ("" if x["right"] is None else f", {x['right']:.0%} right")
        for word, x in weak.items()
    ]
    people = ", ".join(f"{count} of fold {fold}" for fold, count in record["people"].items())
    standard = "the network's calibration" if record["calibrated"] else "the reference people"
    lines = [
        *table(head, rows), "", "With the limits of the table of rules:", "",
        *table(["drawn → to be named", "precision", "recall", "F1", "F1, no map"], causes), "",
        *table(["drawn, and what is named", *own["heads"]], named), "",
        f"First reasons that are called weak and those that are not: {'; '.join(told)}.", "",
    ]  # fmt: skip
    if seconds:
        lines += [
            f"From a photo of 512 × 512 pixels to verdict and reasons, detection included, after "
            f"the first: {seconds['median']:.2f} s (median of {seconds['photos']}; 80 % within "
            f"{seconds['low']:.2f} to {seconds['high']:.2f}).", "",
        ]  # fmt: skip
    return [
        *lines,
        f"{record['source']}. People of {record['images']}, one face each: {people}; "
        f"{record['reference']} people of other folds as reference. Good faces' losses: those of "
        f"{standard}. {dated(record['conditions'])}.",
        "",
    ]
