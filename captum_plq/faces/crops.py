"""From image files to aligned face crops, one bad file not costing the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.align import Template, align_face, resize_aligned, template_landmarks
from captum_plq.faces.decode import load_image
from captum_plq.faces.detect import detect_faces

__all__ = ["read_crop", "read_crops"]


def read_crop(
    path: str | os.PathLike[str],
    *,
    template: Template,
    size: tuple[int, int],
    aligned: bool = False,
) -> NDArray[np.uint8]:
    """The face in an image file, as a network expects it.

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
    """The faces of many image files; what cannot be used is noted, and the rest goes on.

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
