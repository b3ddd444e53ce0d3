"""Listing the images of a source: a folder, a pattern, a list, a table or archives."""

from __future__ import annotations

import glob
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from captum_plq.errors import extra
from captum_plq.faces.crops import IMAGE_ENDINGS, walk_images
from captum_plq.preparation.entries import NO_FILE, Entries, Names

__all__ = ["list_entries", "list_photos"]

_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path")
_LISTS, _COMMAS, _PARQUET = (".txt", ".lst", ".list"), (".csv", ".tsv"), (".parquet", ".pq")
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")

_REST = b"what follows"
"""In the place of a name, where an archive is cut off between two images."""

_Place = tuple[int, int, int]
"""Of an image: its archive, and there its offset and size; -1: it is a file of its own."""

_A_FILE: _Place = (NO_FILE, NO_FILE, NO_FILE)


@dataclass
class _Listed:
    """The images of one source: names relative to a folder, which is as the caller named it."""

    folder: str
    names: Sequence[bytes]
    archives: list[str] = field(default_factory=list)
    places: list[_Place] = field(default_factory=list)

    def entries(self) -> Entries:
        root, names = os.path.abspath(self.folder), Names(self.names)
        if not self.archives:
            return Entries(root, names)
        which, offsets, sizes = np.array(self.places, np.int64).T
        places = (which.astype(np.int32), offsets.copy(), sizes.copy())
        return Entries(root, names, tuple(self.archives), *places)


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
        MissingExtraError: if it is a table, and pyarrow is not installed.

    Examples::

        >>> entries = list_entries("photos.txt")
        >>> entries[0].path
        'portrait.jpg'
    """
    return _listed(os.fspath(source), column).entries()


def list_photos(
    sources: Sequence[str | os.PathLike[str]],
    column: str | None = None,
    *,
    results: str | os.PathLike[str] | None = None,
) -> Entries:
    """List the images of several sources, named as seen from the current folder.

    Args:

        sources (sequence of str or PathLike): Each as for :func:`list_entries`. What is no folder,
            pattern, list, table or archive is taken for an image, also if it is not there.
        column (str, optional): As for :func:`list_entries`.
        results (str or PathLike, optional): A folder that is passed over in folders and patterns.

    Returns:
        *Entries*: one source after another.

    Raises:
        ValueError: as :func:`list_entries`; if a folder is that of the results, or nothing else is
            there.
        MissingExtraError: as :func:`list_entries`.

    Examples::

        >>> [entry.path for entry in list_photos(["portrait.jpg", "photos.txt"])]
        ['portrait.jpg', 'portrait.jpg']
    """
    found = _Listed("", names := [])
    for given in sources:
        source = os.fspath(given)
        part = _listed(source, column, otherwise_image=True)
        places = part.places or [_A_FILE] * len(part.names)
        keep: Sequence[int] = range(len(part.names))
        if results is not None and not part.archives and not os.path.isfile(source):
            keep = _outside(part, source, os.path.realpath(results))
        folder, archives = os.fsencode(part.folder), len(found.archives)
        for i in keep:
            which, offset, size = places[i]
            file = which == NO_FILE
            names.append(os.path.join(folder, part.names[i]) if file else part.names[i])
            found.places.append(_A_FILE if file else (which + archives, offset, size))
        found.archives += [os.path.join(part.folder, name) for name in part.archives]
    if not names:
        raise ValueError("There are no photos there but the results of earlier runs.")
    return found.entries()


def _outside(part: _Listed, source: str, results: str) -> list[int]:
    """Places in a folder or pattern of what does not lie in the folder of results."""
    if os.path.isdir(source) and os.path.realpath(source) == results:
        raise ValueError(
            f"The results would lie among the photos of {source}, and be taken for photos by "
            "the next run: name another folder with -o."
        )
    inside: dict[bytes, bool] = {}
    for folder in {os.path.dirname(name) for name in part.names}:
        real = os.path.realpath(os.path.join(part.folder, os.fsdecode(folder)))
        inside[folder] = f"{real}{os.sep}".startswith(f"{results}{os.sep}")
    return [i for i, name in enumerate(part.names) if not inside[os.path.dirname(name)]]


def _listed(text: str, column: str | None, otherwise_image: bool = False) -> _Listed:
    path, lower = Path(text), text.lower()
    if path.is_dir():
        begin = len(str(path))
        relative = (file[begin:].lstrip(os.sep) or os.curdir for file in walk_images(path))
        return _Listed(text, sorted(map(os.fsencode, relative)))
    if not os.path.lexists(path) and glob.has_magic(text):
        found = sorted(file for file in glob.glob(text, recursive=True) if not os.path.isdir(file))
        tars = [file for file in found if file.lower().endswith(".tar")]
        if not found:
            raise ValueError(f"{text} matches no file: check the pattern.")
        if tars and len(tars) < len(found):
            raise ValueError(f"{text} matches images and archives: name files of one kind.")
        return _of_archives("", tars) if tars else _Listed("", list(map(os.fsencode, found)))
    folder, kinds = os.path.dirname(text), (*_LISTS, *_COMMAS, *_PARQUET, ".tar")
    there = os.path.lexists(path)
    if lower.endswith(_COMPRESSED):
        raise ValueError(f"{text} is compressed, so images in it cannot be reached: unpack it.")
    if (there and path.suffix.lower() in IMAGE_ENDINGS) or (
        otherwise_image and not (there and lower.endswith(kinds))
    ):
        return _Listed(folder, [os.fsencode(os.path.basename(text))])
    if not there:
        raise FileNotFoundError(f"There is no folder, pattern, list, table or archive {text}.")
    if not path.is_file():
        raise ValueError(f"{text} is no regular file: name a folder, a list, a table or a .tar.")
    if lower.endswith(".tar"):
        return _of_archives(folder, [path.name])
    if lower.endswith(_LISTS):
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        names = [line.removesuffix(b"\r") for line in lines if line.strip()]
    elif lower.endswith(kinds):
        names = _column_of(path, column)
    else:
        named = ", ".join(kinds)
        raise ValueError(
            f"{text} is no list, table or archive by its name ({named}), nor an image."
        )
    if not names:
        raise ValueError(f"{text} lists no images.")
    return _Listed(folder, names)


def _column_of(path: Path, column: str | None) -> list[bytes]:
    with extra("gallery"):
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
        found: list[bytes] = values.fill_null("").cast(pa.large_binary()).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from error
    return found


def _chosen(path: Path, names: list[str], column: str | None) -> str:
    known = [name for name in _COLUMNS if name in names]
    chosen = column or (known[0] if known else names[0] if len(names) == 1 else None)
    if chosen is None or chosen not in names:
        asked = "no column of paths is named" if column is None else f"there is no {column!r}"
        raise ValueError(f"{path}: {asked}; its columns are {', '.join(names)}: give --column.")
    return chosen


def _of_archives(folder: str, files: list[str]) -> _Listed:
    found = _Listed(folder, names := [], files)
    for number, file in enumerate(files):
        for name, offset, size in _members(os.path.join(folder, file)):
            names.append(name)
            found.places.append((number, offset, size))
    if not names:
        raise ValueError(f"{', '.join(files[:3])} holds no images ({', '.join(IMAGE_ENDINGS)}).")
    return found


def _members(file: str) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, offset and size of what has an image's name in an archive.

    Of one that is cut off, the last that is yielded is too: an image, or what stands for the rest.
    """
    seen, after, reached = False, None, 0
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                seen = True
                archive.members = []  # type: ignore[attr-defined]  # would grow with the archive
                if os.path.splitext(member.name)[1].lower() in IMAGE_ENDINGS:
                    size = member.size if member.isreg() and not member.issparse() else NO_FILE
                    yield member.name.encode("utf-8", "surrogateescape"), member.offset_data, size
                    reached = member.offset_data + max(size, 0)
            after = archive.offset
    except (tarfile.TarError, OSError) as error:
        if not seen:
            raise ValueError(f"{file} is not a tar archive, or is damaged ({error}).") from error
    with open(file, "rb") as data:
        length = data.seek(0, os.SEEK_END)
        data.seek(length if after is None else after)
        ended = data.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
    if not ended and reached <= length:
        yield _REST, length, tarfile.BLOCKSIZE
