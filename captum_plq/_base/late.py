"""Numbers on a device that a call reads once, at its end.

To read a number makes the host wait for all that was queued on the device, so a call that looks at
its numbers on the way leaves the device idle. Within a call that :func:`reads_once`, checks hand
in their numbers with :func:`look`; all are copied to the host together when everything has been
queued, and then judged in their order. What was kept from earlier calls is used on trust
(:func:`holds`), and if the numbers say that it no longer holds, the call is run again. Outside of
such calls every number is read at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from captum_plq._base.tracing import untraced

__all__ = ["apart", "at_once", "holds", "is_new", "look", "reads_once"]

F = TypeVar("F", bound=Callable[..., object])
Judge = Callable[[list[float]], None]
Right = Callable[[list[float]], bool]
Forget = Callable[[], None]


class _NoLongerHolds(Exception):  # noqa: N818 - caught by the call that is run again
    """Something that was kept from an earlier call is of no use to this one."""


@dataclass
class _Call:
    """What a call has yet to read.

    Args:

        looks (list): Numbers, and who judges them.
        trusted (list): Numbers, whether they say that something kept holds, and what forgets it.
        waits (bool): Whether numbers are read at the end; if not, at once.
        known (set): What has been looked at.
    """

    looks: list[tuple[Sequence[Tensor], Judge]] = field(default_factory=list)
    trusted: list[tuple[Sequence[Tensor], Callable[[list[float]], bool], Callable[[], None]]] = (
        field(default_factory=list)
    )
    waits: bool = True
    known: set[Hashable] = field(default_factory=set)

    def settle(self) -> None:
        """Read everything that is waiting, and judge it.

        Raises:
            _NoLongerHolds: if something was trusted wrongly, which has been forgotten.
            Exception: the first that a judge raises.
        """
        looks, trusted, self.looks, self.trusted = self.looks, self.trusted, [], []
        if not looks and not trusted:
            return
        values = iter(_read([*(x for x, *_ in trusted), *(x for x, _ in looks)]))
        wrong = [forget for (_, right, forget), x in zip(trusted, values, strict=False)
                 if not right(x)]  # fmt: skip
        for forget in wrong:
            forget()
        if wrong:
            raise _NoLongerHolds
        waits, self.waits = self.waits, False
        try:
            for (_, judge), numbers in zip(looks, values, strict=True):
                judge(numbers)
        finally:
            self.waits = waits


_current: ContextVar[_Call | None] = ContextVar("captum_plq_late", default=None)


def reads_once(function: F) -> F:
    """Let a function read its device once, when all its work has been queued.

    One that is called by another such function reads with it. If an exception is on its way, what
    was waiting is judged first: it may be the reason.
    """

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        if _current.get() is not None:
            return function(*args, **kwargs)
        own = _Call()
        before = _current.set(own)
        try:
            try:
                answer = function(*args, **kwargs)
            except _NoLongerHolds:
                raise
            except Exception:
                own.settle()
                raise
            own.settle()
            return answer
        except _NoLongerHolds:
            own.waits = False
        finally:
            _current.reset(before)
        with _as_current(own):
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def look(numbers: Sequence[Tensor], judge: Judge) -> None:
    """Have numbers judged, at the end of the call or at once.

    Args:

        numbers (sequence of Tensor): Of any shape and type; not written to until the call ends.
        judge (Callable): Is given all of them, one after another; may raise and warn.
    """
    call = _current.get()
    if call is None or not call.waits:
        judge(_read([numbers])[0])
    else:
        call.looks.append((numbers, judge))


def is_new(thing: Hashable) -> bool:
    """Tell whether this call has not looked at a thing yet; ``True`` outside of such calls."""
    call = _current.get()
    if call is None or not call.waits:
        return True
    new = thing not in call.known
    call.known.add(thing)
    return new


def holds(numbers: Sequence[Tensor], right: Right, forget: Forget) -> bool:
    """Tell whether something that was kept from an earlier call can be used.

    At the end of a call that :func:`reads_once`, ``False`` has the call run again; until then it
    is taken for ``True``.

    Args:

        numbers (sequence of Tensor): As for :func:`look`.
        right (Callable): Whether they say so.
        forget (Callable): Forgets what was kept, if not.
    """
    call = _current.get()
    if call is not None and call.waits:
        call.trusted.append((numbers, right, forget))
        return True
    if right(_read([numbers])[0]):
        return True
    forget()
    return False


@contextmanager
def at_once() -> Iterator[None]:
    """Read what is waiting now, and everything within the block at once."""
    call = _current.get()
    if call is None or not call.waits:
        yield
        return
    call.settle()
    call.waits = False
    try:
        yield
    finally:
        call.waits = True


@contextmanager
def apart() -> Iterator[None]:
    """Run someone else's code, whose calls of this package are calls of their own."""
    if _current.get() is None:
        yield
        return
    with _as_current(None):
        yield


@contextmanager
def _as_current(call: _Call | None) -> Iterator[None]:
    before = _current.set(call)
    try:
        yield
    finally:
        _current.reset(before)


def _read(parts: Sequence[Sequence[Tensor]]) -> list[list[float]]:
    """Copy tensors to the host, all those of a device together; a list for each sequence."""
    with torch.no_grad(), untraced():
        flat = [x if x.ndim == 1 else x.reshape(-1) for part in parts for x in part]
        numbers: dict[torch.device, Iterator[float]] = {
            device: iter(torch.cat([x for x in flat if x.device == device]).tolist())
            for device in dict.fromkeys(x.device for x in flat)
        }
    return [
        [number for x in part for number in islice(numbers[x.device], x.numel())] for part in parts
    ]
