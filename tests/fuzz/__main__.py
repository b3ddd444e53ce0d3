"""``python -m tests.fuzz``: see ``make fuzz``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import Tally, run
from tests.fuzz.target import Case, Target
from tests.fuzz.worker import Told, target_of, tell

TARGETS = {
    name: f"tests.fuzz.{name}"
    for name in ("images", "weights", "calibration", "tensors", "networks")
}
FINDINGS = Path(".fuzz-findings")


def main(arguments: list[str] | None = None) -> int:
    """Runs the fuzzer; 1: there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--cases", type=int, help="of each target, in place of minutes")
    parser.add_argument("--seed", type=int, default=0, help="decides all cases (default: 0)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only this one")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--findings", type=Path, default=FINDINGS, help="folder for their cases")
    parser.add_argument(
        "--replay",
        metavar="TARGET:CASE",
        help="try one case again: its number, or a file that a finding was saved in",
    )
    options = parser.parse_args(arguments)
    if options.replay:
        return _replay(options.replay, options.seed)
    names = options.target or list(TARGETS)
    tallies = run(
        {name: TARGETS[name] for name in names},
        seed=options.seed,
        findings=options.findings,
        seconds=None if options.cases else 60 * options.minutes,
        cases=options.cases,
        jobs=options.jobs,
        progress=lambda so_far: print(_line(so_far), flush=True),
    )
    print(summary(tallies, options.seed))
    return int(any(tally.findings for tally in tallies.values()))


def summary(tallies: dict[str, Tally], seed: int) -> str:
    """What came of it, target by target."""
    lines = [f"seed {seed}: {_line(tallies)}"]
    for name, tally in tallies.items():
        rate = tally.cases / tally.seconds if tally.seconds else 0.0
        uncaught, slow = tally.count("uncaught"), tally.count("more than")
        lines.append(
            f"\n{name}: {tally.cases:,} cases, {rate:.0f}/s; {uncaught} uncaught, {slow} too slow "
            f"(slowest {tally.slowest:.1f} s), {tally.count('over memory')} over memory, "
            f"{tally.count('crash')} crashes"
        )
        lines += [f"  {count:8,}  {what}" for what, count in tally.outcomes.most_common()]
        for told in sorted(tally.findings.values(), key=len, reverse=True):
            first = told[0]
            lines.append(f"  FINDING ×{len(told)}: {first.finding} [{first.kind}]")
            lines.append(f"    --seed {seed} --replay {name}:{first.index}  {first.saved}")
    return "\n".join(lines)


def _line(tallies: dict[str, Tally]) -> str:
    cases = sum(tally.cases for tally in tallies.values())
    findings = sum(len(t) for tally in tallies.values() for t in tally.findings.values())
    return f"{cases:,} cases, {findings:,} findings"


def _replay(what: str, seed: int) -> int:
    name, _, case = what.partition(":")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = target_of(TARGETS[name], Path(folder))
        told: list[Told] = []

        def do(index: int, case: Case, target: Target = target) -> None:
            told.append(tell(target, index, case))
            print(f"{name}:{index} [{case.kind}] {told[-1].outcome} {told[-1].finding}")

        if case.isdigit():
            target.cases(seed, int(case), 1, do)
        else:
            do(-1, target.read(Path(case)))
    return int(bool(told[-1].finding))


if __name__ == "__main__":
    sys.exit(main())
