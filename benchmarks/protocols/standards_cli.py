"""The command line of the violations of the photo standards."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.inpainting_cli import AddOptions, RunStudies
from benchmarks.protocols.standards import METRICS, Standards
from benchmarks.protocols.standards_report import standards_example, write_standards_report

__all__ = ["add_standards"]


def add_standards(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("standards", help="faces that violate the photo standards")
    add_options(parser)
    parser.add_argument("--kinds", metavar="NAMES", help="of them (default: all)")
    parser.set_defaults(run=lambda given: _standards(given, run))


def _standards(given: argparse.Namespace, run: RunStudies) -> int:
    protocol = Standards()
    if given.kinds is not None:
        protocol = Standards(tuple(word.strip() for word in given.kinds.split(",")))

    def finish(study: Study, context: StudyContext) -> None:
        for row in study.rows:
            row["cell"] = f"{row['kind']} {row['severity']}"
        record = summarise(
            study, context.methods, list(METRICS), ("kind", "severity", "cell"), seed=given.seed
        )
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)
        picture = given.output / f"{study.stem}.png"
        standards_example(context, protocol).savefig(picture, dpi=80)
        print(picture)

    run(given, lambda _: protocol, finish)
    print(write_standards_report(given.output))
    return 0
