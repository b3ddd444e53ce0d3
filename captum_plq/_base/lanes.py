"""Batches computed side by side on processors, each on few of them, with results in order.

The small layers of a face network gain little from being divided among processors. Batches that
are computed at the same time, each on a processor of its own, use all of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

__all__ = ["in_lanes", "lanes_on"]

T = TypeVar("T")
R = TypeVar("R")

_MOST = 16
"""Lanes at most: each holds the activations of a batch in memory."""


def lanes_on(device: torch.device) -> int:
    """Return how many batches to compute side by side: one for each of PyTorch's threads.

    Args:

        device (torch.device): Where they are computed; 1 on any but the processor.

    Returns:
        *int*: from 1 to 16.

    Examples::

        >>> lanes_on(torch.device("cuda"))
        1
    """
    return min(torch.get_num_threads(), _MOST) if device.type == "cpu" else 1


def in_lanes(work: Callable[[T], R], items: Iterable[T], lanes: int) -> Generator[R]:
    """Apply a function to items in threads, and yield what it returns, in the order of the items.

    PyTorch's threads are divided among the lanes. Items are taken in the caller's thread, at
    most two for each lane ahead of what was yielded. Close the iterator if you leave it early: then
    what has begun is finished, and the rest left.

    Args:

        work (Callable): The function. It sees none of the context variables of the caller, and
            PyTorch's grad mode as in a new thread.
        items (iterable): What it is applied to.
        lanes (int): How many at once; with 1 the function runs in the caller's thread.

    Yields:
        What the function returns.

    Raises:
        Exception: what ``items`` or the function raise, after the results of the items before.

    Examples::

        >>> list(in_lanes(abs, [-1, 2, -3], lanes=2))
        [1, 2, 3]
    """
    if lanes < 2:
        yield from map(work, items)
        return
    waiting: deque[Future[R]] = deque()
    source, failure = iter(items), None
    with _pool(lanes) as pool:
        try:
            while True:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as error:  # has its place after what came before
                    failure = error
                    break
                waiting.append(pool.submit(work, item))
                if len(waiting) == 2 * lanes:  # enough that no lane waits for the caller
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
    if failure is not None:
        raise failure


def _pool(lanes: int) -> ThreadPoolExecutor:
    """Threads among which PyTorch's are divided."""
    threads, all_set = torch.get_num_threads(), Barrier(lanes + 1)

    def begin() -> None:
        torch.get_num_threads()  # which a thread's first call sets to that of the process
        torch.set_num_threads(max(1, threads // lanes))  # of this thread, and of those to come
        all_set.wait()

    pool = ThreadPoolExecutor(lanes, "captum-plq", begin)
    try:
        for _ in range(lanes):
            pool.submit(int)
        all_set.wait()
    except BaseException:  # such as of a system that has no threads left
        all_set.abort()
        raise
    finally:
        torch.set_num_threads(threads)  # so that threads to come have as many as before
    return pool
