"""Put methods that were measured again, or later, into a summary that stands."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks.harness.protocol import Record
from benchmarks.harness.statistics import holm, rounded

_SAME = ("protocol", "model", "network", "faces", "against")
_BY_METHOD = ("methods", "failed", "verdicts")


def amended(record: Record, run: Record, why: str) -> Record:
    """Return a summary in which the methods of another run of its protocol replace its own.

    The method that others are compared with must be in both. It keeps its numbers; that the new
    run gives it the same ones shows that both measure the same. Holm's correction is made anew
    over all comparisons.

    Args:

        record (dict): The summary that stands.
        run (dict): That of the new run, of some methods.
        why (str): For what reason they were measured again.

    Returns:
        *dict*: a new summary; ``"reruns"`` says which methods were measured when, and why.

    Raises:
        ValueError: if network, faces or settings differ, or the method in common does not come out
            the same.
    """
    _check_same(record, run)
    against = record["against"]
    new = copy.deepcopy(record)
    names = [name for name in run["methods"] if name != against]
    for name in names:
        for key in _BY_METHOD:
            _replace(new.get(key, {}), name, run.get(key, {}))
        for key in ("estimates", "comparisons"):
            for metric, cells in new[key].items():
                _replace(cells, name, run[key].get(metric, {}))
    for cells in new["comparisons"].values():
        for cell, p in zip(cells.values(), holm([x["p"] for x in cells.values()]), strict=True):
            cell["p_holm"] = rounded(p)
    listed = new["settings"]["methods"]
    listed += [name for name in names if name not in listed]
    new.setdefault("reruns", []).append({"methods": names, "why": why, "sessions": run["sessions"]})
    return new


def _replace(cells: dict[str, Any], name: str, new: dict[str, Any]) -> None:
    """The cell of a method, at its place if it has one; gone if the new run has none."""
    if name in new:
        cells[name] = new[name]
    else:
        cells.pop(name, None)


def _check_same(record: Record, run: Record) -> None:
    settings = [{k: v for k, v in x["settings"].items() if k != "methods"} for x in (record, run)]
    differ = [key for key in _SAME if record[key] != run[key]]
    differ += [f"setting {key}" for key in settings[0] if settings[0][key] != settings[1].get(key)]
    if differ:
        raise ValueError(f"The two runs differ in {', '.join(differ)}.")
    against = record["against"]
    for metric, cells in record["estimates"].items():
        for group, cell in cells.get(against, {}).items():
            other = run["estimates"].get(metric, {}).get(against, {}).get(group)
            if other is None or not _alike(cell, other):
                raise ValueError(
                    f"{against} has {metric} {cell['mean']} ({group}) in the summary and "
                    f"{None if other is None else other['mean']} in the new run: they do not "
                    "measure the same."
                )


def _alike(cell: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal but for what rounding does on another machine: a tenth of the interval."""
    if (cell["images"], cell["rows"]) != (other["images"], other["rows"]):
        return False
    width = 0.0 if cell["low"] is None else cell["high"] - cell["low"]
    return bool(abs(cell["mean"] - other["mean"]) <= 0.1 * width + 1e-4 * abs(cell["mean"]))
