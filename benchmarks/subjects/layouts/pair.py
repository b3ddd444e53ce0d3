"""One pair of a list, and what all readers check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath


@dataclass(frozen=True)
class Pair:
    """Two images, relative to their folder, or two templates, and whether one person is on both.

    Args:

        fold (str): Its part of the list; ``""`` where the list has none.
        first (str): Name of an image or a template.
        second (str): Likewise.
        mated (bool): Whether they show the same person.
        people (tuple[str, str]): Whom they show; ``""`` where the list does not tell.
    """

    fold: str
    first: str
    second: str
    mated: bool
    people: tuple[str, str] = ("", "")


def inside(name: str, where: str) -> str:
    """Return an image's name if it stays in the folder it is relative to.

    Raises:
        ValueError: if it is absolute or has a part ``..``, with where it stands.
    """
    parts = PureWindowsPath(name)  # knows drives, and both slashes
    if parts.drive or parts.root or ".." in parts.parts:
        raise ValueError(f"{where}: {name!r} may lead out of the folder of the images.")
    return name


def folder_of(name: str) -> str:
    """Return the folder of an image, which in many data sets is a person."""
    return str(PurePosixPath(name).parent)


def lines_of(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield where a line stands, for messages, and its words, without empty lines.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not text.
    """
    with path.open(encoding="utf-8-sig") as file:
        try:
            for i, line in enumerate(file, 1):
                if words := line.split():
                    yield f"{path}, line {i}", words
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not a text file in UTF-8.") from error


def require_kinds(pairs: Sequence[Pair], path: Path) -> None:
    """Raise a ``ValueError`` unless there are pairs of both kinds."""
    mated = sum(pair.mated for pair in pairs)
    if not 0 < mated < len(pairs):
        raise ValueError(
            f"{path} must give mated and non-mated pairs, but gives {len(pairs)}, {mated} of them "
            "mated."
        )
