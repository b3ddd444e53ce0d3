"""The command line of the inpainting protocol."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Study, StudyProtocol
from benchmarks.harness.old_summary import summarise
from benchmarks.harness.tables import write_json
from benchmarks.protocols.inpainting import METRICS, Inpainting
from benchmarks.protocols.inpainting_example import inpainting_example
from benchmarks.protocols.inpainting_report import qualities, write_inpainting_report
from benchmarks.protocols.region_controls import CONTROLS
from benchmarks.subjects.face_sets import FaceSets
from benchmarks.subjects.occluders import OCCLUDERS
from captum_plq.faces.inpaint import InpaintMethod

__all__ = ["AddOptions", "Finish", "RunStudies", "add_inpainting"]

AddOptions = Callable[[argparse.ArgumentParser], None]
"""Adds the options that all protocols of this kind have."""
Finish = Callable[[Study, StudyContext], None]
"""Keeps what a study has found."""
RunStudies = Callable[[argparse.Namespace, Callable[[FaceSets], StudyProtocol], Finish], None]
"""Runs a protocol on every network and hands each study on."""


def add_inpainting(protocols: Any, add_options: AddOptions, run: RunStudies) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("inpainting", help="does painting over low pixels raise Q?")
    add_options(parser)
    default = Inpainting()
    add = parser.add_argument
    add(
        "--occluders",
        default=",".join(default.occluders),
        metavar="NAMES",
        help=f"of {', '.join(OCCLUDERS)} (default: {','.join(default.occluders)})",
    )
    add("--inpainting", default=default.inpainting, choices=get_args(InpaintMethod))
    add("--pool", default=default.pool, type=int, help="box that maps are averaged over, in pixels")
    add("--runs", default=default.runs, type=int, help="of SER-FIQ per quality (default: 10)")
    parser.set_defaults(run=lambda given: _inpainting(given, run))


def _inpainting(given: argparse.Namespace, run: RunStudies) -> int:
    occluders = tuple(word.strip() for word in given.occluders.split(","))
    protocol = Inpainting(occluders, given.inpainting, given.pool, given.runs, given.seed)

    def finish(study: Study, context: StudyContext) -> None:
        record = summarise(
            study,
            (*CONTROLS, *context.methods),
            list(METRICS),
            ("occluder", "harmful"),
            compared=("outcome", "quality_gain"),
            seed=given.seed,
        )
        record["qualities"] = qualities(study)
        print(write_json(record, given.output / f"{study.stem}.json"), flush=True)
        picture = given.output / f"{study.stem}.png"
        inpainting_example(context, protocol).savefig(picture, dpi=120)
        print(picture)

    run(given, lambda _: protocol, finish)
    for path in write_inpainting_report(given.output):
        print(path)
    return 0
