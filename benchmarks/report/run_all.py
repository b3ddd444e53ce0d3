"""``all``: every protocol in turn; ``report`` and ``readme``, over what they found."""

from __future__ import annotations

import argparse
import shlex
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.overview_report import write_overview
from benchmarks.report.readme import PAGES, refresh_figures, refreshed

__all__ = ["add_everything", "quick_commands"]

Main = Callable[[Sequence[str]], int]
"""Runs one command line."""

_RESULTS = Path("benchmarks/results")
_NETWORK = "mobilefacenet-dropout"
_MAPS = (
    "plq,plq-signed,plq-serfiq,plq-directions-4,plq-relative,saliency-sum,input-x-gradient,"
    "input-x-gradient-relative,random,centre"
)


def quick_commands(output: Path, device: str) -> list[str]:
    """The command lines of a small run of everything, on what the package ships alone."""
    where = f"--device {device} -o {shlex.quote(str(output))}"
    few = f"--model {_NETWORK} --faces 6 --reference 12 --batch 6 {where}"
    maps = f"--methods {_MAPS} --random-weights plq,plq-relative"
    return [
        f"speed --model tiny --rounds 5 {where}",
        f"scaling --model tiny --batches 1,2,4 --m 20,50 --rounds 3 {where}",
        f"map-time {few} --methods {_MAPS} --random-weights none --rounds 3",
        f"random-mask {few} {maps} --sizes 10,30 --per-face 4",
        f"misfit --model {_NETWORK} --faces 2 --reference 12 --batch 2 {where} "
        "--methods plq,plq-relative --random-weights none",
        f"inpainting {few} {maps} --occluders square,hand --runs 3",
        f"curves {few} {maps} --imputers mean,road --steps 5",
        f"standards {few} --methods plq,plq-relative --random-weights none",
        f"recognition {few} {maps} --imputers mean --steps 5 --orders 3",
        f"captum {few} {maps} --samples 10 --draws 3",
        f"sanity {few} {maps} --samples 2 --stages 3 --others 3",
    ]


def add_everything(protocols: Any, main: Main) -> None:
    """Adds ``all``, ``report`` and ``readme`` to the subparsers of the command line.

    Args:

        protocols (subparsers): Of argparse.
        main (Callable): Runs a command line.
    """
    every = protocols.add_parser("all", help="a small run of every protocol, and the report")
    every.add_argument("--quick", action="store_true", required=True,
                       help="on variants of the sample face: shows that all runs, not more; runs "
                       "on faces are one command per protocol")  # fmt: skip
    every.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    every.add_argument("-o", "--output", required=True, type=Path, metavar="DIR")
    every.set_defaults(run=lambda given: _all(given, main))
    report = protocols.add_parser("report", help="one table over all summaries in a folder")
    report.add_argument("-o", "--output", default=_RESULTS, type=Path, metavar="DIR")
    report.set_defaults(run=_report)
    readme = protocols.add_parser("readme", help="tables and figure of the README files, made anew")
    readme.add_argument("-o", "--output", default=_RESULTS, type=Path, metavar="DIR")
    readme.set_defaults(run=_readme)


def _all(given: argparse.Namespace, main: Main) -> int:
    failed = []
    for command in quick_commands(given.output, given.device):
        print(f"\npython -m benchmarks {command}", flush=True)
        try:
            # 1 is a void timing, which costs the rest nothing.
            done = main(shlex.split(command)) != 2
        except Exception:  # whatever is wrong with one protocol, the others go on
            traceback.print_exc()
            done = False
        if not done:
            failed.append(command)
    _report(given)
    for command in failed:
        print(f"failed: python -m benchmarks {command}")
    return 2 if failed else 0


def _report(given: argparse.Namespace) -> int:
    for path in write_overview(given.output):
        print(path)
    return 0


def _readme(given: argparse.Namespace) -> int:
    for page in map(Path, PAGES):
        page.write_text(refreshed(page.read_text("utf-8"), given.output), encoding="utf-8")
        print(page)
    for figure in refresh_figures(Path()):
        print(figure)
    return 0
