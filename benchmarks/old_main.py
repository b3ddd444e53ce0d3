"""``python -m benchmarks``: from the command line to a protocol."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's chatter on stderr

from benchmarks.report.faithfulness_cli import add_faithfulness
from benchmarks.report.run_all import add_everything

__all__ = ["main"]


def main(arguments: Sequence[str], everything: Callable[[Sequence[str]], int]) -> int:
    """Runs a protocol.

    Args:

        arguments (sequence of str): Without the program's name.
        everything (Callable): Runs any command.

    Returns:
        *int*: 0; 1 if a run was void; 2 if nothing could be run.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    protocols = parser.add_subparsers(required=True, metavar="PROTOCOL")
    add_faithfulness(protocols)
    add_everything(protocols, everything)
    try:
        given = parser.parse_args(arguments)
        code: int = given.run(given)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return code
