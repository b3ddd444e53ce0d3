"""``python -m tests.fuzz``: see ``make fuzz``."""

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.runner import target_of, tell, tried

TARGETS = {
    name: f"tests.fuzz.{name}"
    for name in ("images", "weights", "calibration", "tensors", "networks")
}


def main(arguments: list[str] | None = None) -> int:
    """Runs the fuzzer; 1: there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="how long (default: 10)")
    add("--cases", type=int, help="of each target, in place of minutes")
    add("--seed", type=int, default=0, help="decides all cases (default: 0)")
    add("--target", choices=TARGETS, action="append", help="only this one")
    add("--jobs", type=int, default=2, help="processes (default: 2)")
    add("--findings", type=Path, default=Path(".fuzz-findings"), help="folder for their cases")
    add("--replay", metavar="TARGET:CASE", help="one case again, by its number")
    options = parser.parse_args(arguments)
    if options.replay:
        name, index = options.replay.split(":")
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            target = target_of(TARGETS[name], folder)
            told = tell(target, int(index), target.numbered(options.seed, int(index)))
        print(f"{options.replay} {told.outcome} {told.finding}")
        return int(bool(told.finding))
    names = options.target or tuple(TARGETS)
    return max([_fuzz(name, options, 60 * options.minutes / len(names)) for name in names])


def _fuzz(name: str, options: argparse.Namespace, seconds: float) -> int:
    cases, jobs, seed = options.cases or 2**62, options.jobs, options.seed
    end = time.monotonic() + (float("inf") if options.cases else seconds)

    def work(job):
        indices = range(job, cases, jobs)
        return list(tried(TARGETS[name], seed, indices, end, options.findings))

    with ThreadPoolExecutor(jobs) as pool:
        every = [told for part in pool.map(work, range(jobs)) for told in part]
    slowest = max((told.seconds for told in every), default=0.0)
    print(f"{name}: {len(every):,} cases of seed {seed}, the slowest {slowest:.1f} s")
    for what, count in Counter(x.outcome for x in every if not x.finding).most_common():
        print(f"  {count:8,}  {what}")
    groups = defaultdict(list)
    for told in every:
        if told.finding:
            groups[told.finding.split(",")[0]].append(told)
    for group in sorted(groups.values(), key=len, reverse=True):
        print(f"  FINDING ×{len(group)}: {group[0].finding}")
        print(f"    --seed {seed} --replay {name}:{group[0].index}")
    sys.stdout.flush()
    return int(bool(groups))


if __name__ == "__main__":
    sys.exit(main())
