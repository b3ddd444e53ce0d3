"""Preparing entries in worker processes, by PyTorch's loader, and what to do when one is lost."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from captum_plq.faces import AlignedFace
from captum_plq.preparation.entries import Entries, SourceGoneError
from captum_plq.preparation.prepare import Chunk, Preparation, lost_chunk, prepare_chunk

__all__ = ["Places", "Waited", "Workers", "chunks_of", "chunks_one_by_one", "require_preparing"]

Places = Sequence[tuple[int, int]]
"""Of each chunk, the place of its first entry in the source, and that after its last."""

_GRACE = 30.0
_PATIENCE = 5.0
_LOSSES = 2
"""Workers lost on some chunks before their images are prepared one by one."""

_TRIES = 2
_AHEAD = 4
_LOST = ("DataLoader worker", "DataLoader timed out", "Pin memory thread")


@dataclass(frozen=True)
class Workers:
    """Processes that decode and align.

    Args:

        asked (int, optional): How many; 0: none but this one. ``None``: one less than there are
            processors, at least one, but none for a single chunk.
        pinned (bool): Chips go to memory that a GPU copies from by itself.
        lock (int, optional): Descriptor that the processes shall not keep open.
    """

    asked: int | None = None
    pinned: bool = False
    lock: int | None = None

    def count(self, chunks: int) -> int:
        """Return how many there are for so many chunks."""
        if self.asked is not None:
            return self.asked
        usable = getattr(os, "sched_getaffinity", None)
        processors = len(usable(0)) if usable is not None else os.cpu_count() or 1
        return max(1, processors - 1) if chunks > 1 else 0


def require_preparing(batch_size: int, workers: int | None, timeout: float) -> None:
    """Refuse choices of a run that are out of range.

    Args:

        batch_size (int): Images in a chunk, ≥ 1.
        workers (int, optional): As of :class:`Workers`, ≥ 0.
        timeout (float): Seconds after which an image is given up, > 0.

    Raises:
        ValueError: names it.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but is {batch_size}.")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must not be negative, but is {workers}.")
    if not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, but is {timeout}.")


_Found = Chunk | Exception


class _Chunks(Dataset[_Found]):
    """Prepares entries from one place to before another, or tells why all has to end."""

    def __init__(self, entries: Entries, how: Preparation) -> None:
        self._entries, self._how = entries, how

    def __getitem__(self, places: tuple[int, int]) -> _Found:
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
    places: Places,
    how: Preparation,
    workers: Workers,
    tell: Callable[[str], None] = lambda note: None,
) -> Iterator[Chunk]:
    """Yield chunks in order, prepared ahead by worker processes; those that are lost begin again.

    Args:

        entries (Entries): The source.
        places (sequence of tuple): Of the chunks.
        how (Preparation): What is done to each image.
        workers (Workers): Who does it.
        tell (Callable): Told of a worker that was lost.

    Yields:
        *Chunk*: of all places. An image that costs two workers, and no other image in work, has a
        row that says so.
    """
    done = lost = suspected = 0
    count = workers.count(len(places))
    while done < len(places):
        careful = lost >= _LOSSES
        try:
            if careful:
                chunks = chunks_one_by_one(entries, places[done:suspected], how, workers)
            else:
                chunks = _load(entries, places[done:], how, workers, count)
            for chunk in chunks:
                yield chunk
                done += 1
        except RuntimeError as error:
            if not _is_lost_worker(error):
                raise
            if done >= suspected:
                lost, suspected = 0, done + count * _AHEAD
            lost += 1
            tell(f"{error} It is begun again.")
        else:
            lost = 0


def chunks_one_by_one(
    entries: Entries, places: Places, how: Preparation, workers: Workers
) -> Iterator[Chunk]:
    """Yield chunks on which workers were lost, to find the image whose fault it is.

    Args:

        entries (Entries): The source.
        places (sequence of tuple): Of the chunks.
        how (Preparation): As for :func:`chunks_of`.
        workers (Workers): As for :func:`chunks_of`; there is one.

    Yields:
        *Chunk*: the same as :func:`chunks_of` would.
    """
    for first, stop in places:
        alone: list[Chunk] = []
        tries = 0
        while (here := first + len(alone)) < stop:
            try:
                one_each = [(i, i + 1) for i in range(here, stop)]
                for chunk in _load(entries, one_each, how, workers, 1, ahead=1):
                    alone.append(chunk)
                    tries = 0
            except RuntimeError as error:
                if not _is_lost_worker(error):
                    raise
                tries = tries + 1 if first + len(alone) == here else 1
                if tries == _TRIES:
                    late = "timed out" in str(error)
                    reason = "timeout" if late else "crash"
                    what = "did not come to an end" if late else "ended"
                    detail = f"The process that read it {what}, {_TRIES} times: {error}"
                    alone.append(lost_chunk(entries[here], how, reason, detail))
                    tries = 0
        yield _joined(alone)


def _is_lost_worker(error: RuntimeError) -> bool:
    """Tell whether an error is PyTorch's for a worker process that ended or does not answer."""
    return str(error).startswith(_LOST)


def _load(
    entries: Entries,
    places: Places,
    how: Preparation,
    workers: Workers,
    count: int,
    ahead: int = _AHEAD,
) -> Iterator[Chunk]:
    limit = how.timeout * max(stop - start for start, stop in places) + _GRACE
    more: dict[str, Any] = {"prefetch_factor": ahead, "timeout": limit} if count else {}
    loader: DataLoader[_Found] = DataLoader(
        _Chunks(entries, how),
        sampler=places,
        batch_size=None,
        num_workers=count,
        pin_memory=workers.pinned,
        worker_init_fn=partial(_begin, lock=workers.lock),
        **more,
    )
    others = set(multiprocessing.active_children())
    iterator = iter(loader)
    ours = set(multiprocessing.active_children()) - others
    end = partial(_kill, ours)
    atexit.register(end)  # runs before multiprocessing waits for them, should this be interrupted
    try:
        for found in _raising_in_time(iterator) if count else iterator:
            if isinstance(found, Exception):
                raise found
            yield found
    except BaseException:
        end()
        raise
    finally:
        if not any(worker.is_alive() for worker in ours):
            atexit.unregister(end)


def _kill(workers: Iterable[BaseProcess]) -> None:
    """End processes that may hang, and heed no other signal."""
    for worker in workers:
        with suppress(RuntimeError):  # of the loader's handler: it is killed, indeed
            worker.kill()
            worker.join(_PATIENCE)


def _raising_in_time(chunks: Iterator[_Found]) -> Iterator[_Found]:
    """Pass chunks on, and let a worker's loss be raised here.

    PyTorch's handler of SIGCHLD raises it wherever the main thread stands, such as in a network.
    """
    number = getattr(signal, "SIGCHLD", None)
    theirs = None if number is None else signal.getsignal(number)
    if number is None or not callable(theirs) or not _on_main_thread():
        yield from chunks
        return
    lost: list[RuntimeError] = []

    def later(*given: Any) -> None:
        try:
            theirs(*given)
        except RuntimeError as error:
            lost.append(error)

    try:
        while True:
            signal.signal(number, theirs)
            try:
                if lost:
                    raise lost[0]
                found = next(chunks, None)
            finally:
                signal.signal(number, later)
            if found is None:
                return
            yield found
    finally:
        signal.signal(number, theirs)


def _on_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


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
    faces: list[AlignedFace] = []
    seconds: dict[str, float] = {}
    for chunk in chunks:
        faces += chunk.faces
        places += [len(rows) + place for place in chunk.places]
        rows += chunk.rows
        for stage, spent in chunk.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    chips = np.concatenate([chunk.chips for chunk in chunks])
    count = sum(chunk.entries for chunk in chunks)
    return Chunk(chunks[0].start, rows, places, chips, faces, seconds, count)
