"""What a run over a gallery was asked, and which of its shards are done."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from captum_plq._base.differences import differences
from captum_plq._base.versions import package_versions
from captum_plq._base.whole_file import json_bytes, write_json
from captum_plq.gallery.result import MANIFEST

__all__ = ["JOURNAL", "Manifest", "open_manifest"]

JOURNAL = "shards.jsonl"
_FORMAT, _VERSION = "captum-plq gallery", 1


class Manifest:
    """Which shards of a result are done.

    Args:

        directory (Path): The result, to which nobody else writes.
        journal (int): Descriptor of the file that a line is appended to for each shard.
        records (dict[int, dict]): Of the shards that are noted as done.
    """

    def __init__(self, directory: Path, journal: int, records: dict[int, dict[str, Any]]) -> None:
        self.directory, self._journal, self.records = directory, journal, records

    def note(self, record: dict[str, Any]) -> None:
        """Note a shard as done, on the disk when this returns.

        Args:

            record (dict): From :func:`~captum_plq.gallery.shards.write_shard`.

        Raises:
            OSError: if it cannot be written.
        """
        line = json_bytes(record) + b"\n"
        before = os.fstat(self._journal).st_size
        try:
            if os.write(self._journal, line) != len(line):
                raise OSError(28, os.strerror(28), str(self.directory / JOURNAL))
            os.fsync(self._journal)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._journal, before)
            raise
        self.records[record["shard"]] = record

    def forget(self, shard: int) -> None:
        """Take a shard for not done; it is noted again when it is."""
        self.records.pop(shard, None)

    def counts(self) -> Counter[str]:
        """Return how many rows are ``"ok"``, and how many there are for each reason."""
        total: Counter[str] = Counter()
        for record in self.records.values():
            total.update(record["counts"])
        return total

    def seconds(self) -> Counter[str]:
        """Return how long each stage took, in all runs and processes together."""
        total: Counter[str] = Counter()
        for record in self.records.values():
            total.update(record["seconds"])
        return total


@contextmanager
def open_manifest(directory: Path, identity: dict[str, Any]) -> Iterator[Manifest]:
    """Open the manifest of a result, or begin one.

    Args:

        directory (Path): The result, to which nobody else writes.
        identity (dict): What decides about the rows, ready for JSON.

    Yields:
        *Manifest*: with what earlier runs have done.

    Raises:
        ValueError: if it was begun with another ``identity``; names what differs. If it is damaged,
            or holds explanations.
        OSError: if it cannot be written.

    Examples::

        >>> with open_manifest(Path("."), {"parameters": {"passes": 100}}) as manifest:
        ...     sorted(manifest.records)
        []
    """
    path = directory / MANIFEST
    identity = json.loads(json_bytes(identity))
    if os.path.lexists(path):
        if differ := differences(_read(path), identity):
            raise ValueError(
                f"{directory} was begun with {differ}. Go on with what it was begun with, or name "
                "another folder."
            )
    else:
        _refuse_explanations(directory)
        known = {"format": _FORMAT, "version": _VERSION}
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        told = {**known, **identity, "begun": date, "versions": package_versions()}
        write_json(path, told, follow=False)
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    journal = os.open(directory / JOURNAL, flags, 0o666)
    try:
        yield Manifest(directory, journal, _records(journal))
    finally:
        os.close(journal)


def _refuse_explanations(directory: Path) -> None:
    """Refuse the folder of `captum-plq explain`, whose summary has the same name."""
    summary, there = directory / "summary.json", (directory / "summary.jsonl").exists()
    if not there and summary.is_file():
        with summary.open("rb") as file:
            there = file.read(40).lstrip(b"{ \n").startswith(b'"explained"')
    if there:
        raise ValueError(f"{directory} holds explanations of photos: name another folder.")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict) and found.get("format") == _FORMAT:
            if found.get("version") == _VERSION:
                return found
            raise ValueError(f"it is of version {found.get('version')!r}, not {_VERSION}")
        raise ValueError("it is of something else")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be used ({error}): name another folder.") from error


def _records(journal: int) -> dict[int, dict[str, Any]]:
    """Read the lines that are whole; a last one that is not, of a killed run, is cut off."""
    os.lseek(journal, 0, os.SEEK_SET)
    with os.fdopen(os.dup(journal), "rb") as file:
        text = file.read()
    whole = text.rfind(b"\n") + 1
    if whole < len(text):
        os.ftruncate(journal, whole)
    records: dict[int, dict[str, Any]] = {}
    for line in text[:whole].splitlines():
        with suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            records[int(record["shard"])] = record
    return records
