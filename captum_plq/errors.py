"""Errors and warnings where a number would mean nothing."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

from torch import Tensor

from captum_plq._base.late import look

__all__ = [
    "MissingExtraError",
    "PixelScaleWarning",
    "UninformativeWarning",
    "UnusableImagesError",
    "extra",
    "muted",
    "places",
    "refuse_images",
    "warn_caller",
]

_muted: ContextVar[tuple[type[Warning], ...]] = ContextVar("captum_plq_muted", default=())


class MissingExtraError(ImportError):
    """A package of an optional group (``pip install 'captum-plq[...]'``) is not installed."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import packages of an optional group, or say how to install it.

    Args:

        name (str): The group, as in ``pip install 'captum-plq[faces]'``.

    Raises:
        MissingExtraError: if an import in the ``with`` block fails.

    Examples::

        >>> with extra("faces"):
        ...     import dlib
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"This needs {error.name or 'a package'}, which could not be imported; "
            f"run: pip install 'captum-plq[{name}]'",
            name=error.name,
        ) from error


class UnusableImagesError(ValueError):
    """Some images of a batch cannot be assessed.

    Args:

        indices (sequence of int): Their places in the batch, from 0.
        count (int): Size of the batch.
        problem (str): What is wrong, a sentence without its full stop.
        advice (str): What to do, a whole sentence.
    """

    def __init__(self, indices: Sequence[int], count: int, problem: str, advice: str) -> None:
        self.indices, self.count = tuple(indices), count
        self.problem, self.advice = problem, advice
        super().__init__(f"{problem}{places(self.indices, count)}. {advice}")

    def __reduce__(self) -> tuple[type[UnusableImagesError], tuple[object, ...]]:
        return UnusableImagesError, (self.indices, self.count, self.problem, self.advice)


class UninformativeWarning(UserWarning):
    """The quality or the map of some images is uninformative; the message says which."""


class PixelScaleWarning(UserWarning):
    """Pixels look as if they were 0–1, but the network takes 0–255."""


def places(indices: Sequence[int], count: int) -> str:
    """Return the places of some images in a batch, in brackets; nothing for a batch of one."""
    shown = ", ".join(map(str, indices[:8])) + (", …" if len(indices) > 8 else "")
    word = "image" if len(indices) == 1 else "images"
    return "" if count == 1 else f" ({word} {shown} of a batch of {count}, counted from 0)"


def refuse_images(bad: Tensor, problem: str, advice: str) -> None:
    """Raise for the images for which a condition holds.

    At the end of a call that :func:`~captum_plq._base.late.reads_once`.

    Args:

        bad (Tensor): (B,), bool.
        problem (str): As of :class:`UnusableImagesError`.
        advice (str): Likewise.

    Raises:
        UnusableImagesError: if any is true.
    """

    def judge(found: list[float]) -> None:
        indices = [place for place, is_bad in enumerate(found) if is_bad]
        if indices:
            raise UnusableImagesError(indices, bad.numel(), problem, advice)

    look((bad,), judge)


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn as if at the line, outside of this package, torch and Captum, that called it."""
    if issubclass(category, _muted.get()):
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _root(frame) in ("captum_plq", "captum", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextmanager
def muted(*categories: type[Warning]) -> Iterator[None]:
    """Keep this package from warning, in this thread; Python's own filters are of all threads.

    Args:

        categories (type[Warning]): Of what.
    """
    before = _muted.set((*_muted.get(), *categories))
    try:
        yield
    finally:
        _muted.reset(before)


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
