"""Photos that wait for the one thread that computes; whoever goes away leaves the queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from captum_plq.web.refusal import RefusedError, broken_off

__all__ = ["Waiting"]

_T = TypeVar("_T")

_AGAIN = 5  # seconds after which one who found no place is told to try again


class Waiting:
    """The places of photos that arrive, wait or are computed, and the thread that computes them.

    Args:

        places (int): How many there are, of which one client takes half, rounded up, at most.
    """

    def __init__(self, places: int) -> None:
        self._places, self._share = places, -(-places // 2)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="captum-plq")
        self._taken: Counter[str] = Counter()

    def close(self) -> None:
        """End the thread; what waits for it is dropped."""
        self._thread.shutdown(cancel_futures=True)

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Take a place, and give it back at the end.

        Args:

            client (str): Its :func:`~captum_plq.web.rate.household`.

        Raises:
            RefusedError: 429 if the client has taken its share, 503 if there is no place at all.
        """
        if self._taken.total() >= self._places:
            raise RefusedError(
                503, f"Too many photos are waiting: try again in {_AGAIN} seconds.", _AGAIN
            )
        if self._taken[client] >= self._share:  # no one client keeps the others out
            raise RefusedError(
                429,
                f"{self._share} photos from this address are waiting already, the most at a time: "
                f"try again in {_AGAIN} seconds.",
                _AGAIN,
            )
        self._taken[client] += 1
        try:
            yield
        finally:
            self._taken[client] -= 1
            self._taken += Counter()  # without those that have none

    async def computed(self, work: Callable[[], _T], leaving: Coroutine[Any, Any, None]) -> _T:
        """Compute something in the thread, after all that came before.

        Args:

            work (Callable): What to compute.
            leaving (Coroutine): Ends when nobody wants it any more. If that is before it has begun,
                it is not computed; what has begun is finished.

        Returns:
            what ``work`` returns.

        Raises:
            RefusedError: 400 if nobody wanted it any more.
            Exception: whatever ``work`` raises.
        """
        submitted = self._thread.submit(work)
        answer = asyncio.wrap_future(submitted)
        gone = asyncio.ensure_future(leaving)
        try:
            either: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() and submitted.cancel():
                raise broken_off()
            return await answer
        finally:
            gone.cancel()
            submitted.cancel()
