"""Tries cases in processes of their own, within limits of time and memory, and counts."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import captum_plq
from tests.fuzz.target import Case, Finding, Target, reported

GROWTH = 2**30
"""Bytes by which the address space may grow over a case."""

_START = 120
"""Seconds that a process may take until its first case."""

_PACKAGE = Path(captum_plq.__file__).parent
_FULL = ("allocate memory", "out of memory", "Cannot allocate", "std::bad_alloc")


@dataclass(frozen=True)
class Told:
    """How a case went: in a word or two, or the error's type; what is wrong, or nothing."""

    index: int
    kind: str
    outcome: str
    seconds: float
    finding: str = ""
    saved: str = ""


@dataclass
class Tally:
    """What came of the cases of one target; findings by their group."""

    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[Told]] = field(default_factory=dict)

    def add(self, told: Told) -> None:
        self.cases += 1
        self.seconds += told.seconds
        self.slowest = max(self.slowest, told.seconds)
        self.outcomes["finding" if told.finding else told.outcome] += 1
        if told.finding:
            self.findings.setdefault(told.finding.split(",")[0], []).append(told)

    def count(self, beginning: str) -> int:
        """How many findings there are of the groups that begin so."""
        return sum(len(v) for k, v in self.findings.items() if k.startswith(beginning))


def target_of(module: str, folder: Path) -> Target:
    """The target that a module is about, named in it as ``TARGET``."""
    return importlib.import_module(module).TARGET(folder)


def run(
    targets: Mapping[str, str],
    *,
    seed: int,
    findings: Path,
    seconds: float | None = None,
    cases: int | None = None,
    limit: float = 5.0,
    jobs: int = 2,
    block: int = 200,
    progress: Callable[[dict[str, Tally]], None] = lambda _: None,
) -> dict[str, Tally]:
    """Fuzzes targets (modules by name), each for about the same time; progress twice a minute.

    A case may take ``limit`` seconds. One that takes more is tried once again, since a busy machine
    can be slow. Cases that are findings are saved in a folder.
    """
    findings.mkdir(parents=True, exist_ok=True)
    tallies, given = {name: Tally() for name in targets}, dict.fromkeys(targets, 0)
    end, lock = time.monotonic() + (seconds or float("inf")), threading.Lock()

    def next_block() -> tuple[str, int, int] | None:
        """Some cases of the target that has had least time."""
        with lock:
            left = [name for name in targets if cases is None or given[name] < cases]
            if not left or time.monotonic() > end:
                return None
            name = min(left, key=lambda name: (tallies[name].seconds, given[name]))
            first, given[name] = given[name], min(given[name] + block, cases or 2**62)
            return name, first, given[name]

    def work() -> None:
        while (some := next_block()) is not None:
            name, first, last = some
            for told in _tried(targets[name], seed, first, last, findings, limit):
                with lock:
                    tallies[name].add(told)

    with ThreadPoolExecutor(jobs) as pool:
        workers = [pool.submit(work) for _ in range(jobs)]
        while wait(workers, timeout=30).not_done:
            progress(tallies)
    for worker in workers:
        worker.result()
    return tallies


def _tried(
    module: str, seed: int, first: int, end: int, findings: Path, limit: float
) -> Iterator[Told]:
    """Tells of each case; after one that crashes or hangs it goes on in another process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    slow = -1
    while first < end:
        pipe, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(theirs, module, seed, first, end, findings))
        process.start()
        theirs.close()
        at, patience, wrong = -1, float(_START), ""
        try:
            while first < end and pipe.poll(patience):
                match pipe.recv():
                    case Told() as told:
                        yield told
                        first, at, patience = told.index + 1, -1, _START
                    case index:
                        at, patience = index, limit
            if first < end and slow != at:
                slow = at
                continue
            wrong = f"more than {limit:g} s"
        except (EOFError, ConnectionResetError):
            process.join()
            code = process.exitcode or 0
            wrong = f"crash ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
            if code > 0:
                raise RuntimeError(f"{module}: case {max(first, at)} cannot be made") from None
        finally:
            process.kill()
            process.join()
            pipe.close()
        if first < end:
            yield Told(first, "", "", limit, wrong)
            first += 1


def _serve(pipe, module: str, seed: int, first: int, end: int, findings: Path) -> None:
    """In a process of its own: the number of each case through a pipe, then how it went."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what C libraries write of damaged files
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = target_of(module, Path(folder))
        for index in range(first, end):
            pipe.send(index)
            case = target.numbered(seed, index)
            told = tell(target, index, case)
            if told.finding:
                path = findings / f"{module.rpartition('.')[2]}-{seed}-{index}{case.suffix}"
                target.save(case, path)
                told = replace(told, saved=str(path))
            pipe.send(told)


def tell(target: Target, index: int, case: Case) -> Told:
    """Tries a case within the limit of memory."""
    started, finding = time.monotonic(), ""
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
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + growth, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


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
