"""Gives cases to worker processes, and goes on after one that crashes or hangs."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from tests.fuzz.worker import Told, serve

__all__ = ["Tally", "run"]


@dataclass
class Tally:
    """What came of the cases of one target."""

    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[Told]] = field(default_factory=dict)

    def add(self, told: Told) -> None:
        """Counts a case."""
        self.cases += 1
        self.seconds += told.seconds
        self.slowest = max(self.slowest, told.seconds)
        self.outcomes["finding" if told.finding else told.outcome] += 1
        if told.finding:
            group = told.finding.split(",")[0]
            self.findings.setdefault(group, []).append(told)

    def count(self, beginning: str) -> int:
        """How many findings there are of the groups that begin so."""
        return sum(len(v) for k, v in self.findings.items() if k.startswith(beginning))


@dataclass
class _Job:
    target: str
    next: int
    end: int
    again: int = -1  # the case that took too long once


class _Worker:
    """A process, its pipe, and what it is at."""

    def __init__(self, findings: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.fuzz.worker"])
        self.pipe, theirs = context.Pipe()
        self.at, self.since = context.Value("q", -1), context.Value("d", 0.0)
        self.process = context.Process(
            target=serve, args=(theirs, self.at, self.since, findings), daemon=True
        )
        self.process.start()
        theirs.close()
        self.job: _Job | None = None
        self.started = 0.0

    def seconds_at_it(self) -> float:
        """For how long it has been at one case."""
        since: float = self.since.value
        return time.monotonic() - since if since else 0.0

    def end(self) -> None:
        """Ends the process, at whatever it is."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def run(
    targets: Mapping[str, str],
    *,
    seed: int,
    findings: Path,
    seconds: float | None = None,
    cases: int | None = None,
    limit: float = 5.0,
    jobs: int = 2,
    block: int = 100,
    progress: Callable[[dict[str, Tally]], None] | None = None,
) -> dict[str, Tally]:
    """Fuzzes targets side by side, each for about the same time.

    Args:

        targets (mapping): Modules by the targets' names.
        seed (int): Decides all cases.
        findings (Path): Folder in which cases that are findings are saved.
        seconds (float, optional): When to stop.
        cases (int, optional): After how many cases of each target to stop.
        limit (float): Seconds that a case may take. One that takes more is tried once again,
            since a busy machine can be slow.
        jobs (int): Processes.
        block (int): Cases that are made at once.
        progress (Callable, optional): Called every half minute.

    Returns:
        *dict[str, Tally]*: by the targets' names.
    """
    fuzz = _Run(targets, seed, findings, limit, seconds, cases, block)
    fuzz.workers = [_Worker(findings) for _ in range(jobs)]
    shown = time.monotonic()
    try:
        for worker in fuzz.workers:
            fuzz.start(worker, fuzz.next_job())
        while busy := [worker for worker in fuzz.workers if worker.job is not None]:
            ready = wait([worker.pipe for worker in busy], timeout=0.2)
            for worker in busy:
                if worker.pipe in ready:
                    fuzz.listen(worker)
                elif worker.seconds_at_it() > limit:
                    fuzz.hung(worker)
            if progress is not None and time.monotonic() - shown > 30:
                shown = time.monotonic()
                progress(fuzz.tallies)
    finally:
        for worker in fuzz.workers:
            worker.end()
    return fuzz.tallies


class _Run:
    """Which cases are given out, and what has come back."""

    def __init__(
        self,
        targets: Mapping[str, str],
        seed: int,
        findings: Path,
        limit: float,
        seconds: float | None,
        cases: int | None,
        block: int,
    ) -> None:
        findings.mkdir(parents=True, exist_ok=True)
        self.targets, self.seed, self.findings, self.limit = targets, seed, findings, limit
        self.end = None if seconds is None else time.monotonic() + seconds
        self.cases, self.block = cases, block
        self.tallies = {name: Tally() for name in targets}
        self.given = dict.fromkeys(targets, 0)
        self.spent = dict.fromkeys(targets, 0.0)
        self.workers: list[_Worker] = []

    def next_job(self) -> _Job | None:
        """A block of the target that has had least time."""
        if self.end is not None and time.monotonic() > self.end:
            return None
        left = [n for n in self.targets if self.cases is None or self.given[n] < self.cases]
        if not left:
            return None
        name = min(left, key=lambda n: (self.spent[n], self.given[n]))
        count = self.block
        if self.cases is not None:
            count = min(count, self.cases - self.given[name])
        job = _Job(name, self.given[name], self.given[name] + count)
        self.given[name] += count
        return job

    def start(self, worker: _Worker, job: _Job | None) -> None:
        """Gives a worker a job, or what is left of one."""
        worker.job, worker.started = job, time.monotonic()
        if job is not None:
            worker.pipe.send((self.targets[job.target], self.seed, job.next, job.end - job.next))

    def listen(self, worker: _Worker) -> None:
        """Takes what a worker has to say, or that it is gone."""
        job = worker.job
        assert job is not None
        try:
            told: Told | None = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            worker.process.join()
            code = worker.process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            if not worker.since.value:
                raise RuntimeError(f"No case of {job.target} can be made ({name}).") from None
            self._lost(worker, f"crash ({name})")
            return
        if told is None:
            self.spent[job.target] += time.monotonic() - worker.started
            self.start(worker, self.next_job())
            return
        job.next = told.index + 1
        self.tallies[job.target].add(told)

    def hung(self, worker: _Worker) -> None:
        """Tries the case that takes too long once more, then takes it for a finding."""
        job = worker.job
        assert job is not None
        if job.again == worker.at.value:
            self._lost(worker, f"more than {self.limit:g} s")
            return
        job.again = job.next = worker.at.value
        self.start(self._replaced(worker), job)

    def _lost(self, worker: _Worker, what: str) -> None:
        job, index = worker.job, worker.at.value
        assert job is not None
        finding = f"{what}, replay {job.target}:{index}"
        self.tallies[job.target].add(Told(index, "", "", self.limit, finding))
        self.spent[job.target] += time.monotonic() - worker.started
        job.next = index + 1
        self.start(self._replaced(worker), job if job.next < job.end else self.next_job())

    def _replaced(self, worker: _Worker) -> _Worker:
        worker.end()
        new = _Worker(self.findings)
        self.workers[self.workers.index(worker)] = new
        return new
