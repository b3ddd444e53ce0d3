"""The commands over all protocols: ``all``, ``report``, ``readme`` and ``amend``."""

from __future__ import annotations

import shlex
import traceback
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import ExistingFile

from benchmarks.harness.options import Device, Output
from benchmarks.harness.protocol import RESULTS, read_record, write_record
from benchmarks.harness.study import MapStudy
from benchmarks.protocols import PROTOCOLS, protocol
from benchmarks.report.amend import amended
from benchmarks.report.arena import SOURCES
from benchmarks.report.arena_figure import write_arena
from benchmarks.report.pages import write_overview
from benchmarks.report.readme import PAGES, refresh_figures, refreshed


def quick_commands(output: Path, device: str) -> Iterator[str]:
    """Yield the command lines of a small run of everything, on what the package ships alone."""
    for name in PROTOCOLS:
        if quick := protocol(name).quick:
            given = quick | {"device": device, "output": str(output)}
            yield shlex.join([name, *chain(*((f"--{key}", value) for key, value in given.items()))])


def run_all(
    *, output: Output, quick: Annotated[bool, Parameter(negative=())], device: Device = "cpu"
) -> int:
    """Run every protocol in turn, then the report.

    Args:

        output (Path): Folder of the results.
        quick (bool): On variants of the sample face: shows that all runs, not more; runs on faces
            are one command per protocol.
        device (str): Where to measure.

    Returns:
        *int*: 2 if one of them failed.
    """
    from benchmarks.__main__ import main

    failed = []
    for command in quick_commands(output, device) if quick else ():
        print(f"\npython -m benchmarks {command}", flush=True)
        try:
            # 1 is a void timing, which costs the rest nothing.
            done = main(shlex.split(command)) != 2
        except Exception:  # whatever is wrong with one protocol, the others go on
            traceback.print_exc()
            done = False
        if not done:
            failed.append(command)
    report(output=output)
    for command in failed:
        print(f"failed: python -m benchmarks {command}")
    return 2 if failed else 0


def report(*, output: Output = RESULTS) -> int:
    """Write one table over all summaries in a folder, and one over all scores.

    Args:

        output (Path): Folder of the results.
    """
    scores = any(next(output.glob(pattern), None) for pattern in SOURCES)
    for path in [*write_overview(output), *(write_arena(output) if scores else [])]:
        print(path)
    return 0


def readme(*, output: Output = RESULTS) -> int:
    """Make tables and figures of the README files anew.

    Args:

        output (Path): Folder of the results.
    """
    for page in map(Path, PAGES):
        page.write_text(refreshed(page.read_text("utf-8"), output), encoding="utf-8")
        print(page)
    for figure in refresh_figures(Path()):
        print(figure)
    return 0


def amend(summary: ExistingFile, /, *, why: str, output: Output = RESULTS) -> int:
    """Put methods that were measured again into a summary.

    Args:

        summary (Path): Of the new run, of a protocol that scores maps.
        why (str): For what reason; it goes into the summary and onto its page.
        output (Path): Folder of the summary that stands.
    """
    run, path = read_record(summary), output / summary.name
    own = protocol(run["protocol"]) if run["protocol"] in PROTOCOLS else None
    if own is None or not issubclass(own, MapStudy):
        raise ValueError(f"{summary} is of {run['protocol']}, which scores no maps.")
    print(write_record(path, amended(read_record(path), run, why)))
    own.write(output)
    return 0
