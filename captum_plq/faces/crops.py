"""From the image files of a folder to aligned face crops, one bad file not costing the others."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.align import Template, align_face, resize_aligned, template_landmarks
from captum_plq.faces.decode import load_image
from captum_plq.faces.detect import detect_faces

__all__ = ["IMAGE_ENDINGS", "draw_images", "list_images", "read_crop", "read_crops", "walk_images"]

IMAGE_ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".jp2", ".j2k", ".avif", ".ppm", ".pgm", ".pbm", ".pnm"),
    *(".heic", ".heif"),  # not read, which is said of each
}


def read_crop(
    path: str | os.PathLike[str],
    *,
    template: Template,
    size: tuple[int, int],
    aligned: bool = False,
) -> NDArray[np.uint8]:
    """Read the face in an image file, as a network expects it.

    Args:

        path (str or PathLike): The file.
        template (str): As for :func:`~captum_plq.faces.align_face`.
        size (tuple[int, int]): Height and width of the crop in pixels.
        aligned (bool): The image is an aligned crop, to be resized only. Otherwise its surest
            face is found and cut out.

    Returns:
        *ndarray*: (height, width, 3), uint8, RGB.

    Raises:
        ValueError: if the file cannot be used as an image, holds no face, or, ``aligned``,
            has other proportions than ``size``.
        MissingExtraError: if the extra ``faces`` is not installed.

    Examples::

        >>> crop = read_crop("photo.jpg", template="arcface", size=(112, 112))
    """
    image = load_image(path)
    if aligned:
        return resize_aligned(image, size)
    return align_face(image, detect_faces(image)[0], template=template, size=size)


def read_crops(
    paths: Iterable[Path],
    left_out: dict[str, str],
    *,
    template: Template,
    size: tuple[int, int],
    aligned: bool = False,
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Read the faces of many image files; what cannot be used is noted, and the rest goes on.

    Args:

        paths (iterable of Path): The files.
        left_out (dict): Takes, for each file that cannot be used, its name → the reason.
        template (str): As for :func:`read_crop`.
        size (tuple[int, int]): As for :func:`read_crop`.
        aligned (bool): As for :func:`read_crop`.

    Yields:
        *tuple[Path, ndarray]*: the file, and its crop (height, width, 3), uint8, RGB.

    Raises:
        ValueError: if ``template`` or ``size`` is not as for :func:`~captum_plq.faces.align_face`.
        MissingExtraError: if the extra ``faces`` is not installed.

    Examples::

        >>> left_out = {}
        >>> crops = dict(read_crops(paths, left_out, template="dlib", size=(150, 150)))
    """
    template_landmarks(template, size)  # what is wrong for every file is no file's fault
    for path in paths:
        try:
            crop = read_crop(path, template=template, size=size, aligned=aligned)
        except ImportError:
            raise
        except Exception as error:  # whatever a decoder makes of a damaged file
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            left_out[str(path)] = reason.removeprefix(f"{path} ")
            continue
        yield path, crop


def list_images(directory: Path) -> list[Path]:
    """List the image files of a folder and its subfolders, in alphabetical order.

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
    return sorted(map(Path, walk_images(directory)))


def walk_images(directory: Path) -> set[str]:
    """Find what :func:`list_images` lists, as text, which takes less memory.

    Args:

        directory (Path): As for :func:`list_images`.

    Returns:
        *set[str]*: paths, each beginning with that of the folder.

    Raises:
        FileNotFoundError: as :func:`list_images`.
        ValueError: as :func:`list_images`.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no folder {directory}.")
    paths: set[str] = set()
    walk = os.walk(directory, onerror=lambda error: paths.add(error.filename))
    for folder, folders, files in walk:
        for name in (*folders, *files):
            if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS:
                paths.add(os.path.join(folder, name))
    if not paths:
        raise ValueError(f"{directory} holds no images ({', '.join(sorted(IMAGE_ENDINGS))}).")
    return paths


def draw_images(directory: Path, seed: int = 0) -> Iterator[Path]:
    """Yield the image files of a folder in random order, different people first.

    Each folder that holds images counts as a person, as in LFW: first comes one image of
    each, then a second one of each, and so on. What is listed is as for :func:`list_images`.

    Args:

        directory (Path): Searched with its subfolders.
        seed (int): For the order; the same seed and files, the same order. ≥ 0.

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
