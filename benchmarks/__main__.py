"""``python -m benchmarks``: from the command line to a protocol."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from cyclopts import App, CycloptsError

from benchmarks.protocols import PROTOCOLS

_OTHERS = {
    "all": ("run_all", "a small run of every protocol, and the report"),
    "report": ("report", "one table over all summaries in a folder"),
    "readme": ("readme", "tables and figures of the README files, made anew"),
    "amend": ("amend", "methods that were measured again, into a summary"),
}
"""Commands that are no protocol."""

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler's chatter on stderr

_INSTALL = "; run: pip install '.[benchmarks]'"

_HELP = """{question}

Example::

    python -m benchmarks {name} --model mobilefacenet-dropout
"""


def app() -> App:
    """Return the command line. A protocol is imported when its command is given."""
    found = App(
        name="python -m benchmarks",
        help="Measure captum_plq against what a user would pick instead.",
        version=lambda: version("captum-plq"),
        result_action="return_value",
        help_format="rst",
    )
    for name, (place, question) in PROTOCOLS.items():
        about = _HELP.format(question=question, name=name)
        found.command(f"benchmarks.protocols.{place}", name=name, help=about)
    for name, (function, words) in _OTHERS.items():
        found.command(f"benchmarks.report.run_all:{function}", name=name, help=words)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:

        arguments (sequence of str, optional): Without the program's name. ``None``: those
            of the command line.

    Returns:
        *int*: 0; 1 if a run was void; 2 if nothing could be run.
    """
    try:
        found: Any = app()(arguments, exit_on_error=False, print_error=False)
        code: int = found.run() if hasattr(found, "run") else found or 0
    except (CycloptsError, ImportError, OSError, RuntimeError, ValueError) as error:
        missing = isinstance(error, ModuleNotFoundError)
        print(f"error: {error}{_INSTALL * missing}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
