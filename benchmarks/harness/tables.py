"""Markdown tables and JSON files, the same for every protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["number", "read_json", "row", "table", "write_json"]


def row(cells: Sequence[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """Lines of a Markdown table; all but the first ``words`` columns are numbers."""
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return [row(head), row(rule), *map(row, rows)]


def number(value: float | None, form: str) -> str:
    """A formatted number; nothing where there is none."""
    return "" if value is None else format(value, form)


def write_json(record: dict[str, Any], path: Path) -> Path:
    """Writes a result and returns its path; the folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read_json(directory: Path, pattern: str) -> list[dict[str, Any]]:
    """All results in a folder whose file names match, by name.

    Raises:
        FileNotFoundError: if there are none.
    """
    paths = sorted(directory.glob(pattern))
    if not paths:
        raise FileNotFoundError(f"There are no {pattern} in {directory}.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]
