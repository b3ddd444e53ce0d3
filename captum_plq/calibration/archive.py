"""Reads the archive that a calibration is stored in, as written by nobody one knows.

It is a zip file of NumPy arrays: ``header.npy``, a JSON text, and as a rule ``mean.npy`` and
``spread.npy``. Only these three are read; the header first, then the maps if they are of the size
it states. So what is unpacked is bounded before it is unpacked, whatever the file says of itself.
NumPy's own reader is not used: it unpacks before it looks, and knows pickles.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.regular_file import open_checked

__all__ = ["LARGEST_HEADER", "LARGEST_MAP", "read_archive"]

LARGEST_HEADER = 2**16
"""Characters of the JSON text."""

LARGEST_MAP = 2**22
"""Pixels of a map."""

_LARGEST_FILE = 3 * 4 * LARGEST_MAP
_MAPS = ("mean", "spread")
_PREFIX = 192
"""Bytes before the data of the arrays that are read: magic, version, length, and a dictionary."""

_DESCRIPTION = re.compile(
    r"\{'descr': '([^']{0,20})', 'fortran_order': (True|False), 'shape': \(([\d, ]{0,40})\), \} *\n"
)


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Reads the header and the maps of a calibration file.

    Args:

        path (Path): The file.

    Returns:
        *tuple[dict, dict]*: the header, whose values are not checked but for ``input_size`` where
        there are maps; and the maps by name, (H, W), float32: two or none.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no such archive, damaged, or too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(_bytes_of(path))) as archive:
            members = _members(archive)
            header = _header(archive, members.pop("header"))
            for name in _MAPS:
                if (members or "pool" in header) and name not in members:
                    raise ValueError(f"it has no {name!r}")
            size = _size(header) if members else (0, 0)
            return header, {name: _map(archive, members[name], size) for name in members}
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError,
    ) as error:  # fmt: skip
        raise ValueError(str(error) or "its archive is damaged") from error


def _bytes_of(path: Path) -> bytes:
    """The whole file, if it is a regular one and not too large."""

    def check(status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > _LARGEST_FILE:
            raise ValueError(f"it is longer than {_LARGEST_FILE:,} bytes")

    with open_checked(path, check) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The entries by the names of their arrays."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name not in ("header", *_MAPS) or name in members:
            again = " twice" if name in members else ""
            raise ValueError(f"it holds {info.filename[:40]!r}{again}, which is no part of one")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename!r} is packed in a way that is not read")
        if info.flag_bits & 1:
            raise ValueError(f"{info.filename!r} is encrypted")
        members[name] = info
    if "header" not in members:
        raise ValueError("it has no 'header'")
    return members


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> dict[str, Any]:
    descr, _, shape, data = _array(archive, info, 4 * LARGEST_HEADER)
    if descr[1:2] != "U" or descr[:1] not in "<>" or shape or len(data) != 4 * int(descr[2:]):
        raise ValueError("its header is of something else")
    order = "utf-32-le" if descr[0] == "<" else "utf-32-be"
    text = data.decode(order, "surrogatepass").rstrip("\0")
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("its header is of something else")
    return header


def _size(header: dict[str, Any]) -> tuple[int, int]:
    match header.get("input_size"):
        case [int(height), int(width)] if min(height, width) > 0 and height * width <= LARGEST_MAP:
            return height, width
        case other:
            raise ValueError(f"its input_size is {str(other)[:40]}, and no height and width")


def _map(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: tuple[int, int]
) -> NDArray[np.float32]:
    expected = 4 * math.prod(size)
    descr, fortran, shape, data = _array(archive, info, expected)
    if descr not in ("<f4", ">f4"):
        raise ValueError(f"{info.filename!r} holds {descr[:10]!r}, not float32")
    if shape != size or len(data) != expected:
        raise ValueError(f"its maps are not {size[0]}×{size[1]} pixels, as its header says")
    array = np.frombuffer(data, dtype=descr).reshape(shape, order="F" if fortran else "C")
    return np.array(array, dtype=np.float32, order="C")


def _array(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, largest: int
) -> tuple[str, bool, tuple[int, ...], bytes]:
    """An array's type, whether columns come first, shape and data, of at most ``largest`` bytes."""
    if info.file_size > _PREFIX + largest:
        raise ValueError(f"{info.filename!r} unpacks to {info.file_size:,} bytes, more than it may")
    with archive.open(info) as file:
        content = file.read(_PREFIX + largest + 1)  # to its end, where its checksum is compared
    if content[:8] != b"\x93NUMPY\x01\x00":
        raise ValueError(f"{info.filename!r} is no array as calibrations hold them")
    start = 10 + int.from_bytes(content[8:10], "little")
    found = _DESCRIPTION.fullmatch(content[10:start].decode("latin-1"))
    if found is None:
        raise ValueError(f"{info.filename!r} is no array as calibrations hold them")
    shape = tuple(int(n) for n in found[3].split(",") if n.strip())
    return found[1], found[2] == "True", shape, content[start:]


def _refuse_constant(name: str) -> float:
    raise ValueError(f"its header holds {name}, which is no number")
