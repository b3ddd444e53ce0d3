"""``python -m tests.load``: see ``make load-test``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median, quantiles

from tests.load.clients import Found, Kind, kinds, run_clients
from tests.load.server import Server, serving

_MORE = 0.1
"""By how much memory may grow from the second quarter of the time to the last."""

_SAMPLES = 120


def main(arguments: list[str] | None = None) -> int:
    """Load a server on loopback; 1: there was an error, or its memory grew."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    add = parser.add_argument
    add("--clients", type=int, default=20, help="at the same time (default: 20)")
    add("--seconds", type=float, default=300, help="how long (default: 300)")
    add("--seed", type=int, default=0, help="decides who asks what (default: 0)")
    options = parser.parse_args(arguments)
    asked = kinds()
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        folder = Path(name)
        with serving(folder) as server:
            tell(f"{options.clients} clients, {options.seconds:g} s, {server.url}")
            tell(f"memory at the start: {server.memory():.0f} MiB (PSS)")
            found, memory = asyncio.run(_loaded(server, asked, options))
            code = server.stop()
        problems = list(found.errors)
        if not found.answers["photo no-ending", 200]:
            problems.append("no good photo was assessed")
        if code != 130:
            problems.append(f"the server ended with {code}: {server.said[-2000:]}")
        elif server.said != "captum-plq: stopped by SIGINT\n":
            problems.append(f"the server complained: {server.said[-2000:]}")
        if left := sorted(path.name for path in folder.iterdir()):
            problems.append(f"files were left behind: {left}")
    _report(found, memory, options.seconds)
    quarter = max(1, len(memory) // 4)
    before, after = median(memory[quarter : 2 * quarter] or memory), median(memory[-quarter:])
    grown = after / before - 1
    tell(f"memory, second quarter to last: {before:.0f} to {after:.0f} MiB, {grown:+.1%}")
    if grown > _MORE:
        problems.append(f"memory grew by more than {_MORE:.0%}")
    for problem, count in Counter(problems).most_common(20):
        tell(f"PROBLEM ({count} times): {problem}")
    tell(f"{len(problems)} problems")
    return int(bool(problems))


async def _loaded(
    server: Server, asked: dict[str, Kind], options: argparse.Namespace
) -> tuple[Found, list[float]]:
    memory: list[float] = []

    async def watch() -> None:
        start, told = time.monotonic(), 0
        while True:
            memory.append(server.memory())
            minute = int((time.monotonic() - start) // 60)
            if minute > told:
                told = minute
                tell(f"memory after {minute} min: {memory[-1]:.0f} MiB")
            await asyncio.sleep(options.seconds / _SAMPLES)

    watching = asyncio.ensure_future(watch())
    found = await run_clients(server.url, asked, options.clients, options.seconds, options.seed)
    watching.cancel()
    memory.append(server.memory())
    return found, memory


def _report(found: Found, memory: list[float], seconds: float) -> None:
    total = found.answers.total()
    refused = sum(n for (_, status), n in found.answers.items() if status == 429)
    tell(f"{total} answers, {total / seconds:.1f} a second, {refused} of them 429")
    for status in sorted({status for _, status in found.answers}):
        tell(f"  {status}: {sum(n for (_, s), n in found.answers.items() if s == status)}")
    for kind, times in sorted(found.seconds.items()):
        high = quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
        tell(f"  {kind}: {len(times)}, median {median(times):.2f} s, 95 % within {high:.2f} s")
    tell(f"memory at the end: {memory[-1]:.0f} MiB, at most {max(memory):.0f} MiB")


def tell(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
