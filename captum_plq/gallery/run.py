"""A run over a gallery: it goes on where an earlier one stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from captum_plq._base.choices import require_choice
from captum_plq._base.folder_lock import folder_lock
from captum_plq._base.whole_file import write_json
from captum_plq.gallery.compute import FaceScorer
from captum_plq.gallery.manifest import Manifest, open_manifest
from captum_plq.gallery.ray_engine import work_on_ray
from captum_plq.gallery.ray_worker import Order
from captum_plq.gallery.score import (
    MeasuredChunk,
    Scored,
    assembled,
    measured_chunks,
    preparation_of,
    schema_of,
)
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.gallery.shards import make_folders, shards_to_do, write_shard
from captum_plq.models import FaceModel
from captum_plq.preparation import Entries, Preparation, Waited, chunks_of, list_entries

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Engine",
    "Progress",
    "RunSummary",
    "finish_run",
    "score_gallery",
]

Engine = Literal["local", "ray"]
"""Who computes: this machine, or a Ray cluster."""


class Progress(NamedTuple):
    """How far a run is.

    Args:

        done (int): Images done, those of earlier runs among them.
        total (int): Images of the source.
        before (int): Images that earlier runs have done.
        note (str): What has happened, if something has.
    """

    done: int
    total: int
    before: int
    note: str = ""


@dataclass(frozen=True)
class RunSummary:
    """What a run over a gallery has done.

    Args:

        directory (Path): The result.
        images (int): In the source.
        computed (int): Images that this run has done.
        rows (int): In the result.
        counts (dict[str, int]): Rows that are ``"ok"``, and for each reason those that are not.
        seconds (dict[str, float]): Spent on each stage, in all threads, processes and runs
            together; ``wait`` for images by the one that hands them out.
        elapsed (float): Seconds that this run took.
        notes (list[str]): What a reader of the numbers must be told.
    """

    directory: Path
    images: int
    computed: int
    rows: int
    counts: dict[str, int]
    seconds: dict[str, float]
    elapsed: float
    notes: list[str] = field(default_factory=list)


def score_gallery(
    source: str | os.PathLike[str],
    result: str | os.PathLike[str],
    settings: ScoreSettings | None = None,
    *,
    column: str | None = None,
    model: FaceModel | None = None,
    engine: Engine = "local",
    address: str | None = None,
    retry: bool = False,
    progress: Callable[[Progress], None] | None = None,
    undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> RunSummary:
    """Score all images of a source, into a folder of Parquet files.

    Files are written shard by shard, each whole or not at all. A run that was killed, or that a
    full disk or a vanished source ended, goes on where it stopped when it is called again in the
    same way: finished shards are checked and not computed again, and the rows are those of a run
    that nothing has disturbed. An image that cannot be used is a row that says why.

    Args:

        source (str or PathLike): As for :func:`~captum_plq.preparation.list_entries`.
        result (str or PathLike): The folder; made if it is missing. One run at a time.
        settings (ScoreSettings, optional): The choices. Default: ``ScoreSettings()``.
        column (str, optional): Of a table, the one of paths.
        model (FaceModel, optional): In place of the one that ``settings`` name.
        engine (str): ``"local"``, or ``"ray"``: the machines of a Ray cluster, on all of which
            ``source`` and ``result`` must be found under the same name. The rows are the same.
        address (str, optional): Of the Ray cluster, ``"HOST:PORT"`` or ``"auto"``. ``None``: what
            ``RAY_ADDRESS`` says, or else one of this machine alone.
        retry (bool): Compute anew the shards of an earlier run in which an image ``"failed"``: it
            was missing, unreadable, too slow, or ended a process, and may be there now.
        progress (Callable, optional): Told how far the run is, after each batch; with Ray, after
            each shard.
        undisturbed (Callable, optional): Makes a context in which a shard is written and noted,
            such as one that holds signals.

    Returns:
        *RunSummary*: of the whole result.

    Raises:
        FileNotFoundError: if there is no such source.
        SourceGoneError: if it vanishes. Call again when it is back.
        ValueError: for a bad parameter; if the result was begun with other parameters, another
            network or another source; if another run writes to it.
        OSError: if a file of the result cannot be written.
        RuntimeError: if the network or its device fails.
        MissingExtraError: if the extra ``gallery``, or ``ray``, is not installed.

    Examples::

        >>> summary = score_gallery("photos.txt", "result", ScoreSettings(passes=5, workers=0))
        >>> read_result("result").table(["path", "quality"])
    """
    began, settings = time.perf_counter(), settings or ScoreSettings()
    require_choice("engine", engine, Engine)
    if address is not None and engine != "ray":
        raise ValueError("An address is one of a Ray cluster: ask for the engine 'ray' too.")
    entries = list_entries(source, column)
    anchor = entries.anchor()
    if not os.path.exists(anchor):
        raise FileNotFoundError(
            f"There is no {anchor}, where all images of {os.fspath(source)} should be (relative "
            f"paths start from {entries.root})."
        )
    here = settings if engine == "local" else replace(settings, device="cpu")  # it only leads
    scorer, directory = FaceScorer(here, model), Path(result)
    told = {"root": entries.root, "images": len(entries)}
    schema = schema_of(scorer, settings, told)
    with folder_lock(directory) as lock:
        identity = {
            "parameters": settings.deciding(),
            **scorer.identity(),
            "source": entries.identity(),
        }
        with open_manifest(directory, identity) as manifest:
            make_folders(directory, settings.maps)
            todo = shards_to_do(manifest, entries, settings, schema, retry)
            before = len(entries) - _images(todo, entries, settings)
            tell = _Teller(progress, before, len(entries))
            if engine == "ray":
                known = scorer.identity()
                order = Order(entries, anchor, settings, known, schema, told, model)
                work_on_ray(order, todo, manifest, tell, undisturbed, address)
            else:
                how = preparation_of(scorer, settings, anchor)
                run = _Run(entries, settings, scorer, how, schema, manifest, lock, undisturbed)
                run.tell = tell
                run.work(todo)
            return finish_run(manifest, entries, before, began, scorer.notes)


def finish_run(
    manifest: Manifest, entries: Entries, before: int, began: float, notes: list[str]
) -> RunSummary:
    """Write the summary of a result all of whose shards are done.

    Args:

        manifest (Manifest): Of the result.
        entries (Entries): The source.
        before (int): Images that earlier runs have done.
        began (float): When this run began, of ``time.perf_counter``.
        notes (list[str]): What a reader must be told.

    Returns:
        *RunSummary*: also in ``summary.json``.
    """
    summary = RunSummary(
        directory=manifest.directory,
        images=len(entries),
        computed=len(entries) - before,
        rows=sum(record["rows"] for record in manifest.records.values()),
        counts=dict(manifest.counts().most_common()),
        seconds={stage: round(spent, 3) for stage, spent in manifest.seconds().items()},
        elapsed=time.perf_counter() - began,
        notes=notes,
    )
    told = {name: value for name, value in vars(summary).items() if name != "directory"}
    write_json(manifest.directory / "summary.json", told, follow=False)
    return summary


def _images(shards: Iterable[int], entries: Entries, settings: ScoreSettings) -> int:
    return sum(len(settings.places_of(shard, len(entries))) for shard in shards)


class _Teller:
    """Counts images, and tells of them."""

    def __init__(self, tell: Callable[[Progress], None] | None, before: int, total: int) -> None:
        self._tell, self.done = tell, before
        self.before, self.total = before, total

    def __call__(self, images: int, note: str = "") -> None:
        self.done += images
        if self._tell is not None:
            self._tell(Progress(self.done, self.total, self.before, note))


@dataclass
class _Run:
    """The engine of this machine."""

    entries: Entries
    settings: ScoreSettings
    scorer: FaceScorer
    how: Preparation
    schema: pa.Schema
    manifest: Manifest
    lock: int
    undisturbed: Callable[[], AbstractContextManager[None]]
    tell: Callable[[int, str], None] = lambda images, note: None

    def work(self, todo: list[int]) -> None:
        """Score shards in order, and write each when it is complete."""
        places, workers = self.settings.chunks(todo, len(self.entries)), self.settings.processes
        tell = partial(self.tell, 0)
        chunks = chunks_of(self.entries, places, self.how, workers(self.lock), tell)
        self._waited = Waited(chunks)
        with closing(measured_chunks(self._waited, self.scorer, self.settings)) as measured:
            for shard, own in groupby(measured, self._shard_of):
                self._write(shard, assembled(self._told(own), self.settings, self.schema))

    def _write(self, shard: int, scored: Scored) -> None:
        start = time.perf_counter()
        try:
            with self.undisturbed():
                record = write_shard(self.manifest.directory, shard, scored, self.settings.maps)
                record["seconds"]["write"] = time.perf_counter() - start
                record["seconds"]["wait"] = self._waited.seconds
                self.manifest.note(record)
        except OSError as error:
            raise OSError(
                f"{self.manifest.directory} cannot be written to ({error.strerror or error}): mend "
                "that, and run the same again to go on."
            ) from error
        self._waited.seconds = 0.0

    def _shard_of(self, measured: MeasuredChunk) -> int:
        return measured.chunk.start // self.settings.shard_size

    def _told(self, measured: Iterable[MeasuredChunk]) -> Iterator[MeasuredChunk]:
        """Pass on what was measured, and tell of it."""
        for one in measured:
            yield one
            self.tell(one.chunk.entries, "")
