"""The images of a source, in order and in little memory, and the bytes of each."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.regular_file import open_checked
from captum_plq.faces import ImageError, read_image_file

__all__ = ["NO_FILE", "Entries", "Entry", "Names", "SourceGoneError", "read_entry"]

NO_FILE = -1
"""Size of what is no regular file in its archive, and archive of a file that is in none."""

_MAX_BYTES = 200_000_000


class SourceGoneError(OSError):
    """The folder or archive that a run reads from is not there any more."""


@dataclass(frozen=True)
class Entry:
    """One image of a source.

    Args:

        index (int): Its place, from 0.
        path (str): As the source has it; ``os.fsencode`` makes the same bytes of it.
        file (str): The file to open, absolute.
        offset (int): Where it begins in the file, of an archive; -1: it is the file.
        size (int): Its bytes in an archive; -1: no regular file.
    """

    index: int
    path: str
    file: str
    offset: int = -1
    size: int = 0

    @property
    def text(self) -> str:
        """The path with what is not UTF-8 escaped."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


class Names:
    """Many names in two pieces of memory, which processes can share.

    Args:

        names (iterable of bytes): In order.

    Examples::

        >>> Names([b"a.jpg", b"b.jpg"])[1]
        b'b.jpg'
    """

    def __init__(self, names: Iterable[bytes]) -> None:
        text, ends = bytearray(), []
        for name in names:
            text += name
            ends.append(len(text))
        self._text, self._ends = bytes(text), np.array([0, *ends], np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> bytes:
        place = range(len(self))[index]
        return self._text[self._ends[place] : self._ends[place + 1]]

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))


@dataclass(frozen=True, eq=False)
class Entries:
    """The images of a source, in order, in little memory.

    Args:

        root (str): Absolute folder that relative paths start from.
        names (Names): As the source has them; of archives, the members'.
        archives (tuple[str, ...]): Of the members, relative to ``root``; empty: files.
        which (ndarray, optional): (n,), int32, the archive of each; -1: none.
        offsets (ndarray, optional): (n,), int64, of each in its archive.
        sizes (ndarray, optional): (n,), int64.
    """

    root: str
    names: Names
    archives: tuple[str, ...] = ()
    which: NDArray[np.int32] | None = None
    offsets: NDArray[np.int64] | None = None
    sizes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Entry:
        name = os.fsdecode(self.names[index])
        which = NO_FILE if self.which is None else self.which[index]
        if which == NO_FILE or self.offsets is None or self.sizes is None:
            return Entry(index, name, os.path.join(self.root, name))
        archive = self.archives[which]
        file = os.path.join(self.root, archive)
        place = int(self.offsets[index]), int(self.sizes[index])
        return Entry(index, f"{archive}::{name}", file, *place)

    def __iter__(self) -> Iterator[Entry]:
        return self.between(0, len(self))

    def between(self, start: int, stop: int) -> Iterator[Entry]:
        """Yield the entries from one place to before another."""
        return map(self.__getitem__, range(start, min(stop, len(self))))

    def identity(self) -> dict[str, object]:
        """Return what tells one source from another: its length, and a fingerprint of the list."""
        return {"images": len(self), "digest": self.digest()}

    def digest(self) -> str:
        """Return a fingerprint of the list: names, order, and places in archives."""
        found = hashlib.sha256(repr(self.archives).encode("utf-8", "surrogateescape"))
        found.update(len(self.names).to_bytes(8, "little"))
        for name in self.names:
            found.update(len(name).to_bytes(4, "little") + name)
        for array in (self.which, self.offsets, self.sizes):
            if array is not None:
                found.update(array.tobytes())
        return found.hexdigest()[:16]

    def anchor(self) -> str:
        """Return the deepest folder that holds all files and archives, or the only archive."""
        found = [os.path.join(self.root, name) for name in self.archives]
        files: Iterable[bytes] = self.names
        if self.which is not None:
            files = (self.names[i] for i in np.flatnonzero(self.which == NO_FILE).tolist())
        for folder in {os.path.dirname(name) for name in files}:
            found.append(os.path.normpath(os.path.join(self.root, os.fsdecode(folder))))
        return os.path.commonpath(found)


def read_entry(entry: Entry, max_bytes: int = _MAX_BYTES) -> bytes:
    """Read the bytes of an image; a part of an archive is read without what lies around it.

    Args:

        entry (Entry): The image.
        max_bytes (int): Longer ones are refused unread.

    Returns:
        *bytes*: at least one.

    Raises:
        ImageError: as :func:`~captum_plq.faces.read_image_file`.

    Examples::

        >>> data = read_entry(list_entries("photos.txt")[0])
    """
    if entry.offset < 0:
        return read_image_file(entry.file, max_bytes=max_bytes)
    if entry.size == NO_FILE:
        raise ImageError("is a link or a special file in its archive.", "not_a_file")
    if entry.size == 0:
        raise ImageError("is not an image but empty; get it again as JPEG or PNG.", "empty")
    if entry.size > max_bytes:
        raise ImageError(f"is longer than the {max_bytes:,} bytes allowed.", "too_large")
    try:
        with open_checked(entry.file, _require_regular) as file:
            file.seek(entry.offset)
            data = file.read(entry.size)
    except FileNotFoundError as error:
        raise ImageError(f"Its archive {entry.file} does not exist.", "missing") from error
    except OSError as error:
        raise ImageError(f"Its archive cannot be read ({error.strerror}).", "unreadable") from error
    if len(data) != entry.size:
        raise ImageError("is cut off: its archive ends before it; get it again.", "damaged")
    return data


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is no regular file")
