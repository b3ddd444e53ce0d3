"""The command line of error versus discard."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness.old_study_cli import positive, words
from benchmarks.harness.tables import write_json
from benchmarks.protocols.edc import measure_edc
from benchmarks.protocols.edc_report import write_edc_report
from captum_plq.models import load_model

__all__ = ["add_edc"]


def add_edc(protocols: Any) -> None:
    """Adds the protocol to the subparsers of the command line."""
    parser = protocols.add_parser("edc", help="does recognition err less without low qualities?")
    add = parser.add_argument
    add("--model", required=True, type=words, help="names or .py files of face networks")
    add("--device", default="cpu", choices=["cpu", "cuda"])
    add("--images", required=True, type=Path, metavar="DIR", help="a folder laid out like LFW")
    add("--pairs", required=True, type=Path, metavar="FILE", help="CSV: fold,first,second,mated")
    add("--fmr", default=1e-3, type=float, help="of clean pairs, for the threshold (default: .001)")
    add("--passes", default=100, type=positive, help="m of SER-FIQ (default: 100)")
    add("--dropout", default=0.5, type=float, help="p of SER-FIQ (default: 0.5)")
    add("--batch", default=16, type=positive, help="images at a time (default: 16)")
    add("--threads", type=positive, help="of the CPU (default: torch's own choice)")
    add("--seed", default=0, type=int)
    output = Path("benchmarks/results")
    add("-o", "--output", default=output, type=Path, metavar="DIR")
    parser.set_defaults(run=_edc)


def _edc(given: argparse.Namespace) -> int:
    for name in given.model:

        def progress(text: str, name: str = name) -> None:
            print(f"{name}: {text}", file=sys.stderr, flush=True)

        result = measure_edc(
            load_model(name),
            given.images,
            given.pairs,
            fmr=given.fmr,
            passes=given.passes,
            dropout=given.dropout,
            seed=given.seed,
            device=given.device,
            threads=given.threads,
            batch=given.batch,
            progress=progress,
        )
        print(write_json(result.to_json(), given.output / f"{result.stem}.json"), flush=True)
    for path in write_edc_report(given.output):
        print(path)
    return 0
