"""Preparing entries in worker processes, by PyTorch's loader, and what to do when one is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from captum_plq.gallery.prepare import Chunk, Preparation, lost_chunk, prepare_chunk
from captum_plq.gallery.settings import ScoreSettings
from captum_plq.gallery.source import Entries, SourceGoneError

__all__ = ["Waited", "chunks_of", "chunks_one_by_one", "is_lost_worker"]

_GRACE = 30.0
_PATIENCE = 5.0
_TRIES = 2
_AHEAD = 4
_LOST = ("DataLoader worker", "DataLoader timed out", "Pin memory thread")


class _Chunks(Dataset["Chunk | Exception"]):
    """Prepares entries from one place to before another, or tells why all has to end."""

    def __init__(self, entries: Entries, how: Preparation) -> None:
        self._entries, self._how = entries, how

    def __getitem__(self, places: tuple[int, int]) -> Chunk | Exception:
        try:
            return prepare_chunk(list(self._entries.between(*places)), self._how)
        except (SourceGoneError, ImportError) as error:  # as it is, without the loader's traceback
            return error


class Waited(Iterator[Chunk]):
    """Passes chunks on, and counts how long they were waited for.

    Args:

        chunks (iterable of Chunk): As of :func:`chunks_of`.
    """

    seconds: float = 0.0
    """So far, or since it was set."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)

    def __next__(self) -> Chunk:
        start = time.perf_counter()
        try:
            return next(self._chunks)
        finally:
            self.seconds += time.perf_counter() - start


def chunks_of(
    entries: Entries,
    shards: Sequence[int],
    how: Preparation,
    settings: ScoreSettings,
    lock: int | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of shards, in order, prepared ahead by worker processes.

    Args:

        entries (Entries): The source.
        shards (sequence of int): Which.
        how (Preparation): What is done to each image.
        settings (ScoreSettings): How many workers, and images in a chunk.
        lock (int, optional): Descriptor that workers shall not keep open.

    Yields:
        *Chunk*: of ``batch_size`` entries; the last one of a shard may have fewer.

    Raises:
        RuntimeError: if a worker was lost, see :func:`is_lost_worker`.
    """
    step = settings.batch_size
    held = [settings.places_of(shard, len(entries)) for shard in shards]
    places = [(start, min(start + step, own.stop)) for own in held for start in own[::step]]
    limit = how.timeout * step + _GRACE
    return _load(entries, places, how, settings, lock, settings.worker_count(), limit)


def chunks_one_by_one(
    entries: Entries,
    shard: int,
    how: Preparation,
    settings: ScoreSettings,
    lock: int | None = None,
) -> list[Chunk]:
    """Prepare a shard on which workers were lost, to find the image whose fault it is.

    An image that costs two workers, and no other image in work, becomes a row that says so.

    Args:

        entries (Entries): The source.
        shard (int): Which.
        how (Preparation): As for :func:`chunks_of`.
        settings (ScoreSettings): As for :func:`chunks_of`.
        lock (int, optional): As for :func:`chunks_of`.

    Returns:
        *list[Chunk]*: the same as :func:`chunks_of` would yield.
    """
    own = settings.places_of(shard, len(entries))
    first, stop = own.start, own.stop
    alone: list[Chunk] = []
    tries = 0
    while first + len(alone) < stop:
        here = first + len(alone)
        places = [(i, i + 1) for i in range(here, stop)]
        try:
            for chunk in _load(entries, places, how, settings, lock, 1, how.timeout + _GRACE, 1):
                alone.append(chunk)
                tries = 0
        except RuntimeError as error:
            if not is_lost_worker(error):
                raise
            if first + len(alone) == here:
                tries += 1
            else:
                tries = 1
            if tries == _TRIES:
                late = "timed out" in str(error)
                reason = "timeout" if late else "crash"
                what = "did not come to an end" if late else "ended"
                detail = f"The process that read it {what}, {_TRIES} times: {error}"
                alone.append(lost_chunk(entries[first + len(alone)], how, reason, detail))
                tries = 0
    step = settings.batch_size
    return [_joined(alone[i : i + step]) for i in range(0, len(alone), step)]


def is_lost_worker(error: BaseException) -> bool:
    """Tell whether an error is PyTorch's for a worker process that ended or does not answer."""
    return isinstance(error, RuntimeError) and str(error).startswith(_LOST)


def _load(
    entries: Entries,
    places: list[tuple[int, int]],
    how: Preparation,
    settings: ScoreSettings,
    lock: int | None,
    workers: int,
    limit: float,
    ahead: int = _AHEAD,
) -> Iterator[Chunk]:
    more: dict[str, Any] = {"prefetch_factor": ahead, "timeout": limit} if workers else {}
    loader: DataLoader[Chunk | Exception] = DataLoader(
        _Chunks(entries, how),
        sampler=places,
        batch_size=None,
        num_workers=workers,
        pin_memory=settings.device.startswith("cuda"),
        worker_init_fn=partial(_begin, lock=lock),
        **more,
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    ours = set(multiprocessing.active_children()) - others
    try:
        for found in iterator:
            if isinstance(found, Exception):
                raise found
            yield found
    except RuntimeError as error:
        for worker in ours:  # one may hang where no other signal reaches it
            with suppress(RuntimeError):  # of the loader's handler: it is killed, indeed
                worker.kill()
                worker.join(_PATIENCE)
        raise error


def _begin(_: int, lock: int | None) -> None:
    """Leave signals and the run's lock to the process that began this one."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # which a whole group may be sent
        with suppress(AttributeError, ValueError):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if lock is not None and multiprocessing.get_start_method() == "fork":
        with suppress(OSError):
            os.close(lock)
    if os.name != "nt":
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process when the one that began it is gone; it may wait for it to read a pipe."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _joined(chunks: list[Chunk]) -> Chunk:
    rows: list[dict[str, Any]] = []
    places: list[int] = []
    seconds: dict[str, float] = {}
    for chunk in chunks:
        places += [len(rows) + place for place in chunk.places]
        rows += chunk.rows
        for stage, spent in chunk.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    chips = np.concatenate([chunk.chips for chunk in chunks])
    count = sum(chunk.entries for chunk in chunks)
    return Chunk(chunks[0].start, rows, places, chips, seconds, count)
