"""Reads the archive that a calibration is stored in, from whatever source.

It is a zip file of NumPy arrays: ``header.npy``, a JSON text, and as a rule ``mean.npy`` and
``spread.npy``, ``local_center.npy``, ``local_spread.npy`` and ``local_smoothed.npy``. Only these
are read. What is
unpacked, and what is allocated for an array, is bounded beforehand, whatever the file says of
itself; ``numpy.load`` bounds neither, and knows pickles.
"""

from __future__ import annotations

import io
import math
import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.regular_file import open_checked

__all__ = ["LARGEST_GRID", "LARGEST_HEADER", "LARGEST_MAP", "read_archive"]

LARGEST_HEADER = 2**16
"""Characters of the JSON text."""

LARGEST_MAP = 2**22
"""Pixels of a map."""

LARGEST_GRID = 2**16
"""Places of a local reference."""

_PREFIX = 192
"""Bytes before the data of an array: magic, version, length, and a dictionary."""

_LARGEST = {
    "header.npy": _PREFIX + 4 * LARGEST_HEADER,
    "mean.npy": _PREFIX + 4 * LARGEST_MAP,
    "spread.npy": _PREFIX + 4 * LARGEST_MAP,
    "local_center.npy": _PREFIX + 4 * LARGEST_GRID,
    "local_spread.npy": _PREFIX + 4 * LARGEST_GRID,
    "local_smoothed.npy": _PREFIX + 8 * LARGEST_GRID,
}
"""Bytes of each member, unpacked."""

_LARGEST_FILE = 3 * 4 * LARGEST_MAP

_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError,
)  # fmt: skip


def read_archive(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of a calibration file.

    Args:

        path (Path): The file.

    Returns:
        *dict*: ``header``, ``mean``, ``spread``, ``local_center``, ``local_spread`` and
        ``local_smoothed``, those that it has, of any shape and type but objects.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no such archive, damaged, or too large.
    """

    def check(status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_size > _LARGEST_FILE:
            raise ValueError(f"it is longer than {_LARGEST_FILE:,} bytes")

    arrays: dict[str, NDArray[Any]] = {}
    with open_checked(path, check) as file:
        content = io.BytesIO(file.read(os.fstat(file.fileno()).st_size))
    try:
        with zipfile.ZipFile(content) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if info.filename not in _LARGEST or name in arrays:
                    again = " twice" if name in arrays else ", which is no part of one"
                    raise ValueError(f"it holds {info.filename[:40]!r}{again}")
                arrays[name] = _array(archive, info)
    except _DAMAGED as error:
        raise ValueError(str(error) or "its archive is damaged") from error
    return arrays


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    name, largest = info.filename, _LARGEST[info.filename]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise ValueError(f"{name!r} is packed in a way that is not read")
    if info.file_size > largest:
        raise ValueError(f"{name!r} unpacks to {info.file_size:,} bytes, more than it may")
    with archive.open(info) as file:
        content = io.BytesIO(file.read(largest + 1))  # to its end, where its checksum is compared
    try:
        np.lib.format.read_magic(content)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(content, _PREFIX)
        data = content.read()
        # objects would be taken from addresses that the file states
        if not dtype.hasobject and len(data) == dtype.itemsize * math.prod(shape):
            array: NDArray[Any] = np.ndarray(shape, dtype, data, order="F" if fortran else "C")
            return array
    except Exception as error:  # whatever NumPy objects to
        raise ValueError(f"{name!r} is no array as calibrations hold them") from error
    raise ValueError(f"{name!r} is no array as calibrations hold them")
