"""The command ``captum-plq score``: a whole gallery to one table of qualities."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from captum_plq.cli.options import (
    Aligned,
    Column,
    Estimating,
    OwnCalibration,
    Timeout,
    Whole,
    WorkerCount,
)
from captum_plq.cli.terminal import held, table, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from captum_plq.gallery import Progress, RunSummary, ScoreSettings

__all__ = ["command"]

_EVERY = 30.0
"""Seconds between two lines of progress, where there is no terminal to draw a bar on."""

command = App(
    "score",
    help_epilogue="""Examples:
  captum-plq score photos/ -o result
  captum-plq score crops.txt --aligned --batch-size 128 --device cuda -o result
  captum-plq score 'shards/*.tar' --all-faces --maps npz -o result
  captum-plq score photos/ --engine ray --address head:6379 --device cuda -o /shared/result""",
)


@dataclass(frozen=True, kw_only=True)
class Scoring(Estimating):
    """What decides about the rows, and how they are computed."""

    calibration: OwnCalibration = None
    aligned: Aligned = False
    all_faces: Annotated[
        bool, Parameter(help="A row for every face found.", show_default=False)
    ] = False
    maps: Annotated[
        Literal["none", "png", "npz"], Parameter(help="Keep maps of local quality, and how.")
    ] = "none"
    embeddings: Annotated[bool, Parameter(help="Keep embeddings.", show_default=False)] = False
    feedback: Annotated[
        bool,
        Parameter(help="Say of each face whether to take it again, and why.", show_default=False),
    ] = False
    batch_size: Annotated[Whole, Parameter(help="Images given to the network at once.")] = 16
    workers: WorkerCount = None
    shard_size: Annotated[Whole, Parameter(help="Images per file of the result.")] = 1024
    timeout: Timeout = 60.0

    def scoring(self) -> ScoreSettings:
        """Return the settings that these options ask for."""
        from captum_plq.gallery import ScoreSettings

        chosen: dict[str, Any] = dict(vars(self))
        chosen["checkpoint"] = None if self.checkpoint is None else str(self.checkpoint)
        return ScoreSettings(**chosen)


@command.default
def score(
    source: Annotated[
        str,
        Parameter(
            name="SOURCE",
            help="A folder, a pattern of files, a list (.txt), a table with a column of paths "
            "(.csv, .tsv, .parquet), or an archive (.tar).",
        ),
    ],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(name=("--output", "-o"), help="Folder of the result; a run goes on there."),
    ],
    column: Column = None,
    engine: Annotated[
        Literal["local", "ray"],
        Parameter(help="This machine, or a Ray cluster whose machines share SOURCE and RESULT."),
    ] = "local",
    address: Annotated[
        str | None,
        Parameter(
            help="HOST:PORT of the Ray cluster, or auto: the one that this machine is in. Default: "
            "what RAY_ADDRESS says, or else one of this machine alone."
        ),
    ] = None,
    retry: Annotated[
        bool,
        Parameter(
            help="Compute anew the files of an earlier run in which an image could not be looked "
            "at (status 'failed').",
            show_default=False,
        ),
    ] = False,
    options: Scoring = Scoring(),
) -> int:
    """Score a whole gallery: write a table of qualities, in Parquet files.

    An image that cannot be used becomes a row that says why. A run that was stopped goes on where
    it was: give the same command again.
    """
    from captum_plq._base.allocation import keep_freed_memory
    from captum_plq.gallery import score_gallery

    keep_freed_memory()
    settings = options.scoring()
    with _shown() as show:
        summary = score_gallery(
            source,
            output,
            settings,
            column=column,
            engine=engine,
            address=address,
            retry=retry,
            progress=show,
            undisturbed=held,
        )
    _summarise(summary)
    return 0 if summary.counts.get("ok") else 1


@contextmanager
def _shown() -> Iterator[Callable[[Progress], None]]:
    """Show progress as a bar if a person looks, or else as a line now and then."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from captum_plq.errors import extra

    with extra("gallery"):
        from tqdm import tqdm
    bar: Any = None

    def draw(progress: Progress) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=progress.total, initial=progress.before, unit=" images")
        if progress.note:
            bar.clear()
            tell(progress.note, error=True)
        bar.update(progress.done - bar.n)

    try:
        yield draw
    finally:
        if bar is not None:
            bar.close()


def _lines() -> Callable[[Progress], None]:
    last = 0.0
    began: tuple[float, int] | None = None

    def write(progress: Progress) -> None:
        nonlocal began, last
        now = time.monotonic()
        if progress.note:
            tell(progress.note, error=True)
        if began is None:
            began, last = (now, progress.done), now
        if now - last < _EVERY:
            return
        last = now
        rate = (progress.done - began[1]) / max(now - began[0], 1e-9)
        left = f", {_duration((progress.total - progress.done) / rate)} left" if rate > 0 else ""
        done = f"{progress.done:,} of {progress.total:,} images"
        tell(f"{done}, {rate:.1f} a second{left}", error=True)

    return write


def _summarise(summary: RunSummary) -> None:
    for note in summary.notes:
        tell(note)
    if summary.computed:
        rate = summary.computed / summary.elapsed
        took = f"{summary.computed:,} images in {_duration(summary.elapsed)}, {rate:.1f} a second"
    else:
        took = "all was done before"
    tell(f"{took}; {summary.directory} holds {summary.rows:,} rows of {summary.images:,} images")
    counts = [[word.replace("_", " "), f"{count:,}"] for word, count in summary.counts.items()]
    tell("\n".join(table(["rows", ""], counts, right=[1])), lines=True)
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
    tell(f"seconds in all processes and runs: {spent}")


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
