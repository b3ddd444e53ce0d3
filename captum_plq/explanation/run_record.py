"""What a run over many photos has done, on disk as it is done, so that the next one goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from captum_plq._base.differences import differences
from captum_plq._base.folder_lock import folder_lock
from captum_plq._base.whole_file import json_bytes, whole_file

__all__ = ["FacePlace", "RunRecord"]

_FORMAT, _VERSION = "captum-plq explain", 1


class FacePlace(NamedTuple):
    """Which face a row is of.

    Args:

        photo (int): The photo's place in the source, from 0.
        face (int): Its number in the photo, from 1; 0: a photo without one.
        rows (int): How many rows the photo has.
    """

    photo: int
    face: int = 1
    rows: int = 1


class RunRecord:
    """The rows of a run that writes into a folder, and its summary.

    Each row is appended to ``summary.jsonl`` and brought to the disk at once. When the block
    ends, for whatever reason, ``summary.json`` is written from it, whole, in the order of the
    photos, in place of that of an earlier run. If the block raised, the summary says what under
    ``interrupted``, and how many photos were ``not_reached``, and the rows stay, as they do if the
    run is killed: the next run of the same identity goes on with the faces that were explained.
    One of another identity gives their file another name. A run that raised before its first row
    leaves an earlier summary as it is.

    Attributes tell of the run: ``reached``, how many photos are done, by earlier runs too;
    ``failures``; ``replaces``, whether there was a summary; ``left_by_another``, where the rows of
    a run of another identity are now, and how it ``differs``.

    Args:

        directory (Path): Made if it is missing. One run at a time writes into it.
        images (int): How many photos there are.
        identity (dict): What decides about the rows, ready for JSON.
        undisturbed (Callable): Makes a context in which rows are noted and the summary is
            written, such as one that holds signals.

    Raises:
        ValueError: on entering, if the folder cannot be written to, another run writes there, or
            it holds the result of a gallery.
        OSError: if a row cannot be written.

    Examples::

        >>> with RunRecord(Path("results"), images=2, identity={"passes": 100}) as record:
        ...     record.explained(FacePlace(0), {"image": "a.jpg", "quality": 0.7})
        ...     record.failed(FacePlace(1, 0), "b.jpg", "is not an image.")
    """

    def __init__(
        self,
        directory: Path,
        images: int,
        identity: dict[str, Any],
        undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.directory, self.images, self._undisturbed = directory, images, undisturbed
        self.summary = directory / "summary.json"
        self.failures = self.reached = 0
        self.replaces = False
        self.left_by_another: Path | None = None
        self.differs = ""
        self.lock = -1
        self._identity: dict[str, Any] = json.loads(json_bytes(identity))
        self._path = directory / "summary.jsonl"
        self._file = -1
        self._places: dict[int, dict[int, int]] = {}
        self._counts: dict[int, int] = {}
        self._noted = False
        self._stack = ExitStack()

    def __enter__(self) -> RunRecord:
        with ExitStack() as stack:
            self.lock = stack.enter_context(folder_lock(self.directory))
            if (self.directory / "shards.jsonl").exists():
                raise ValueError(
                    f"{self.directory} holds a result of `captum-plq score`: name another folder."
                )
            self.replaces = self.summary.exists()
            self._open()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._undisturbed(), self._stack:
            os.close(self._file)
            if error is None or self._noted or not self.replaces:
                try:
                    self._write_summary(error)
                except OSError:
                    if error is None:
                        raise
                    return  # the rows stay, and what went wrong first is told
            if error is None or not self._places:
                with suppress(OSError):
                    self._path.unlink()

    def explained(self, place: FacePlace, row: dict[str, Any]) -> None:
        """Note a face whose results are written.

        Args:

            place (FacePlace): Which.
            row (dict): What the summary says of it.
        """
        self._append(place, {"explained": row})

    def failed(self, place: FacePlace, image: str, reason: str) -> None:
        """Note a photo, or a face of it, that could not be explained; the next run tries it anew.

        Args:

            place (FacePlace): Which.
            image (str): The photo.
            reason (str): Why.
        """
        self._append(place, {"failed": {"image": image, "reason": reason}})
        self.failures += 1

    def begins(self, stem: str) -> None:
        """Note which files are about to be written; what a killed run left of them is removed.

        Args:

            stem (str): Their name without ending.
        """
        self._write({"begun": stem})

    def forget(self, index: int) -> None:
        """Drop the rows of a photo, which is another one now."""
        self._drop(index)
        self._write({"forget": index})

    def rows(self, index: int) -> dict[FacePlace, dict[str, Any]]:
        """Return the rows of a photo's explained faces.

        Args:

            index (int): The photo's place in the source.
        """
        places = self._places.get(index)
        if places is None:
            return {}
        with self._path.open("rb") as file:
            found = {face: self._read(file, offset) for face, offset in sorted(places.items())}
        count = self._counts[index]
        return {
            FacePlace(index, face, count): row["explained"]
            for face, row in found.items()
            if "explained" in row
        }

    def complete(self) -> list[int]:
        """Return the places of the photos all of whose faces are noted."""
        return [index for index in self._places if self._is_complete(index)]

    def _append(self, place: FacePlace, row: dict[str, Any]) -> None:
        with self._undisturbed():
            self._keep(place, self._write({"at": list(place), **row}))
            os.fsync(self._file)
            self._noted = True

    def _keep(self, place: FacePlace, offset: int) -> None:
        index = place.photo
        self.reached -= self._is_complete(index)
        self._places.setdefault(index, {})[place.face] = offset
        self._counts[index] = place.rows
        self.reached += self._is_complete(index)

    def _drop(self, index: int) -> None:
        self.reached -= self._is_complete(index)
        self._places.pop(index, None)

    def _is_complete(self, index: int) -> bool:
        return index in self._places and len(self._places[index]) >= self._counts[index]

    def _write(self, line: dict[str, Any]) -> int:
        """Append a line, whole or not at all, and return where it begins."""
        data, before = json_bytes(line) + b"\n", os.fstat(self._file).st_size
        if os.write(self._file, data) != len(data):
            os.ftruncate(self._file, before)
            raise OSError(f"{self._path} cannot be written: no space is left.")
        return before

    def _open(self) -> None:
        """Go on with the rows of a run that was the same, or begin anew."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        if os.path.lexists(self._path) and not self._goes_on():
            self._keep_rows_of_another()
        begins = not os.path.lexists(self._path)
        self._file = os.open(self._path, flags | (os.O_EXCL if begins else 0), 0o666)
        if begins:
            self._write({"format": _FORMAT, "version": _VERSION, "identity": self._identity})

    def _goes_on(self) -> bool:
        if self._path.is_symlink() or not self._path.is_file():
            return False
        with self._path.open("rb") as file:
            header = _parsed(file.readline())
            if (header.get("format"), header.get("version")) != (_FORMAT, _VERSION):
                return False
            self.differs = differences(header.get("identity", {}), self._identity)
            if self.differs:
                return False
            begun, end = "", file.tell()
            while (line := file.readline()).endswith(b"\n"):
                row = _parsed(line)
                begun = row.get("begun", "")
                if "explained" in row and (place := self._place(row.get("at"))):
                    self._keep(place, end)
                if isinstance(forgotten := row.get("forget"), int):
                    self._drop(forgotten)
                end = file.tell()
        os.truncate(self._path, end)  # a line that a killed run had begun
        ours = isinstance(begun, str) and begun == Path(begun).name  # and no path to elsewhere
        if begun and ours and not (self.directory / f"{begun}.json").exists():
            for ending in (".png", ".npz"):
                (self.directory / f"{begun}{ending}").unlink(missing_ok=True)
        return True

    def _place(self, at: object) -> FacePlace | None:
        """The place that a row names, if it is one: others may have written to the file."""
        if not isinstance(at, list) or len(at) != 3 or not all(type(n) is int for n in at):
            return None
        place = FacePlace(*at)
        return place if 0 <= place.photo < self.images and 0 <= place.face <= place.rows else None

    def _keep_rows_of_another(self) -> None:
        """Give the rows of a run that was another one another name, if there are any."""
        if not self._path.is_file():
            raise ValueError(f"{self._path} is no regular file: name another folder.")
        whole = self._path.read_bytes().split(b"\n")[:-1]
        if all("format" in _parsed(line) for line in whole):
            self._path.unlink()
            return
        number = 2
        while os.path.lexists(kept := self.directory / f"summary-{number}.jsonl"):
            number += 1
        self._path.rename(kept)
        self.left_by_another = kept

    def _write_summary(self, error: BaseException | None) -> None:
        with whole_file(self.summary) as file, self._path.open("rb") as rows:
            file.write(b'{\n  "explained": [')
            self._copy(rows, file, "explained")
            file.write(b'],\n  "failed": [')
            self._copy(rows, file, "failed")
            file.write(b"]")
            if error is not None:
                why = json_bytes(str(error) or type(error).__name__)
                left = self.images - self.reached
                file.write(b',\n  "interrupted": %b,\n  "not_reached": %d' % (why, left))
            file.write(b"\n}\n")

    def _copy(self, rows: BinaryIO, file: BinaryIO, kind: str) -> None:
        before = b"\n    "
        for _, faces in sorted(self._places.items()):
            for _, offset in sorted(faces.items()):
                row = self._read(rows, offset)
                if kind in row:
                    file.write(before + json_bytes(row[kind], indent=2).replace(b"\n", b"\n    "))
                    before = b",\n    "
        if before[:1] == b",":
            file.write(b"\n  ")

    @staticmethod
    def _read(file: BinaryIO, offset: int) -> dict[str, Any]:
        file.seek(offset)
        return _parsed(file.readline())


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
