"""What the reports of all studies of maps say alike."""

from __future__ import annotations

from typing import Any

from benchmarks.conditions import Conditions

__all__ = ["about", "interval"]


def about(record: dict[str, Any]) -> str:
    """Network, faces and conditions of a summary, in one paragraph."""
    faces, sessions = record["faces"], [Conditions(**x) for x in record["sessions"]]
    when = "; ".join(f"{session.line()}; {session.date}" for session in sessions)
    return (
        f"{record['source']} (network {record['network']}). {faces['evaluated']} faces evaluated, "
        f"{faces['reference']} others as reference ({faces['about']}, {faces['digest']}). {when}."
    )


def interval(mean: float, low: float | None, high: float | None, sign: str = "+") -> str:
    """A mean with its interval, if there is one."""
    bounds = "" if low is None or high is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]"
    return f"{mean:{sign}.3f}{bounds}"
