"""What every command needs of the terminal: printing any text, and ending in order.

A run can be stopped by Ctrl-C, by a signal, or because nobody reads its output any more. Then
:class:`Stopped` is raised where the run stands. It is not an ``Exception``, so that code that
catches those to go on after one bad image does not catch it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

__all__ = [
    "LeftOut",
    "Progress",
    "Stopped",
    "duration",
    "held",
    "printable",
    "stoppable",
    "table",
    "tell",
]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_PATIENCE = 3.0  # seconds in which a second signal is not taken for another wish


class Stopped(BaseException):
    """The run was asked to end.

    Args:

        reason (str): By what, e.g. ``"SIGINT"``.
        code (int): The exit code that says so.
    """

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class _State:
    holding = False
    pending: Stopped | None = None
    asked = 0.0


@contextmanager
def stoppable() -> Iterator[None]:
    """Make signals that ask a run to end raise :class:`Stopped`, and names of any encoding print.

    A signal that is ignored, as in the background, stays ignored. Outside the main thread,
    signals are left as they are.
    """
    before = {}
    streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, io.TextIOWrapper)]
    errors = [stream.errors for stream in streams]
    if threading.current_thread() is threading.main_thread():
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _stop)
    try:
        for stream in streams:
            stream.reconfigure(errors="backslashreplace")
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _State.pending = None
        for stream, error in zip(streams, errors, strict=True):
            with suppress(ValueError):  # closed
                stream.reconfigure(errors=error)


@contextmanager
def held() -> Iterator[None]:
    """Hold signals back while what belongs together is done; they are raised at the end."""
    outermost = not _State.holding
    _State.holding = True
    try:
        yield
    finally:
        if outermost:
            _State.holding = False
            if _State.pending is not None:
                raise _State.pending


def _stop(number: int, _: FrameType | None) -> None:
    now = time.monotonic()
    if _State.pending is not None and now - _State.asked < _PATIENCE:
        return  # the run is ending, and impatience shall not cost its record
    _State.pending, _State.asked = Stopped(signal.Signals(number).name, 128 + number), now
    if not _State.holding:
        raise _State.pending


def tell(text: str, *, error: bool = False, lines: bool = False) -> None:
    """Print a line at once.

    Args:

        text (str): What to print. What a terminal would act on is shown escaped.
        error (bool): To standard error.
        lines (bool): ``text`` may be of several lines.

    Raises:
        Stopped: if nobody reads it any more, or it cannot be written.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:
        return
    shown = "\n".join(map(printable, text.split("\n"))) if lines else printable(text)
    try:
        print(shown, file=stream, flush=True)
    except (OSError, ValueError) as failure:
        _silence(stream)
        if isinstance(failure, BrokenPipeError):
            raise Stopped("SIGPIPE", 141) from failure
        raise Stopped(f"output that cannot be written ({failure})", 1) from failure


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
) -> list[str]:
    """Return rows of text as lines with aligned columns.

    Args:

        header (sequence of str): A word per column.
        rows (sequence of sequences of str): As many texts each; the last column may be long.
        right (sequence of int): Columns whose texts end, rather than begin, at the same place.

    Returns:
        *list[str]*: the header, and one line per row.

    Examples::

        >>> table(["Q", "image"], [["0.71", "a.jpg"], ["0.6", "b.jpg"]], right=[0])
        ['   Q  image', '0.71  a.jpg', ' 0.6  b.jpg']
    """
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if i in right else text.ljust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


class Progress:
    """How far a run has come, and how long it will still take at the rate so far.

    Args:

        total (int): Images.
        settled (int): From how many on the rate is told.
        before (int): How many were done before.
        now (Callable): A clock, in seconds.
    """

    def __init__(
        self,
        total: int,
        *,
        settled: int = 1,
        before: int = 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.settled, self.before, self.done = total, settled, before, before
        self._now, self._start = now, now()

    def prefix(self) -> str:
        """Return e.g. ``"[3/120, 4 min left] "``; nothing where there is one image only."""
        if self.total < 2:
            return ""
        left = ""
        here = self.done - self.before
        if self.settled <= here and self.done < self.total:
            seconds = (self._now() - self._start) / here * (self.total - self.done)
            left = f", {duration(seconds)} left"
        return f"[{self.done}/{self.total}{left}] "


def duration(seconds: float) -> str:
    """Return a time in its largest unit that is more than one: ``"40 s"``, ``"12 min"``, ``"3 h"``.

    Examples::

        >>> duration(40.2), duration(119), duration(720), duration(10_000)
        ('40 s', '119 s', '12 min', '2.8 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


class LeftOut(dict[str, str]):
    """Images that could not be used, file → reason; prints each as it is noted."""

    def __setitem__(self, path: str, reason: str) -> None:
        super().__setitem__(path, reason)
        tell(f"{path}: left out: {reason}", error=True)


def printable(text: str) -> str:
    """Return text with control characters and lone surrogates escaped as Python escapes them."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _silence(stream: TextIO) -> None:
    """Discard what is left in the buffer, so that Python does not fail on it as it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
