"""The images of a gallery, in order: of a folder, a pattern, a list, a table or archives."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.regular_file import open_checked
from captum_plq.errors import extra
from captum_plq.faces import ImageError, read_image_file
from captum_plq.faces.crops import IMAGE_ENDINGS, walk_images

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Entries", "Entry", "SourceGoneError", "list_entries", "read_entry"]

_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
_LISTS, _COMMAS, _PARQUET = (".txt", ".lst", ".list"), (".csv", ".tsv"), (".parquet", ".pq")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_NO_FILE = -1
_MAX_BYTES = 200_000_000


class SourceGoneError(OSError):
    """The folder or archive that a run reads from is not there any more."""


@dataclass(frozen=True)
class Entry:
    """One image of a source.

    Args:

        index (int): Its place, from 0.
        path (str): As the source has it; what is not UTF-8 is escaped.
        file (str): The file to open, absolute.
        offset (int): Where it begins in the file, of an archive; -1: it is the file.
        size (int): Its bytes in an archive; -1: no regular file.
    """

    index: int
    path: str
    file: str
    offset: int = -1
    size: int = 0


@dataclass(frozen=True, eq=False)
class Entries:
    """The images of a source, in order, in little memory.

    Args:

        root (str): Absolute folder that relative paths start from.
        names (pyarrow.LargeBinaryArray): As the source has them; of archives, the members'.
        archives (tuple[str, ...]): Of the members, relative to ``root``; empty: files.
        which (ndarray, optional): (n,), int32, the archive of each.
        offsets (ndarray, optional): (n,), int64, of each in its archive.
        sizes (ndarray, optional): (n,), int64.
    """

    root: str
    names: pa.LargeBinaryArray
    archives: tuple[str, ...] = ()
    which: NDArray[np.int32] | None = None
    offsets: NDArray[np.int64] | None = None
    sizes: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Entry:
        name: bytes = self.names[index].as_py()
        if self.which is None or self.offsets is None or self.sizes is None:
            file = os.path.join(self.root, os.fsdecode(name))
            return Entry(index, _text(name), file)
        archive = self.archives[self.which[index]]
        path = f"{_text(os.fsencode(archive))}::{_text(name)}"
        file = os.path.join(self.root, archive)
        return Entry(index, path, file, int(self.offsets[index]), int(self.sizes[index]))

    def between(self, start: int, stop: int) -> Iterator[Entry]:
        """Yield the entries from one place to before another."""
        return map(self.__getitem__, range(start, min(stop, len(self))))

    def digest(self) -> str:
        """Return a fingerprint of the list: names, order, and places in archives."""
        found = hashlib.sha256(repr(self.archives).encode("utf-8", "surrogateescape"))
        found.update(len(self.names).to_bytes(8, "little"))
        for start in range(0, len(self.names), 65536):
            for name in self.names[start : start + 65536].to_pylist():
                found.update(len(name).to_bytes(4, "little") + name)
        for array in (self.which, self.offsets, self.sizes):
            if array is not None:
                found.update(array.tobytes())
        return found.hexdigest()[:16]

    def anchor(self) -> str:
        """Return the deepest folder that holds all files, or their archive."""
        if self.archives:
            return os.path.commonpath([os.path.join(self.root, name) for name in self.archives])
        import pyarrow.compute as pc

        ends = pc.min_max(self.names).as_py().values()
        files = [os.path.join(self.root, os.fsdecode(name)) for name in ends]
        return os.path.commonpath([os.path.dirname(os.path.normpath(file)) for file in files])


def list_entries(source: str | os.PathLike[str], column: str | None = None) -> Entries:
    """List the images of a source.

    Args:

        source (str or PathLike): One of

            - a folder, searched with its subfolders as by :func:`~captum_plq.faces.list_images`;
            - a pattern of files such as ``"photos/**/*.jpg"``, or ``"shard-*.tar"``;
            - a list, ``.txt``: a path a line;
            - a table, ``.csv``, ``.tsv`` or ``.parquet``, with a column of paths;
            - a ``.tar`` archive of images, such as webdataset's; what else is in it is passed over;
            - an image.

            Paths in a list or a table are relative to its folder.
        column (str, optional): Of the table. ``None``: ``path``, ``file``, ``filename``,
            ``file_name``, ``image`` or ``image_path``, or the only one.

    Returns:
        *Entries*: in the order of the list, table or archive, or else by name.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if it holds no images, or is of another kind.
        MissingExtraError: if pyarrow is not installed.

    Examples::

        >>> entries = list_entries("photos.txt")
        >>> entries[0].path
        'portrait.jpg'
    """
    with extra("gallery"):
        import pyarrow as pa
    text = os.fspath(source)
    path, lower = Path(text), text.lower()
    if path.is_dir():
        begin = len(str(path))
        relative = (file[begin:].lstrip(os.sep) or os.curdir for file in walk_images(path))
        names = sorted(map(os.fsencode, relative))
        return Entries(os.path.abspath(path), pa.array(names, pa.large_binary()))
    if not os.path.lexists(path) and glob.has_magic(text):
        found = sorted(file for file in glob.glob(text, recursive=True) if not os.path.isdir(file))
        tars = [file for file in found if file.lower().endswith(".tar")]
        if not found or (tars and len(tars) < len(found)):
            what = "matches images and archives" if found else "matches no file"
            raise ValueError(f"{text} {what}: name files of one kind.")
        if tars:
            return _of_archives(tars, os.getcwd())
        return Entries(os.getcwd(), pa.array(map(os.fsencode, found), pa.large_binary()))
    if not os.path.lexists(path):
        raise FileNotFoundError(f"There is no folder, pattern, list, table or archive {text}.")
    if not path.is_file():
        raise ValueError(f"{text} is no regular file: name a folder, a list, a table or a .tar.")
    folder = os.path.dirname(os.path.abspath(path))
    if lower.endswith(".tar"):
        return _of_archives([path.name], folder)
    if lower.endswith(_COMPRESSED):
        raise ValueError(f"{text} is compressed, so images in it cannot be reached: unpack it.")
    if lower.endswith((*_COMMAS, *_PARQUET)):
        return Entries(folder, _column_of(path, column))
    if lower.endswith(_LISTS):
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        names = [line.removesuffix(b"\r") for line in lines if line.strip()]
        if not names:
            raise ValueError(f"{text} lists no images.")
        return Entries(folder, pa.array(names, pa.large_binary()))
    if path.suffix.lower() in IMAGE_ENDINGS:
        return Entries(folder, pa.array([os.fsencode(path.name)], pa.large_binary()))
    kinds = ", ".join((*_LISTS, *_COMMAS, *_PARQUET, ".tar"))
    raise ValueError(f"{text} is no list, table or archive by its name ({kinds}), nor an image.")


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
    if entry.size == _NO_FILE:
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


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _column_of(path: Path, column: str | None) -> pa.LargeBinaryArray:
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() in _PARQUET:
            names = pq.read_schema(path).names
            table = pq.read_table(path, columns=[_chosen(path, names, column)])
        else:
            parse = csv.ParseOptions(delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            with csv.open_csv(path, parse_options=parse) as reader:
                chosen = _chosen(path, reader.schema.names, column)
            kinds = {chosen: pa.string()}
            convert = csv.ConvertOptions(include_columns=[chosen], column_types=kinds)
            table = csv.read_csv(path, parse_options=parse, convert_options=convert)
        values: Any = table.column(0).combine_chunks().cast(pa.large_string())
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
    if not len(values):
        raise ValueError(f"{path} lists no images.")
    return values.fill_null("").cast(pa.large_binary())


def _chosen(path: Path, names: list[str], column: str | None) -> str:
    known = [name for name in _COLUMNS if name in names]
    chosen = column or (known[0] if known else names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names:
        asked = "no column of paths is named" if column is None else f"there is no {column!r}"
        raise ValueError(f"{path}: {asked}; its columns are {', '.join(names)}: give --column.")
    return chosen


def _of_archives(files: list[str], root: str) -> Entries:
    import pyarrow as pa

    parts = [part for number, file in enumerate(files) for part in _members(root, file, number)]
    if not parts:
        raise ValueError(f"{', '.join(files[:3])} holds no images ({', '.join(IMAGE_ENDINGS)}).")
    names, which, offsets, sizes = zip(*parts, strict=True)
    return Entries(
        root,
        pa.array(names, pa.large_binary()),
        tuple(files),
        np.array(which, np.int32),
        np.array(offsets, np.int64),
        np.array(sizes, np.int64),
    )


def _members(root: str, file: str, number: int) -> Iterable[tuple[bytes, int, int, int]]:
    """Yield name, archive, offset and size of what has an image's name in an archive."""
    seen = False
    try:
        with tarfile.open(os.path.join(root, file), "r:") as archive:
            for member in archive:
                seen = True
                archive.members = []  # type: ignore[attr-defined]  # would grow with the archive
                if os.path.splitext(member.name)[1].lower() in IMAGE_ENDINGS:
                    size = member.size if member.isreg() and not member.issparse() else _NO_FILE
                    name = member.name.encode("utf-8", "surrogateescape")
                    yield name, number, member.offset_data, size
    except (tarfile.TarError, OSError) as error:
        if not seen:  # otherwise the last one that is there is found to be cut off as it is read
            raise ValueError(f"{file} is not a tar archive, or is damaged ({error}).") from error
