"""The command line of faces that do not fit the reference, and their page."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_metric_report import interval, write_metric_report
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import table, write_json
from benchmarks.protocols.inpainting_cli import AddOptions, RunStudies
from benchmarks.protocols.out_of_domain import METRICS, Misfit
from benchmarks.subjects.face_sets import FaceSets

__all__ = ["add_misfit"]

_INTRODUCTION = (
    "Faces that do not fit the reference",
    "Each face is changed, or the reference is; then a square is put on, black, of the image's "
    "mean colour, or of noise, a third of the faces each. Means over faces; in brackets 95 % "
    "bootstrap intervals. The reference is of other people than those evaluated, always. The first "
    "table is over all conditions.",
)


def add_misfit(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("misfit", help="do relative maps survive a bad fit?")
    add_options(parser)
    parser.add_argument("--size", default=Misfit.size, type=int, help="of squares (default: 30)")
    parser.set_defaults(run=lambda given: _misfit(given, run))


def _misfit(given: argparse.Namespace, run: RunStudies) -> int:
    def protocol(faces: FaceSets) -> Misfit:
        return Misfit(faces.names, faces.reference, given.size, given.seed)

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study,
            context.methods,
            list(METRICS),
            ("condition", "fill"),
            compared=("auroc_gain",),
            seed=given.seed,
        )
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)

    run(given, protocol, finish)
    print(write_metric_report(given.output, "misfit", _INTRODUCTION, METRICS, extra=_conditions))
    return 0


def _conditions(record: dict[str, Any]) -> list[str]:
    """A table per metric: condition × method."""
    lines: list[str] = []
    groups = [f"condition={name}" for name in record["settings"]["conditions"]]
    groups += [f"fill={name}" for name in record["settings"]["fills"]]
    for metric in METRICS:
        found = record["estimates"][metric]
        rows = [
            [group.partition("=")[2], *(interval(own.get(group), 2) for own in found.values())]
            for group in groups
        ]
        lines += [f"### {metric}", "", *table(["", *found], rows), ""]
    return lines
