"""Names for the results of many images, none of which overwrites another's, or an image."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from captum_plq.explanation.result import RESULT_ENDINGS, files_of_record

__all__ = ["result_names"]

_LONGEST_ENDING = len("-face1000-1000.json")
_RESERVED = ("summary", "contact-sheet")
_FACE = re.compile(r"-face(s|[0-9]+)$")


def result_names(paths: Sequence[Path], directory: Path, *, faces: bool = False) -> list[str]:
    """Return a name without ending for the results of each image.

    The name is the image's own. A leading dot becomes ``_``, and a name too long for the endings
    of results is cut. A number is added to a name that is another image's (upper and lower case
    count as equal: ``A.jpg``, ``a.jpg``), or ``summary`` or ``contact-sheet``, or that of files in
    the folder which are not the figure, arrays and record of an earlier result, such as an image to
    be explained.

    Args:

        paths (sequence of Path): The images.
        directory (Path): Where the results will be.
        faces (bool): Names also get ``-face1``, ``-face2``, and so on, and ``-faces``.

    Returns:
        *list[str]*: one per image, in their order.

    Examples::

        >>> result_names([Path("a.jpg"), Path("b/A.png"), Path("summary.jpg")], Path("results"))
        ['a', 'A-2', 'summary-2']
    """
    folder = os.path.realpath(directory)
    images = {_key(path.stem) for path in paths if _parent(path) == folder}
    taken, bases = set(_RESERVED), set(_RESERVED)
    if faces:  # a-face1.png, if it is an image, must not become the figure of a.jpg's first face
        bases |= {_FACE.sub("", image) for image in images}
    longest = _longest(directory)
    numbers: dict[str, int] = {}
    names = []
    for path in paths:
        stem = _shortened(re.sub(r"^\.", "_", path.stem), longest)
        number = numbers.get(_key(stem), 1)
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            number += 1
            key = _key(name)
            base = _FACE.sub("", key)
            free = key not in taken and not (faces and (key in bases or base in taken))
            if free and _unused_or_ours(directory, name):
                break
        numbers[_key(stem)] = number
        taken.add(key)
        if base != key:
            bases.add(base)
        names.append(name)
    return names


def _unused_or_ours(directory: Path, name: str) -> bool:
    there = {n for e in RESULT_ENDINGS if os.path.lexists(directory / (n := f"{name}{e}"))}
    if not there:
        return True
    record = f"{name}{RESULT_ENDINGS[-1]}"
    ours = files_of_record(directory / record)
    return ours is not None and there <= {record, *ours}


def _key(name: str) -> str:
    """Equal for names that some file system holds to be equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _parent(path: Path) -> str:
    return os.path.realpath(path.parent)


def _longest(directory: Path) -> int:
    """Bytes that a name may have before the longest ending of a result."""
    try:
        longest = os.pathconf(directory, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        longest = 255
    return max(longest, 64) - _LONGEST_ENDING


def _shortened(stem: str, longest: int) -> str:
    while len(os.fsencode(stem)) > longest:
        stem = stem[:-1]
    return stem
