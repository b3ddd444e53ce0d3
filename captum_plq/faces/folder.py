"""The image files of a folder, in an order in which people come before second shots."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

__all__ = ["draw_images", "list_images"]

_ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".heic", ".heif"),  # not read, which is said of each
}


def list_images(directory: Path) -> list[Path]:
    """All image files of a folder and its subfolders, in alphabetical order.

    Args:

        directory (Path): Where to look. Files are told by their endings; none is opened. Links to
            files are listed, links to folders are not followed.

    Returns:
        *list[Path]*: also of what is no file, or a folder that may not be looked into, so that
        whoever opens them learns why they cannot be used.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no images.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    paths: set[Path] = set()
    walk = os.walk(directory, onerror=lambda error: paths.add(Path(error.filename)))
    for folder, folders, files in walk:
        names = (Path(folder, name) for name in (*folders, *files))
        paths.update(path for path in names if path.suffix.lower() in _ENDINGS)
    if not paths:
        raise ValueError(f"{directory} holds no images ({', '.join(sorted(_ENDINGS))}).")
    return sorted(paths)


def draw_images(directory: Path, seed: int = 0) -> Iterator[Path]:
    """All image files of a folder in random order, as many different people first as there are.

    Each folder that holds images counts as a person, as in LFW: first comes one image of
    each, then a second one of each, and so on. What is listed is as for :func:`list_images`.

    Args:

        directory (Path): Searched with its subfolders.
        seed (int): Of the order; the same seed and files, the same order. ≥ 0.

    Yields:
        *Path*: one file at a time.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no images.

    Examples::

        >>> first = list(itertools.islice(draw_images(Path("lfw")), 200))
    """
    people: dict[Path, list[Path]] = defaultdict(list)
    for path in list_images(directory):
        people[path.parent].append(path)
    generator = np.random.default_rng(seed)
    shuffled = [list(generator.permutation(np.array(files))) for files in people.values()]
    order = generator.permutation(len(shuffled))
    for turn in zip_longest(*(shuffled[i] for i in order)):
        yield from (Path(path) for path in turn if path is not None)
