"""Tries cases in processes of their own, within limits of time and memory."""

import importlib
import multiprocessing
import os
import resource
import signal
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import captum_plq
from tests.fuzz.target import Case, Finding, Target, reported

GROWTH = 2**30
"""Bytes by which the address space may grow over a case."""

_PACKAGE = Path(captum_plq.__file__).parent
_FULL = ("allocate memory", "out of memory", "Cannot allocate", "std::bad_alloc")


@dataclass(frozen=True)
class Told:
    """How a case went: in a word or two, or the error's type; what is wrong, or nothing."""

    index: int
    outcome: str
    seconds: float
    finding: str = ""


def target_of(module: str, folder: str) -> Target:
    """The target that a module is about, named in it as ``TARGET``."""
    return importlib.import_module(module).TARGET(Path(folder))


def tried(
    module: str, seed: int, indices: Sequence[int], end: float, findings: Path, limit: float = 5.0
) -> Iterator[Told]:
    """Tells of each case of a target until a time of the monotonic clock.

    A case may take ``limit`` seconds of the processor, and ten times as many of the clock. After
    one that takes more, or crashes, another process goes on. Findings are saved in a folder.
    """
    findings.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    while indices and time.monotonic() < end:
        pipe, theirs = context.Pipe(duplex=False)
        given = (theirs, module, seed, indices, end, findings, limit)
        process = context.Process(target=_serve, args=given)
        process.start()
        theirs.close()
        try:
            while True:
                told = pipe.recv()
                indices = indices[1:]
                yield told
        except (EOFError, ConnectionResetError):
            process.join()
        finally:
            process.kill()
            pipe.close()
        code = process.exitcode or 0
        if code > 0:
            raise RuntimeError(f"{module}: case {indices[0]} cannot be made")
        if code < 0:
            slow = -code in (signal.SIGPROF, signal.SIGALRM)
            wrong = f"more than {limit:g} s" if slow else f"crash ({signal.Signals(-code).name})"
            yield Told(indices[0], "", limit, wrong)
            indices = indices[1:]
        else:
            return


def _serve(pipe, module, seed, indices, end, findings, limit) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries write of damaged files
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = target_of(module, folder)
        for index in indices:
            _alarms(limit)
            case = target.numbered(seed, index)
            told = tell(target, index, case)
            _alarms(0)
            if told.finding:
                name = f"{module.rpartition('.')[2]}-{seed}-{index}{case.suffix}"
                target.save(case, findings / name)
            pipe.send(told)
            if time.monotonic() > end:
                return


def _alarms(limit: float) -> None:
    """The signals end the process, even in the midst of C."""
    signal.setitimer(signal.ITIMER_PROF, limit)
    signal.setitimer(signal.ITIMER_REAL, 10 * limit)


def tell(target: Target, index: int, case: Case) -> Told:
    """Tries a case within the limit of memory."""
    started, finding = time.monotonic(), ""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GROWTH, before[1]))
    try:
        outcome = target.attempt(case)
    except Exception as error:  # whatever it is, it is what is looked for
        outcome, finding = type(error).__name__, _wrong(error, target.documented)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return Told(index, outcome, time.monotonic() - started, finding)


def _wrong(error: Exception, documented: tuple[type[Exception], ...]) -> str:
    """What is wrong with an error; empty if it is one that the documentation promises."""
    if isinstance(error, Finding):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    last = ([f for f in frames if Path(f.filename).is_relative_to(_PACKAGE)] or frames)[-1]
    where = f"{os.path.relpath(last.filename, _PACKAGE.parent)}:{last.lineno}"
    said = f"{where}, {(str(error).splitlines() or [''])[0][:160]}"
    for e in reported(error):
        full = isinstance(e, RuntimeError) and any(words in str(e) for words in _FULL)
        if full or isinstance(e, MemoryError):
            return f"over memory: {said}"
    ours = type(error).__module__.startswith("captum_plq.") and isinstance(error, documented)
    return "" if ours or type(error) in documented else f"uncaught {type(error).__name__}: {said}"
