"""``python -m tests.fuzz``: see ``make fuzz``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import Tally, run, target_of, tell

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
    add("--replay", metavar="TARGET:CASE", help="one case again: its number, or a finding's file")
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(*options.replay.split(":", 1), options.seed)
    tallies = run(
        {name: TARGETS[name] for name in options.target or TARGETS},
        seed=options.seed,
        findings=options.findings,
        seconds=None if options.cases else 60 * options.minutes,
        cases=options.cases,
        jobs=options.jobs,
        progress=lambda so_far: print(_line(so_far), flush=True),
    )
    print(f"seed {options.seed}: {_line(tallies)}")
    for name, tally in tallies.items():
        print(
            f"\n{name}: {tally.cases:,} cases in {tally.seconds:.0f} s, the slowest "
            f"{tally.slowest:.1f} s; {tally.count('uncaught')} uncaught, {tally.count('more than')}"
            f" too slow, {tally.count('over memory')} over memory, {tally.count('crash')} crashes"
        )
        for what, count in tally.outcomes.most_common():
            print(f"  {count:8,}  {what}")
        for told in sorted(tally.findings.values(), key=len, reverse=True):
            print(f"  FINDING ×{len(told)}: {told[0].finding} [{told[0].kind}]")
            replay = f"--seed {options.seed} --replay {name}:{told[0].index}"
            print(f"    {replay}  {told[0].saved}")
    return int(any(tally.findings for tally in tallies.values()))


def _line(tallies: dict[str, Tally]) -> str:
    cases = sum(tally.cases for tally in tallies.values())
    return f"{cases:,} cases, {sum(tally.count('') for tally in tallies.values()):,} findings"


def _replay(name: str, case: str, seed: int) -> int:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = target_of(TARGETS[name], Path(folder))
        numbered = case.isdigit()
        tried = target.numbered(seed, int(case)) if numbered else target.read(Path(case))
        told = tell(target, int(case) if numbered else -1, tried)
    print(f"{name}:{case} [{tried.kind}] {told.outcome} {told.finding}")
    return int(bool(told.finding))


if __name__ == "__main__":
    sys.exit(main())
