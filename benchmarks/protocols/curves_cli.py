"""The command line of the perturbation curves."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.context import StudyContext
from benchmarks.harness.study import Study
from benchmarks.harness.summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.curves import IMPUTERS, METRICS, Curves
from benchmarks.protocols.curves_report import mean_curves, write_curves_report
from benchmarks.protocols.inpainting_cli import AddOptions, RunStudies

__all__ = ["add_curves"]


def add_curves(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("curves", help="how does Q fall as pixels go by a map?")
    add_options(parser)
    default = Curves()
    add = parser.add_argument
    add(
        "--imputers",
        default=",".join(default.imputers),
        metavar="NAMES",
        help=f"of {', '.join(IMPUTERS)} (default: {','.join(default.imputers)})",
    )
    add("--steps", default=default.steps, type=int, help="along a curve (default: 10)")
    parser.set_defaults(run=lambda given: _curves(given, run))


def _curves(given: argparse.Namespace, run: RunStudies) -> int:
    imputers = tuple(word.strip() for word in given.imputers.split(","))
    protocol = Curves(imputers, given.steps, given.seed)

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study, context.methods, list(METRICS), ("imputer",), compared=("srg",), seed=given.seed
        )
        record["curves"] = mean_curves(study)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)

    run(given, lambda _: protocol, finish)
    for path in write_curves_report(given.output):
        print(path)
    return 0
