"""Keeping what changes the state of a network out of compilers and traces."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["is_traced", "never_compiled", "untraced"]

F = TypeVar("F", bound=Callable[..., object])


def never_compiled(function: F) -> F:
    """Keeps a function out of ``torch.compile``, since hooks come and go inside it.

    As ``torch.compiler.disable``, which would import the compiler (over a second) here and
    now; this does so only for a caller who has imported it.
    """
    disabled: list[F] = []

    @functools.wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function))
        return disabled[0](*args, **kwargs)

    return call  # type: ignore[return-value]


def is_traced() -> bool:
    """Tell whether ``torch.jit.trace`` records what is run."""
    return bool(torch._C._get_tracing_state())


@contextmanager
def untraced() -> Iterator[None]:
    """Suspends ``torch.jit.trace``, so that what runs inside is not recorded."""
    if not is_traced():
        yield
        return
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)  # type: ignore[attr-defined]
