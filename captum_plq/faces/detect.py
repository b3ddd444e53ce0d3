"""Find faces and their five landmarks with dlib."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.dlib_files import PACKAGE, find_dlib_file
from captum_plq.errors import extra
from captum_plq.faces.checks import require_rgb

__all__ = ["WEAK_SCORE", "Face", "NoFaceError", "detect_faces"]

WEAK_SCORE = 0.25
"""Detections that score no higher may be no face, see :func:`detect_faces`."""

_PREDICTOR = "shape_predictor_5_face_landmarks.dat"


class NoFaceError(ValueError):
    """No face was found in an image."""


@dataclass(frozen=True, eq=False)
class Face:
    """One detected face.

    "Left" and "right" are those of the picture, not of the person shown.

    Args:

        box (tuple[int, int, int, int]): Left, top, right, bottom in pixels, the last two
            inclusive; a box may reach beyond the image. It spans brows to chin.
        score (float): dlib's detection score, without unit; the higher the surer. See
            :func:`detect_faces`.
        landmarks (ndarray): (5, 2), float64, x and y in pixels (whole numbers are pixel
            centres), in dlib's order: outer and inner corner of the right eye, outer and
            inner corner of the left eye, base of the nose (where it meets the upper lip).
    """

    box: tuple[int, int, int, int]
    score: float
    landmarks: NDArray[np.float64]

    @property
    def weak(self) -> bool:
        """Whether it may be no face: its score is at most :data:`WEAK_SCORE`."""
        return self.score <= WEAK_SCORE


def detect_faces(
    image: NDArray[np.uint8], *, min_score: float = 0.0, max_side: int = 1600
) -> list[Face]:
    """Find all upright, roughly frontal faces, the surest first.

    dlib's detector (HOG features, a sliding window of 80 px) looks at the image, or at a copy
    scaled down to ``max_side``. Only if it finds nothing it looks once more at twice that
    resolution, so that faces of 40 px are found too. The landmarks are always sought in the
    image itself.

    The scores tell faces from false detections. In NASA's portrait of an astronaut
    (``skimage.data.astronaut()``), resized to sides of 192 to 3464 px, the face scores 1.3 to
    1.7; the mission patch, the name tag and the like, found at some of these sizes (not at
    its own, 512 px), score 0 to 0.25. Of 1043 people in LFW, half score above 1.5 and 98 %
    above 0.2.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        min_score (float): Detections must score higher. Default: 0, dlib's own.
        max_side (int): Longest side, in pixels, of what the detector looks at first.

    Returns:
        *list[Face]*: never empty, best score first.

    Raises:
        ValueError: if ``image`` is not (H, W, 3) uint8, ``max_side`` is not positive, or
            ``min_score`` is NaN.
        NoFaceError: if no face is found.
        MissingExtraError: if dlib, Pillow or face_recognition_models is not installed.

    Examples::

        >>> best, *others = detect_faces(load_image("portrait.jpg"))
        >>> best.box  # left, top, right, bottom
        (179, 83, 266, 170)
    """
    image = require_rgb(image)
    if not max_side >= 1:
        raise ValueError(f"max_side must be positive, but got {max_side}.")
    if np.isnan(min_score):
        raise ValueError("min_score must be a number, but got NaN.")
    side = max(image.shape[:2])
    faces = _faces_at(image, min(side, max_side), min_score)
    if not faces:
        faces = _faces_at(image, min(2 * side, 2 * max_side), min_score)
    if not faces:
        raise NoFaceError(
            f"No face found in the image of {image.shape[1]}×{image.shape[0]} pixels; check that "
            "one is upright, looks towards the camera and is at least some 80 pixels wide, or, "
            "if this is an aligned face already, use the option for aligned images."
        )
    return sorted(faces, key=lambda face: face.score, reverse=True)


def _faces_at(image: NDArray[np.uint8], side: int, min_score: float) -> list[Face]:
    """Run the detector on a copy whose longest side is ``side``, the predictor on ``image``."""
    detector, predictor = _detector_and_predictor()
    seen = _resized(image, side)
    scale_x, scale_y = seen.shape[1] / image.shape[1], seen.shape[0] / image.shape[0]
    rectangles, scores, _ = detector.run(seen, 0, min_score)
    faces = []
    for rectangle, score in zip(rectangles, scores, strict=True):
        box = (
            round(rectangle.left() / scale_x),
            round(rectangle.top() / scale_y),
            round((rectangle.right() + 1) / scale_x) - 1,
            round((rectangle.bottom() + 1) / scale_y) - 1,
        )
        faces.append(Face(box, float(score), _landmarks(predictor, image, box)))
    return faces


def _resized(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if side == max(height, width):
        return image
    with extra("faces"):
        from PIL import Image
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.array(
        Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    )


def _landmarks(
    predictor: Any, image: NDArray[np.uint8], box: tuple[int, int, int, int]
) -> NDArray[np.float64]:
    import dlib

    shape = predictor(image, dlib.rectangle(*box))
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)


@lru_cache(maxsize=1)
def _detector_and_predictor() -> tuple[Any, Any]:
    with extra("faces"):
        import dlib

        path = find_dlib_file(_PREDICTOR)
        if path is None:
            raise ModuleNotFoundError(name=PACKAGE)
    return dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))
