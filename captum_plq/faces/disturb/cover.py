"""Spoiling an aligned face in a known place: a covered eye, a surgical mask, blur."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces.checks import require_rgb
from captum_plq.faces.disturb.drawing import (
    Color,
    FaceAxes,
    checked_color,
    face_axes,
    paint,
    polygon_coverage,
    square_mask,
)

__all__ = ["Disturbed", "blur", "cover_eye", "surgical_mask"]

_CHEEK = 0.84
"""Where a mask's upper edge meets the cheeks, in distances from the eyes to the nose's base."""

_CHIN = _CHEEK + 1.9
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
        >>> int(mask.sum())  # 24 by 24 pixels
        576
    """
    image = require_rgb(chip).copy()
    axes = face_axes(landmarks)
    if side not in ("left", "right"):
        raise ValueError(f'side must be "left" or "right", but got {side!r}.')
    if size is None:
        size = max(1, round(0.7 * axes.eye_distance))
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, but got {size}.")
    centre = axes.pixels((-0.5 if side == "left" else 0.5, 0.0))
    mask = square_mask(centre, size, *image.shape[:2])
    image[mask] = checked_color(color)
    return Disturbed(image, mask)


def surgical_mask(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    *,
    color: Color = _LIGHT_BLUE,
    top: float = 0.42,
) -> Disturbed:
    """Draws a surgical mask, from the bridge of the nose to below the chin.

    Its shape follows the eyes and the base of the nose alone, so that it turns and leans with
    the face; it is of one colour, its border is antialiased.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), x and y in pixels, as of
            :func:`~captum_plq.faces.landmarks_in_chip`.
        color (tuple[int, int, int]): RGB, 0–255. Default: light blue.
        top (float): Where its upper edge crosses the middle of the face, in distances from the
            eyes (0) down to the base of the nose (1); in [0, 2.5]. The default, 0.42, is on the
            bridge of the nose; at 1.1 the mask hangs below the nose, at 1.8 on the chin.

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
    if not 0 <= top <= 2.5:
        raise ValueError(f"top must be from 0 (the eyes) to 2.5 (the chin), but got {top}.")
    coverage = polygon_coverage(_mask_outline(face_axes(landmarks), top), *image.shape[:2])
    return Disturbed(paint(image, coverage, checked_color(color)), coverage > 0)


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
    with extra("faces"):
        from PIL import Image, ImageFilter

    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def _mask_outline(axes: FaceAxes, top: float) -> NDArray[np.float64]:
    """The mask's border as a polygon (n, 2) in the chip's pixels."""
    # A turned head moves the nose to one side; bridge and chin follow it by half.
    lean = axes.lean / 2
    sides = max(_CHEEK, top)
    begin = np.arcsin((sides - _CHEEK) / (_CHIN - _CHEEK))

    # Upper edge: high on the bridge, low on the cheeks under the eyes.
    x = np.linspace(-1.0, 1.0, 41)
    upper_y = sides - (sides - top) * (np.cos(np.pi * x) + 1) / 2
    bend = np.sin(begin) + (1 - np.sin(begin)) * (1 - x**2)
    upper = np.stack([x * np.cos(begin) + lean * bend, upper_y], axis=1)
    # Lower edge: an ellipse from cheek to cheek, around the chin.
    angle = np.linspace(begin, np.pi - begin, 61)[1:-1]
    lower = np.stack(
        [np.cos(angle) + lean * np.sin(angle), _CHEEK + (_CHIN - _CHEEK) * np.sin(angle)], axis=1
    )
    return axes.pixels(np.concatenate([upper, lower]))
