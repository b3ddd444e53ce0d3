"""Writes a file whole or not at all: what was there before stays until the new one is safe."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

__all__ = [
    "json_bytes",
    "remove_unfinished",
    "require_folder",
    "require_writable",
    "whole_file",
    "write_json",
]


@contextmanager
def whole_file(path: Path, *, follow: bool = True) -> Iterator[BinaryIO]:
    """A file to be written in place of another, which it replaces when the block ends well.

    It is written under a temporary name in the same folder, brought to the disk, and renamed. If
    the block raises, it is removed, and what ``path`` was stays.

    Args:

        path (Path): Its final name.
        follow (bool): A link is followed; otherwise it is replaced.

    Yields:
        *BinaryIO*: open for writing.

    Raises:
        OSError: if it cannot be written.
        ValueError: if there is something that is no regular file.

    Examples::

        >>> with whole_file(Path("notes.txt")) as file:
        ...     _ = file.write(b"all of it")
    """
    target = Path(os.path.realpath(path)) if follow else path
    if target.exists() and not target.is_file():
        raise ValueError(f"{path} is no regular file: name another to write.")
    temporary = _temporary(target.parent)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(target.parent)


def write_json(path: Path, data: dict[str, Any], *, follow: bool = True) -> None:
    r"""Writes a record for people and programs: whole, indented, in UTF-8.

    Args:

        path (Path): The file; what is there is replaced.
        data (dict): What JSON can hold. A file name that is not UTF-8 is written as ``\udcXX``
            escapes: read back, ``os.fsencode`` makes the same bytes of it.
        follow (bool): As for :func:`whole_file`.

    Raises:
        OSError: if it cannot be written.

    Examples::

        >>> write_json(Path("record.json"), {"quality": 0.7})
    """
    text = json_bytes(data, indent=2)
    with whole_file(path, follow=follow) as file:
        file.write(text + b"\n")


def json_bytes(data: Any, indent: int | None = None) -> bytes:
    """Data as JSON in UTF-8; lone surrogates, which UTF-8 cannot hold, as JSON's own escapes."""
    return json.dumps(data, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace")


def require_folder(directory: Path) -> None:
    """Makes a folder, and tries whether files can be written to it.

    Args:

        directory (Path): It is made, with those above it, if it is missing.

    Raises:
        ValueError: if it is something else, or cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = _temporary(directory)
        try:
            probe.write_bytes(b"?")
        finally:
            with suppress(OSError):
                probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        file = next((p for p in (directory, *directory.parents) if os.path.lexists(p)), directory)
        raise ValueError(f"{file} is a file, not a folder: name another folder.") from error
    except OSError as error:
        raise ValueError(
            f"The folder {directory} cannot be written to ({error.strerror}): name another."
        ) from error


def require_writable(path: Path, begins: bytes) -> None:
    """Tries whether a file can be written, and looks that it replaces none of another kind.

    Args:

        path (Path): The file to be.
        begins (bytes): What files of its kind begin with; such a one may be replaced.

    Raises:
        ValueError: if it is a folder or a file of another kind, or cannot be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file to write.")
    require_folder(path.parent)
    if not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: name another to write.")
    with path.open("rb") as file:
        start = file.read(len(begins))
    if start not in (begins, b""):
        raise ValueError(f"{path} is there and of another kind: name another file to write.")


def remove_unfinished(directory: Path) -> None:
    """Removes what processes that were killed had begun to write into a folder.

    Args:

        directory (Path): Where no other process of another machine writes.
    """
    for path in directory.glob(".captum-plq-*.tmp"):
        with suppress(OSError, ValueError):
            process = int(path.name.split("-")[2])
            if process != os.getpid() and not _alive(process):
                path.unlink()


def _alive(process: int) -> bool:
    if os.name == "nt":  # where os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _temporary(directory: Path) -> Path:
    return directory / f".captum-plq-{os.getpid()}-{token_hex(4)}.tmp"


def _sync_folder(directory: Path) -> None:
    """Brings a rename to the disk, where folders can be opened."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
