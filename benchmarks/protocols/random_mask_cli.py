"""The command line of the random masks."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Study
from benchmarks.harness.old_study_cli import (
    add_study_options,
    numbers,
    positive,
    run_studies,
    words,
)
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.random_mask import METRICS, RandomMask
from benchmarks.protocols.random_mask_example import example_figure
from benchmarks.protocols.random_mask_report import distributions, write_random_mask_report
from benchmarks.protocols.random_squares import FILLS
from benchmarks.subjects.face_sets import FaceSets

__all__ = ["add_random_mask"]


def add_random_mask(protocols: Any) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("random-mask", help="do maps see a square on a face?")
    add_study_options(parser)
    add = parser.add_argument
    add("--sizes", default=[10, 20, 30, 40, 50], type=numbers, metavar="N[,N...]", help="pixels")
    add("--fills", default=list(FILLS), type=words, help=f"of {', '.join(FILLS)} (default: all)")
    add(
        "--per-face",
        type=positive,
        metavar="K",
        help="size × fill combinations per face, in balanced rotation (default: all)",
    )
    parser.set_defaults(run=_random_mask)


def _random_mask(given: argparse.Namespace) -> int:
    def protocol(faces: FaceSets) -> RandomMask:
        return RandomMask(
            faces.names,
            faces.reference,
            tuple(given.sizes),
            tuple(given.fills),
            given.per_face,
            given.seed,
        )

    def finish(study: Study, context: StudyContext) -> None:
        rows = context.model.spec.input_size[0]
        for row in study.rows:
            row["middle"] = row["fill"] if 20 <= 112 * row["size"] / rows <= 40 else "no"
        record = summarise(
            study,
            context.methods,
            list(METRICS),
            ("size", "fill", "middle"),
            compared=("auroc", "auroc_gain", "pixel_contrast"),
            seed=given.seed,
        )
        record["distributions"] = distributions(study, given.sizes)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)
        picture = given.output / f"{study.stem}.png"
        example_figure(context, given.sizes, given.fills[0], given.seed).savefig(picture, dpi=80)
        print(picture)

    run_studies(given, protocol, finish)
    for path in write_random_mask_report(given.output):
        print(path)
    return 0
