"""The command line of Captum's own metrics, and their page."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_metric_report import write_metric_report
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.captum_metrics import METRICS, PERTURBATIONS, CaptumMetrics
from benchmarks.protocols.inpainting_cli import AddOptions, RunStudies

__all__ = ["add_captum_metrics"]

_INTRODUCTION = (
    "Captum's own metrics",
    "Means over faces; in brackets 95 % bootstrap intervals over faces. A map on random weights is "
    "measured on that network. Sensitivity and sparseness do not depend on what an image is "
    "changed to for infidelity, and stand in the first table only.",
)


def add_captum_metrics(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("captum", help="infidelity, sensitivity, sparseness")
    add_options(parser)
    default = CaptumMetrics()
    add = parser.add_argument
    add(
        "--perturbations",
        default=",".join(default.perturbations),
        metavar="NAMES",
        help=f"of {', '.join(PERTURBATIONS)} (default: both)",
    )
    add("--samples", default=default.samples, type=int, help="for infidelity (default: 30)")
    add("--draws", default=default.draws, type=int, help="for sensitivity (default: 5)")
    parser.set_defaults(run=lambda given: _captum(given, run))


def _captum(given: argparse.Namespace, run: RunStudies) -> int:
    perturbations = tuple(word.strip() for word in given.perturbations.split(","))
    protocol = CaptumMetrics(perturbations, given.samples, given.draws, seed=given.seed)

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study,
            context.methods,
            list(METRICS),
            ("perturbation",),
            compared=("infidelity_node", "infidelity_serfiq", "sensitivity"),
            seed=given.seed,
        )
        record["groups"] = [f"perturbation={name}" for name in perturbations]
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)

    run(given, lambda _: protocol, finish)
    print(write_metric_report(given.output, "captum", _INTRODUCTION, METRICS))
    return 0
