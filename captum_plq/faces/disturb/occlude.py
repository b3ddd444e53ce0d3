"""Hide a part of a face: a square, a surgical mask, sunglasses, a hand, headgear.

All are drawn from dlib's five landmarks alone, so that they turn, lean and grow with the face.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.choices import require_choice
from captum_plq.faces.checks import require_rgb
from captum_plq.faces.disturb.drawing import (
    Color,
    Disturbed,
    FaceAxes,
    bar_outline,
    checked_color,
    face_axes,
    from_linear,
    hand_layers,
    lens_outline,
    mask_outline,
    paint,
    polygon_coverage,
    square_mask,
    to_linear,
)

__all__ = [
    "HandPlace",
    "Place",
    "Side",
    "cover_eye",
    "hand",
    "headgear",
    "square",
    "sunglasses",
    "surgical_mask",
]

Side = Literal["left", "right"]
"""As seen in the picture."""


Place = Literal["left eye", "right eye", "nose", "mouth", "left cheek", "right cheek", "forehead"]
"""A part of the face; "left" and "right" as seen in the picture."""

HandPlace = Literal["mouth", "left cheek", "right cheek"]
"""What a hand lies over; "left" and "right" as seen in the picture."""

_PLACES: dict[str, tuple[float, float]] = {
    "left eye": (-0.5, 0.0),
    "right eye": (0.5, 0.0),
    "nose": (0.0, 0.70),
    "mouth": (0.0, 1.49),
    "left cheek": (-0.62, 0.95),
    "right cheek": (0.62, 0.95),
    "forehead": (0.0, -1.0),
}
"""Across and down in the face's own axes. Tip of the nose and mouth are those of the ArcFace
template, put in relation to where dlib's landmarks lie in faces aligned to it."""

_LIGHT_BLUE: Color = (155, 192, 214)
_NEARLY_BLACK: Color = (18, 18, 20)
_NAVY: Color = (38, 48, 84)


def square(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    over: Place,
    *,
    size: int | None = None,
    color: Color = (0, 0, 0),
) -> Disturbed:
    """Lay a square over a part of the face; its sides are along the picture's.

    Over an eye it is that of :func:`~captum_plq.faces.cover_eye`.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
        over (str): What its centre lies on: ``"left eye"``, ``"right eye"``, ``"nose"`` (its
            tip), ``"mouth"``, ``"left cheek"``, ``"right cheek"`` or ``"forehead"``.
        size (int, optional): Side in pixels. Default: 0.7 of the distance between the eyes.
        color (tuple[int, int, int]): RGB, 0–255.

    Returns:
        *Disturbed*: the new image, and where the square is (cut off at the chip's border).

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> image, mask = square(chip, template_landmarks("arcface", 112), "nose", size=30)
    """
    image = require_rgb(chip).copy()
    require_choice("over", over, Place)
    axes = face_axes(landmarks)
    if size is None:
        size = max(1, round(0.7 * axes.eye_distance))
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, but got {size}.")
    mask = square_mask(axes.pixels(_PLACES[over]), size, *image.shape[:2])
    image[mask] = checked_color(color)
    return Disturbed(image, mask)


def cover_eye(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    side: Side,
    *,
    size: int | None = None,
    color: Color = (0, 0, 0),
) -> Disturbed:
    """Lay a square over one eye.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
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
    require_choice("side", side, Side)
    over: Place = "left eye" if side == "left" else "right eye"
    return square(chip, landmarks, over, size=size, color=color)


def surgical_mask(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    *,
    color: Color = _LIGHT_BLUE,
    top: float = 0.42,
) -> Disturbed:
    """Draw a surgical mask, from the bridge of the nose to below the chin.

    Its shape follows the eyes and the base of the nose alone, so that it turns and leans with
    the face; it is of one colour, its border is antialiased.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
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
    coverage = polygon_coverage(mask_outline(face_axes(landmarks), top), *image.shape[:2])
    return Disturbed(paint(image, coverage, checked_color(color)), coverage > 0)


def sunglasses(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    *,
    transmittance: float = 0.0,
    color: Color = _NEARLY_BLACK,
) -> Disturbed:
    """Put glasses on: two lenses, a bridge and the ends of the temples, antialiased.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
        transmittance (float): Share of the light that the lenses let through, in [0, 1]; 1 is
            a frame without lenses. The frame lets none through. Sunglasses of the filter
            categories 0 to 4 (ISO 12312-1) let through over 0.8, 0.43 to 0.8, 0.18 to 0.43,
            0.08 to 0.18 and 0.03 to 0.08.
        color (tuple[int, int, int]): RGB of the frame, and of what the lenses reflect; 0–255.

    Returns:
        *Disturbed*: the new image, and where lenses and frame are.

    Raises:
        ValueError: if an argument is not as above.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> image, mask = sunglasses(chip, template_landmarks("arcface", 112))
    """
    image = require_rgb(chip)
    if not 0 <= transmittance <= 1:
        raise ValueError(f"transmittance must be from 0 to 1, but got {transmittance}.")
    axes, size = face_axes(landmarks), image.shape[:2]
    bars = [
        bar_outline(-0.1, 0.1, -0.14, 0.09),  # the bridge, and the ends of the temples
        bar_outline(-1.3, -0.9, -0.2, 0.1),
        bar_outline(0.9, 1.3, -0.2, 0.1),
    ]
    lenses, frame = np.zeros(size), np.zeros(size)
    for u in (-0.5, 0.5):
        outer, inner = (
            polygon_coverage(axes.pixels_by_eyes(lens_outline(u, grow)), *size)
            for grow in (0.06, 0.0)
        )
        lenses = np.maximum(lenses, inner)
        frame = np.maximum(frame, outer - inner)
    for bar in bars:
        frame = np.maximum(frame, polygon_coverage(axes.pixels_by_eyes(bar), *size))
    frame = np.minimum(frame, 1 - lenses)
    ink = to_linear(checked_color(color))
    tinted = from_linear(transmittance * to_linear(image) + (1 - transmittance) * ink)
    worn = paint(paint(image, lenses, tinted), frame / np.maximum(1 - lenses, 1e-12), color)
    return Disturbed(worn, lenses + frame > 0)


def hand(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    over: HandPlace = "mouth",
    *,
    color: Color | None = None,
    seed: int = 0,
) -> Disturbed:
    """Lay a hand over the mouth or a cheek: a palm and four fingers, antialiased.

    Its size follows the distance between the eyes (a palm of 1.5 by 1.3 of it, as of adults).
    It is shaded towards its edges, without texture.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
        over (str): ``"mouth"``, the fingers pointing across it, from a side that the seed
            picks; ``"left cheek"`` or ``"right cheek"``, the fingers pointing up.
        color (tuple[int, int, int], optional): RGB of the skin, 0–255. Default: the median
            colour of the face's own cheeks and bridge of the nose.
        seed (int): For side, direction, spread and lengths; no global random state is used. ≥ 0.

    Returns:
        *Disturbed*: the new image, and where the hand is.

    Raises:
        ValueError: if an argument is not as above, or the cheeks and the nose lie outside the
            image and no ``color`` is given.

    Examples::

        >>> image, mask = hand(chip, template_landmarks("arcface", 112), "left cheek", seed=3)
    """
    image = require_rgb(chip)
    require_choice("over", over, HandPlace)
    axes = face_axes(landmarks)
    skin = _skin_color(image, axes) if color is None else np.array(checked_color(color), float)
    side = {"left cheek": -1, "right cheek": 1}.get(over, 0)
    coverage = np.zeros(image.shape[:2])
    drawn = image
    target = axes.pixels(_PLACES[over])
    for part, shade in hand_layers(axes, target, side, image.shape[0], image.shape[1], seed):
        drawn = paint(drawn, part, skin * shade[:, :, None])
        coverage = np.maximum(coverage, part)
    return Disturbed(drawn, coverage > 0)


def headgear(
    chip: NDArray[np.uint8],
    landmarks: NDArray[np.float64],
    *,
    height: float = 0.8,
    color: Color = _NAVY,
) -> Disturbed:
    """Put a knitted cap on, with a lighter turn-up, down to the forehead; antialiased.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
        height (float): How far above the eyes its lower edge crosses the middle of the face,
            in distances from the eyes to the base of the nose; in [0, 2]. 0.5 is on the brows,
            the default, 0.8, low on the forehead, 1.4 near the hair.
        color (tuple[int, int, int]): RGB, 0–255.

    Returns:
        *Disturbed*: the new image, and where the cap is.

    Raises:
        ValueError: if an argument is not as above.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> image, mask = headgear(chip, template_landmarks("arcface", 112))
    """
    image = require_rgb(chip)
    if not 0 <= height <= 2:
        raise ValueError(f"height must be from 0 to 2, but got {height}.")
    axes, size = face_axes(landmarks), image.shape[:2]
    half_width, turn_up, crown = 1.38, 0.5, 2.4
    across = np.linspace(-1, 1, 41)
    edge = np.stack([across * half_width, 0.2 * across**2 - height], axis=1)
    angle = np.linspace(0, np.pi, 61)
    dome = np.stack([np.cos(angle) * half_width, 0.2 - height - crown * np.sin(angle)], axis=1)
    upper_edge = edge[::-1] * (1.02, 1) - (0, turn_up)
    cap = polygon_coverage(axes.pixels(np.concatenate([edge, dome[1:-1]])), *size)
    band = polygon_coverage(axes.pixels(np.concatenate([edge * (1.02, 1), upper_edge])), *size)
    dark = np.array(checked_color(color), dtype=np.float64)
    worn = paint(paint(image, cap, dark), band, dark + 0.18 * (255 - dark))
    return Disturbed(worn, np.maximum(cap, band) > 0)


def _skin_color(image: NDArray[np.uint8], axes: FaceAxes) -> NDArray[np.float64]:
    """Median colour of three discs: both cheeks and the bridge of the nose."""
    rows, columns = np.indices(image.shape[:2])
    discs = np.zeros(image.shape[:2], dtype=np.bool_)
    for x, y in axes.pixels([(-0.5, 0.75), (0.5, 0.75), (0.0, 0.35)]):
        discs |= np.hypot(columns - x, rows - y) <= 0.17 * axes.eye_distance
    if not discs.any():
        raise ValueError("The face's skin lies outside the image: give color.")
    return np.asarray(np.median(image[discs], axis=0), dtype=np.float64)
