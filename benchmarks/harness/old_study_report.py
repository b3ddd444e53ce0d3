"""What the reports of all studies of maps say alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.environment import Environment
from benchmarks.harness.old_summary import ALL
from benchmarks.subjects.methods import RANDOM_WEIGHTS

__all__ = ["about", "interval", "line_styles"]

_COLOURS = ("C2", "C0", "C1", "C3", "C4", "C5", "C6", "C8", "C9")  # C7 is grey
_DASHES = ("-", (0, (4, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (2, 3)))


def about(record: dict[str, Any]) -> str:
    """Network, faces and conditions of a summary, in one paragraph."""
    faces = record["faces"]
    text = (
        f"{record['source']} (network {record['network']}). {faces['evaluated']} faces evaluated, "
        f"{faces['reference']} others as reference ({faces['about']}, {faces['digest']}). "
        f"{_when(record['sessions'])}."
    )
    for again in record.get("reruns", []):
        names = ", ".join(f"`{name}`" for name in again["methods"])
        text += f" Measured again: {names} ({again['why']}): {_when(again['sessions'])}."
    return " ".join([text, *_left_out(record)])


def _left_out(record: dict[str, Any]) -> list[str]:
    """Which means are over fewer rows or faces than there are, and over how many."""
    found = []
    if unusable := record["faces"].get("unusable"):
        found.append(f"{unusable} images that were drawn could not be used.")
    for metric, methods in record["estimates"].items():
        cells = {name: of.get(ALL, {}) for name, of in methods.items()}
        fewer = [
            f"`{name}` {cell['undefined']} of {cell['rows'] + cell['undefined']}"
            for name, cell in cells.items()
            if cell.get("undefined")
        ]
        if fewer:
            found.append(f"Rows in which `{metric}` does not exist: {', '.join(fewer)}.")
    for metric, compared in record.get("comparisons", {}).items():
        faces = record["faces"]["evaluated"]
        fewer = [f"`{name}` {x['images']}" for name, x in compared.items() if x["images"] < faces]
        if fewer:
            found.append(f"Faces over which `{metric}` is compared: {', '.join(fewer)}.")
    return found


def _when(sessions: Sequence[dict[str, Any]]) -> str:
    given = [Environment(**session) for session in sessions]
    return "; ".join(f"{session.line()}; {session.date}" for session in given)


def interval(mean: float, low: float | None, high: float | None, sign: str = "+") -> str:
    """A mean with its interval, if there is one."""
    bounds = "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{mean:{sign}.3f}{bounds}"


def line_styles(record: dict[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How the curve of each method is drawn; those on random weights are left out.

    Controls are grey, each with a dash of its own; the others have colours, and dashes once
    these are used up.

    Args:

        record (dict): A summary.
        names (sequence of str): Of its methods.

    Returns:
        *dict*: method → keyword arguments of matplotlib's ``plot``.
    """
    shown = [name for name in names if not name.endswith(RANDOM_WEIGHTS)]
    controls = [name for name in shown if record["methods"][name]["kind"] == "control"]
    others = [name for name in shown if name not in controls]
    styles: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(others):
        turn, colour = divmod(i, len(_COLOURS))
        dash = _DASHES[turn % len(_DASHES)]
        styles[name] = {"color": _COLOURS[colour], "linestyle": dash}
    for i, name in enumerate(controls):
        styles[name] = {"color": "0.55", "linestyle": _DASHES[i % len(_DASHES)]}
    return styles
