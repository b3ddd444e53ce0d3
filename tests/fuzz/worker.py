"""One process that tries cases, within limits, and tells of each."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import captum_plq
from tests.fuzz.target import Case, Finding, Target, reported

__all__ = ["GROWTH", "Told", "serve", "target_of", "tell"]

GROWTH = 2**30
"""Bytes by which the address space may grow over a case."""

_PACKAGE = str(Path(captum_plq.__file__).parent)
_FULL = ("allocate memory", "out of memory", "Cannot allocate", "std::bad_alloc")


@dataclass(frozen=True)
class Told:
    """How a case went.

    Args:

        index (int): Of the case.
        kind (str): How it was made.
        outcome (str): In a word or two, or the error's type.
        seconds (float): How long it took.
        finding (str): What is wrong, its group before a colon; empty: nothing.
        saved (str): The file that the case was saved in.
    """

    index: int
    kind: str
    outcome: str
    seconds: float
    finding: str = ""
    saved: str = ""


def target_of(module: str, folder: Path) -> Target:
    """The target that a module is about, named in it as ``TARGET``."""
    made: Target = importlib.import_module(module).TARGET(folder)
    return made


def serve(
    pipe: Connection, at: Any, since: Any, findings: Path
) -> None:  # pragma: no cover - in a process of its own
    """Runs the jobs that come through a pipe until it closes.

    Args:

        pipe (Connection): Takes ``(module, seed, first, count)``; gives :class:`Told` for each
            case, and ``None`` after the last.
        at (Value): Where it says which case it is at.
        since (Value): Where it says since when; 0: at none.
        findings (Path): Folder for cases that are findings.
    """
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    targets: dict[str, Target] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, contextlib.suppress(EOFError):
        while True:
            module, seed, first, count = pipe.recv()
            if module not in targets:
                targets[module] = target_of(module, Path(folder))
            target, name = targets[module], f"{module.rpartition('.')[2]}-{seed}"

            def do(index: int, case: Case, target: Target = target, name: str = name) -> None:
                at.value, since.value = index, time.monotonic()
                told = tell(target, index, case)
                since.value = 0.0
                if told.finding:
                    path = findings / f"{name}-{index}{case.suffix}"
                    target.save(case, path)
                    told = replace(told, saved=str(path))
                pipe.send(told)

            with _quiet():
                target.cases(seed, first, count, do)
            pipe.send(None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what C libraries write of damaged files off the screen."""
    errors = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)


def tell(target: Target, index: int, case: Case) -> Told:
    """Tries one case, and says how it went.

    Args:

        target (Target): Where it goes.
        index (int): Of the case.
        case (Case): What is tried.
    """
    started = time.monotonic()
    finding = ""
    try:
        with _address_space(GROWTH):
            outcome = target.attempt(case)
    except Exception as error:  # whatever it is, it is what is looked for
        outcome, finding = type(error).__name__, _wrong(error, target.documented)
    return Told(index, case.kind, outcome, time.monotonic() - started, finding)


@contextlib.contextmanager
def _address_space(growth: int) -> Iterator[None]:
    """Lets the process grow by so many bytes and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + growth
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _wrong(error: Exception, documented: tuple[type[Exception], ...]) -> str:
    """What is wrong with an error; empty if it is one that the documentation promises."""
    if isinstance(error, Finding):
        return str(error)
    if any(isinstance(e, MemoryError) or _is_full(e) for e in reported(error)):
        return f"over memory: {_where(error)}, {_first_line(error)}"
    if type(error).__module__.startswith("captum_plq.") and isinstance(error, documented):
        return ""
    if type(error) in documented:
        return ""
    return f"uncaught {type(error).__name__}: {_where(error)}, {_first_line(error)}"


def _is_full(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FULL)


def _where(error: Exception) -> str:
    """The last line of the package that it passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if f.filename.startswith(_PACKAGE)] or list(frames)
    last = ours[-1]
    return f"{os.path.relpath(last.filename, Path(_PACKAGE).parent)}:{last.lineno}"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:160]
