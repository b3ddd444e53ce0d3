"""What the files of this folder that draw on faces share: the face's axes, shapes, paint, light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq.errors import extra
from captum_plq.faces.checks import require_landmarks

__all__ = [
    "Color",
    "FaceAxes",
    "checked_color",
    "face_axes",
    "from_linear",
    "paint",
    "polygon_coverage",
    "square_mask",
    "to_linear",
]

Color = tuple[int, int, int]
"""RGB, 0–255."""

_SUPERSAMPLING = 4


class FaceAxes(NamedTuple):
    """A face's own axes, so that what is drawn turns, leans and grows with it.

    Args:

        middle (ndarray): (2,), between the eyes, x and y in pixels.
        across (ndarray): (2,), from the left to the right eye's centre, as seen.
        down (ndarray): (2,), at right angles to it, as long as from the eyes to the base of the
            nose.
        lean (float): How far the base of the nose lies to the right, in distances between the
            eyes: 0 for a frontal face.
    """

    middle: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    lean: float

    @property
    def eye_distance(self) -> float:
        """Distance between the eyes' centres in pixels."""
        return float(np.linalg.norm(self.across))

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """From units of ``across`` and ``down``, (..., 2), to x and y in pixels."""
        axes = np.stack([self.across, self.down])
        return np.asarray(self.middle + np.asarray(points, dtype=np.float64) @ axes)


def face_axes(landmarks: NDArray[np.float64]) -> FaceAxes:
    """The axes of a face from dlib's five landmarks.

    Args:

        landmarks (ndarray): (5, 2), x and y in pixels.

    Raises:
        ValueError: if ``landmarks`` is not as above, or the two eyes coincide.
    """
    points = require_landmarks(landmarks)
    right, left, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    middle, across = (right + left) / 2, right - left
    along = np.array([-across[1], across[0]])
    length = float(across @ across)
    down = along * (float((nose - middle) @ along) / length)
    return FaceAxes(middle, across, down, float((nose - middle) @ across) / length)


def checked_color(color: Color) -> Color:
    """Refuses what is not three numbers from 0 to 255.

    Raises:
        ValueError: if it is not.
    """
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise ValueError(f"color must be three numbers from 0 to 255, but got {color}.")
    return color


def polygon_coverage(outline: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """How much of each pixel lies inside a polygon (n, 2) of pixels: (height, width), 0–1."""
    with extra("faces"):
        from PIL import Image, ImageDraw

    n = _SUPERSAMPLING
    canvas = Image.new("L", (width * n, height * n))
    fine = (outline + 0.5) * n - 0.5
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in fine], fill=1)
    blocks = np.asarray(canvas, dtype=np.float64).reshape(height, n, width, n)
    return np.asarray(blocks.mean(axis=(1, 3)))


def square_mask(
    centre: NDArray[np.float64], size: int, height: int, width: int
) -> NDArray[np.bool_]:
    """A square of whole pixels around a point, cut off at the border: (height, width)."""
    column, row = (round(float(c) - (size - 1) / 2) for c in centre)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[max(0, row) : max(0, row + size), max(0, column) : max(0, column + size)] = True
    return mask


def paint(
    image: NDArray[np.uint8], coverage: NDArray[np.float64], color: ArrayLike
) -> NDArray[np.uint8]:
    """Mixes a colour, or a picture (H, W, 3), into an image where a shape covers it.

    Args:

        image (ndarray): (H, W, 3), uint8; left as it is.
        coverage (ndarray): (H, W), 0–1.
        color (array-like): (3,) or (H, W, 3), 0–255.

    Returns:
        *ndarray*: (H, W, 3), uint8.
    """
    mixed = image + coverage[:, :, None] * (np.asarray(color, dtype=np.float64) - image)
    return np.rint(mixed).astype(np.uint8)


def to_linear(values: ArrayLike) -> NDArray[np.float64]:
    """From sRGB values, 0–255, to amounts of light, 0–1 (IEC 61966-2-1)."""
    v = np.asarray(values, dtype=np.float64) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def from_linear(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """From amounts of light to sRGB values; what exceeds white is white."""
    x = light.clip(0, 1)
    v = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(255 * v).astype(np.uint8)
    return pixels
