"""Spoiling an aligned face in a known place: a covered eye, a surgical mask, blur."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces._checks import faces_extra, require_landmarks, require_rgb

__all__ = ["Disturbed", "blur", "cover_eye", "surgical_mask"]

Color = tuple[int, int, int]

_SUPERSAMPLING = 4
_LIGHT_BLUE: Color = (155, 192, 214)


class Disturbed(NamedTuple):
    """A spoilt image, and where it was spoilt.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        mask (ndarray): (H, W), bool; true where the object covers the face, be it in part.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def cover_eye(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    side: Literal["left", "right"],
    *,
    size: int | None = None,
    color: Color = (0, 0, 0),
) -> Disturbed:
    """Lays a square over one eye.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), x and y in pixels, as of
            :func:`~captum_plq.faces.landmarks_in_chip`.
        side (str): ``"left"`` or ``"right"``, as seen in the picture.
        size (int, optional): Side of the square in pixels. Default: 0.7 of the distance
            between the eyes' centres, which hides the eye with its lashes.
        color (tuple[int, int, int]): RGB, 0–255.

    Returns:
        *Disturbed*: the new image, and where the square is (cut off at the chip's border).

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> points = landmarks_in_chip(face, template="arcface", size=112)
        >>> image, mask = cover_eye(chip, points, "left")
        >>> mask.sum()
        576
    """
    image = require_rgb(chip).copy()
    right, left, _ = _eyes_and_nose(landmarks)
    if side not in ("left", "right"):
        raise ValueError(f'side must be "left" or "right", but got {side!r}.')
    if size is None:
        size = max(1, round(0.7 * float(np.linalg.norm(right - left))))
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, but got {size}.")
    centre_x, centre_y = left if side == "left" else right
    first_column, first_row = (round(float(c) - (size - 1) / 2) for c in (centre_x, centre_y))
    mask = np.zeros(image.shape[:2], dtype=np.bool_)
    mask[
        max(0, first_row) : max(0, first_row + size),
        max(0, first_column) : max(0, first_column + size),
    ] = True
    image[mask] = _checked(color)
    return Disturbed(image, mask)


def surgical_mask(
    chip: NDArray[np.uint8], landmarks: NDArray[np.float64], *, color: Color = _LIGHT_BLUE
) -> Disturbed:
    """Draws a surgical mask, from the bridge of the nose to below the chin.

    Its shape follows the eyes and the base of the nose alone, so that it turns and leans with
    the face; it is of one colour, its border is antialiased.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), x and y in pixels, as of
            :func:`~captum_plq.faces.landmarks_in_chip`.
        color (tuple[int, int, int]): RGB, 0–255. Default: light blue.

    Returns:
        *Disturbed*: the new image, and where the mask is.

    Raises:
        ValueError: if an argument is not as above.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> points = landmarks_in_chip(face, template="arcface", size=112)
        >>> image, mask = surgical_mask(chip, points)
    """
    image = require_rgb(chip)
    coverage = _coverage(_mask_outline(landmarks), image.shape[0], image.shape[1])
    paint = np.array(_checked(color), dtype=np.float64)
    mixed = image + coverage[:, :, None] * (paint - image)
    return Disturbed(np.rint(mixed).astype(np.uint8), coverage > 0)


def blur(chip: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blurs the whole image with a Gaussian (as Pillow approximates it: three running means).

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        sigma (float): Standard deviation in pixels; 0 returns a copy.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``sigma`` is negative or not finite.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> blurred = blur(chip, 3.0)
    """
    image = require_rgb(chip)
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be finite and not negative, but got {sigma}.")
    with faces_extra():
        from PIL import Image, ImageFilter

    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def _checked(color: Color) -> Color:
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise ValueError(f"color must be three numbers from 0 to 255, but got {color}.")
    return color


def _eyes_and_nose(landmarks: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Centres of the right and the left eye (as seen) and base of the nose, (2,) each."""
    points = require_landmarks(landmarks)
    return points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]


def _mask_outline(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mask's border as a polygon (n, 2) in the chip's pixels.

    It is drawn in the face's own axes: across in units of the distance between the eyes, down
    in units of the distance from the eyes to the base of the nose.
    """
    right, left, nose = _eyes_and_nose(landmarks)
    middle = (right + left) / 2
    across = right - left
    along = np.array([-across[1], across[0]])
    down = along * (float((nose - middle) @ along) / float(along @ along))
    # A turned head moves the nose to one side; bridge and chin follow it by half.
    lean = float((nose - middle) @ across) / float(across @ across) / 2

    x = np.linspace(-1.0, 1.0, 41)
    # Upper edge: high on the bridge, low on the cheeks under the eyes.
    upper_y = 0.84 - 0.42 * (np.cos(np.pi * x) + 1) / 2
    upper = np.stack([x + lean * (1 - x**2), upper_y], axis=1)
    # Lower edge: half an ellipse from cheek to cheek, around the chin.
    angle = np.linspace(0.0, np.pi, 61)[1:-1]
    lower = np.stack([np.cos(angle) + lean * np.sin(angle), 0.84 + 1.9 * np.sin(angle)], axis=1)
    outline = np.concatenate([upper, lower])
    return np.asarray(middle + outline @ np.stack([across, down]))


def _coverage(outline: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """How much of each pixel lies inside a polygon: (height, width), 0–1."""
    with faces_extra():
        from PIL import Image, ImageDraw

    n = _SUPERSAMPLING
    canvas = Image.new("L", (width * n, height * n))
    fine = (outline + 0.5) * n - 0.5
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in fine], fill=1)
    blocks = np.asarray(canvas, dtype=np.float64).reshape(height, n, width, n)
    return np.asarray(blocks.mean(axis=(1, 3)))
