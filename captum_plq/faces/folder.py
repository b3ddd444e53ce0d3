"""The image files of a folder, in an order in which people come before second shots."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np

__all__ = ["draw_images", "list_images"]

_ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def list_images(directory: Path) -> list[Path]:
    """All image files of a folder and its subfolders, in alphabetical order.

    Args:

        directory (Path): Where to look. Files are told by their endings; none is opened.

    Returns:
        *list[Path]*

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it holds no images.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in _ENDINGS)
    if not paths:
        raise ValueError(f"{directory} holds no images ({', '.join(sorted(_ENDINGS))}).")
    return paths


def draw_images(directory: Path, seed: int = 0) -> Iterator[Path]:
    """All image files of a folder in random order, as many different people first as there are.

    Each folder that holds images counts as a person, as in LFW: first comes one image of
    each, then a second one of each, and so on. Files are told by their endings; none is
    opened.

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
