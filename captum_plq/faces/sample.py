"""A face to try things on: NASA's portrait of an astronaut, aligned."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra

__all__ = ["SampleFace", "sample_face"]

# As detect_faces and landmarks_in_chip find them in skimage.data.astronaut().
_LANDMARKS = ((79.94, 52.57), (65.35, 54.18), (31.01, 52.80), (44.93, 53.67), (56.11, 79.16))


class SampleFace(NamedTuple):
    """An aligned face and its landmarks.

    Args:

        chip (ndarray): (112, 112, 3), uint8, RGB, aligned to the ArcFace template.
        landmarks (ndarray): (5, 2), x and y in its pixels, as of
            :func:`~captum_plq.faces.landmarks_in_chip`.
    """

    chip: NDArray[np.uint8]
    landmarks: NDArray[np.float64]


def sample_face() -> SampleFace:
    """Return a face: Eileen Collins, photographed by NASA in 1999; public domain.

    It is what :func:`~captum_plq.faces.align_face` makes of ``skimage.data.astronaut()``, so that
    a first map needs no detector and no download.

    Returns:
        *SampleFace*: of 112×112 pixels.

    Raises:
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> chip, landmarks = sample_face()
        >>> covered = cover_eye(chip, landmarks, "left").image
    """
    with extra("faces"):
        from PIL import Image

    with files("captum_plq.faces").joinpath("data").joinpath("astronaut.png").open("rb") as file:
        return SampleFace(np.array(Image.open(file)), np.array(_LANDMARKS))
