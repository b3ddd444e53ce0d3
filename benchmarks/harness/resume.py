"""Runs over faces batch by batch, so that a run that was killed goes on where it was.

Every batch becomes one line of ``DIR/raw/PROTOCOL-MODEL.jsonl``, after a header that says under
what settings; a line that was torn by the kill is dropped, and its batch runs again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from benchmarks.harness.context import StudyContext
from benchmarks.harness.statistics import Row
from benchmarks.subjects.methods import null_name, trained_name


@dataclass(frozen=True)
class Study:
    """A finished run.

    Args:

        header (dict): Protocol, model, network digest, settings and faces.
        sessions (list[dict]): Environment of every session it took.
        failed (dict[str, str]): Method → why; none of its rows are kept.
        rows (list[dict]): All others.
    """

    header: dict[str, Any]
    sessions: list[dict[str, Any]]
    failed: dict[str, str]
    rows: list[Row]


def run_rows(
    rows_of: Callable[[StudyContext, Tensor, Sequence[str]], list[Row]],
    context: StudyContext,
    header: dict[str, Any],
    path: Path,
    batch: int,
    null_faces: int | None = None,
) -> Study:
    """Measure all faces, or what is left of them.

    Args:

        rows_of (Callable): Context, images (B, 3, H, W), 0–255, and names → their rows.
        context (StudyContext): Of the network; methods that failed are added to it.
        header (dict): All that the rows depend on.
        path (Path): Where every batch is written when it is done.
        batch (int): Faces at a time.
        null_faces (int, optional): After how many faces methods on random weights are left out,
            from the next batch on.

    Returns:
        *Study*: in its rows, maps of several random networks have one name, that of the first;
        ``network`` tells them apart.

    Raises:
        ValueError: if the file was begun under other settings, or is damaged.
    """
    header = json.loads(json.dumps(header))
    lines = _begin(path, header)
    done = [line for line in lines if "rows" in line]
    for line in done:
        context.failed.update(line["failed"])
    parameter, faces = next(context.model.parameters()), context.faces
    batches = range(len(done), -(-len(faces.names) // batch))
    with path.open("a", encoding="utf-8") as file:
        if batches:
            lines.append({"session": context.environment})
            _append(file, lines[-1])
        for i in tqdm(batches, desc=path.stem, unit="batch", disable=None):
            part = slice(i * batch, (i + 1) * batch)
            images = faces.images[part].to(parameter)
            nulls = null_faces is None or part.start < null_faces
            given = context if nulls else context.trained
            rows = [_ready(row) for row in rows_of(given, images, faces.names[part])]
            done.append({"batch": i, "failed": dict(context.failed), "rows": rows})
            _append(file, done[-1])
    failed = dict(context.failed)
    return Study(
        header,
        [line["session"] for line in lines if "session" in line],
        failed,
        [_named(row) for line in done for row in line["rows"] if row["method"] not in failed],
    )


def _begin(path: Path, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The whole lines after the header; a torn last one is cut off, a new file begun."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    if not whole:
        with path.open("a", encoding="utf-8") as file:
            _append(file, header)
        return []
    try:
        found, *lines = (json.loads(line) for line in whole.splitlines())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it to start anew.") from error
    if found != header:
        raise ValueError(
            f"{path} was begun under other settings: {'; '.join(_differences(found, header))}. "
            "Give these, or another folder, or delete the file to start anew."
        )
    return list(lines)


def _differences(there: Any, here: Any, name: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = dict.fromkeys([*there, *here])
        return [
            text for k in keys for text in _differences(there.get(k), here.get(k), f"{name} {k}")
        ]
    return [] if there == here else [f"{name.strip()} is {there} there and {here} here"]


def _ready(row: Row) -> Row:
    """A row for JSON, which has no NaN: a number that is not finite does not exist.

    Raises:
        ValueError: if a curve holds such a number.
    """
    ready = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    if wrong := [k for k, v in ready.items() if not _is_json(v)]:
        raise ValueError(
            f"{row['method']} on {row['image']} gave NaN or infinity in {', '.join(wrong)}."
        )
    return ready


def _named(row: Row) -> Row:
    name, number = trained_name(row["method"])
    return row if number is None else {**row, "method": null_name(name), "network": number}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def _append(file: Any, line: dict[str, Any]) -> None:
    file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
    file.flush()
    os.fsync(file.fileno())
