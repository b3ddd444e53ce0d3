"""The command line of the times of maps."""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.harness.old_study_cli import add_study_options, positive, subjects
from benchmarks.protocols.map_time import REFERENCE, measure_map_times, write_map_time_report

__all__ = ["add_map_time"]


def add_map_time(protocols: Any) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("map-time", help="what does each map cost, from image to map?")
    add_study_options(parser)
    add = parser.add_argument
    add("--rounds", default=7, type=positive, help="interleaved (default: 7)")
    add("--slow-rounds", default=3, type=positive, help="of these, for slow maps (default: 3)")
    parser.set_defaults(run=_map_time)


def _map_time(given: argparse.Namespace) -> int:
    if REFERENCE not in given.methods and not {"all", "fast"} & set(given.methods):
        given.methods = [*given.methods, REFERENCE]
    void = False
    for name in given.model:
        with subjects(given, name) as subject:
            parameter = next(subject.context.model.parameters())
            times = measure_map_times(
                subject.context,
                subject.faces.images[: given.batch].to(parameter),
                subject.conditions,
                rounds=given.rounds,
                slow_rounds=given.slow_rounds,
            )
        void = void or times.void
        print(times.write(given.output), "(void)" if times.void else "", flush=True)
    print(write_map_time_report(given.output))
    return int(void)
