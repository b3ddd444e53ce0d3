"""What runs the command line, and makes an exit code of however it ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from captum_plq.cli.terminal import Stopped, stoppable, tell

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:

        argv (sequence of str, optional): Arguments. ``None``: those of the process.

    Returns:
        *int*: 0 if all went well; 1 if an image of ``explain`` failed, or the whole command; 2 for
        wrong usage; 130, 143, 129 or 141 if it was stopped by SIGINT, SIGTERM, SIGHUP, or because
        nobody reads its output any more.
    """
    with stoppable():
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        except Stopped as stop:
            if stop.code != 141:  # as any program whose reader went away
                with suppress(Stopped):
                    _complain(f"stopped by {stop}")
            return stop.code


def _run(arguments: list[str]) -> int:
    try:
        from cyclopts import CycloptsError, UnusedCliTokensError
    except ModuleNotFoundError:
        _complain("the command line needs cyclopts: pip install 'captum-plq[cli]'")
        return 1
    from captum_plq.cli.app import app

    try:
        if not arguments:
            raise CycloptsError(msg="Which command?")
        return app(arguments) or 0
    except CycloptsError as error:
        command, text = " ".join(("captum-plq", *(error.command_chain or ()))), str(error)
        if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
            text = f"{error.unused_tokens[0]} is one argument too many: put a pattern in quotes."
        _complain(f"{text}\nusage: {command} --help")
        return 2
    except (ValueError, OSError, ImportError) as error:
        _complain(str(error))
        return 1
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # as rich ends, which prints the help
            raise Stopped("SIGPIPE", 141) from stop
        raise


def _complain(text: str) -> None:
    tell(f"captum-plq: {text}", error=True, lines=True)
