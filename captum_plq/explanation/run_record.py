"""What a run over many images has done, on disk as it is done."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from captum_plq._base.whole_file import json_bytes, remove_unfinished, require_folder, whole_file

__all__ = ["RunRecord", "folder_lock"]

_LOCK = ".captum-plq.lock"


class RunRecord:
    """The rows of a run that writes into a folder, and its summary.

    Each row is appended to ``summary.jsonl`` and brought to the disk at once. When the block
    ends, for whatever reason, ``summary.json`` is written from it, whole, in place of that of an
    earlier run, and the rows are removed. If the block raised, the summary says what under
    ``interrupted``, and how many images were ``not_reached``; a run that raised before its first
    row leaves an earlier summary as it is. The rows of a run that was killed stay: the next run
    gives their file another name. Memory does not grow with the number of rows.

    Args:

        directory (Path): Made if it is missing. One run at a time writes into it.
        images (int): How many images there are.
        undisturbed (Callable): Makes a context in which rows are noted and the summary is
            written, such as one that holds signals.

    Raises:
        ValueError: on entering, if the folder cannot be written to, or another run writes there.
        OSError: if a row cannot be written.

    Examples::

        >>> with RunRecord(Path("results"), images=2) as record:
        ...     record.explained({"image": "a.jpg", "quality": 0.7})
        ...     record.failed("b.jpg", "is not an image.")
    """

    def __init__(
        self,
        directory: Path,
        images: int,
        undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.directory, self.images, self._undisturbed = directory, images, undisturbed
        self.summary = directory / "summary.json"
        self.failures = self._reached = self._count = 0
        self.replaces = False
        self.left_by_another: Path | None = None
        self._rows_path = directory / "summary.jsonl"
        self._rows = -1
        self._stack = ExitStack()

    def __enter__(self) -> RunRecord:
        with ExitStack() as stack:
            stack.enter_context(folder_lock(self.directory))
            self.replaces = self.summary.exists()
            self._keep_rows_of_another()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._rows = os.open(self._rows_path, flags, 0o666)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._undisturbed(), self._stack:
            os.close(self._rows)
            if error is None or self._count or not self.replaces:
                try:
                    self._write_summary(error)
                except OSError:
                    if error is None:
                        raise
                    return  # the rows stay, and what went wrong first is told
            with suppress(OSError):
                self._rows_path.unlink()

    def explained(self, row: dict[str, Any], *, last: bool = True) -> None:
        """Note a face whose results are written.

        Args:

            row (dict): What the summary says of it.
            last (bool): Whether it is the last face of its image.
        """
        with self._undisturbed():
            self._append({"explained": row})
            self._reached += last

    def failed(self, image: str, reason: str, *, last: bool = True) -> None:
        """Note an image, or a face of it, that could not be explained.

        Args:

            image (str): The image.
            reason (str): Why.
            last (bool): As of :meth:`explained`.
        """
        with self._undisturbed():
            self._append({"failed": {"image": image, "reason": reason}})
            self._reached += last
            self.failures += 1

    def _append(self, row: dict[str, Any]) -> None:
        line = json_bytes(row) + b"\n"
        before = os.fstat(self._rows).st_size
        if os.write(self._rows, line) != len(line):
            os.ftruncate(self._rows, before)
            raise OSError(f"{self._rows_path} cannot be written: no space is left.")
        os.fsync(self._rows)
        self._count += 1

    def _keep_rows_of_another(self) -> None:
        """Give the rows of a run that was killed another name."""
        if not os.path.lexists(self._rows_path):
            return
        if not self._rows_path.is_file():
            raise ValueError(f"{self._rows_path} is no regular file: name another folder.")
        if self._rows_path.stat().st_size == 0:
            self._rows_path.unlink()
            return
        number = 2
        while os.path.lexists(kept := self.directory / f"summary-{number}.jsonl"):
            number += 1
        self._rows_path.rename(kept)
        self.left_by_another = kept

    def _write_summary(self, error: BaseException | None) -> None:
        with whole_file(self.summary) as file:
            file.write(b'{\n  "explained": [')
            self._copy(file, "explained")
            file.write(b'],\n  "failed": [')
            self._copy(file, "failed")
            file.write(b"]")
            if error is not None:
                why = json_bytes(str(error) or type(error).__name__)
                left = self.images - self._reached
                file.write(b',\n  "interrupted": %b,\n  "not_reached": %d' % (why, left))
            file.write(b"\n}\n")

    def _copy(self, file: BinaryIO, kind: str) -> None:
        before = b"\n    "
        with self._rows_path.open("rb") as rows:
            for line in rows:
                row = json.loads(line)
                if kind in row:
                    file.write(before + json_bytes(row[kind], indent=2).replace(b"\n", b"\n    "))
                    before = b",\n    "
        if before[:1] == b",":
            file.write(b"\n  ")


@contextmanager
def folder_lock(directory: Path) -> Iterator[int]:
    """Keep a folder from other runs of this program until the block ends.

    The lock is the operating system's, on a file in the folder: it ends with the process, however
    that ends.

    Args:

        directory (Path): Made if it is missing.

    Yields:
        *int*: the lock's file descriptor. A forked process shares the lock until it closes it.

    Raises:
        ValueError: if the folder cannot be written to, or another run has it.

    Examples::

        >>> with folder_lock(Path("results")):
        ...     pass
    """
    require_folder(directory)
    path = directory / _LOCK
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            _lock(descriptor, directory)
            mine = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:  # another run ended between the two lines and removed it
            mine = False
        except BaseException:
            os.close(descriptor)
            raise
        if mine:
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        remove_unfinished(directory)
        yield descriptor
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1000, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.lseek(descriptor, 0, os.SEEK_SET)
        process = os.read(descriptor, 20).decode("ascii", "replace")
        raise ValueError(
            f"Another run (process {process}) writes into {directory}: wait until it ends, or name "
            "another folder."
        ) from error
    except OSError as error:
        warnings.warn(
            f"{directory} cannot be locked ({error.strerror}): let no other run write there.",
            stacklevel=2,
        )
