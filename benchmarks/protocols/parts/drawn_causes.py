"""Faces with a known thing wrong, drawn in varied ways: what feedback should name."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces import (
    blur,
    hand,
    headgear,
    reduce_resolution,
    sunglasses,
    surgical_mask,
)
from captum_plq.faces.disturb.degrade import at_112
from captum_plq.faces.disturb.standards import change_exposure

__all__ = ["CAUSES", "CLEAN", "Drawn", "draw_cause"]

CLEAN = "none"
CAUSES = {
    CLEAN: "nothing to correct",
    "mask": "lower face covered",
    "dark glasses": "eyes covered",
    "hand over a cheek": "face partly covered",
    "cap over the brows": "forehead covered",
    "blur": "blurred",
    "darkness": "too dark",
    "over-exposure": "overexposed",
    "low resolution": "too small",
}
"""What is drawn → what should be said."""

_JITTER = 1.5
"""Pixels, at 112 rows, by which each landmark is moved: the standard deviation."""

_CLOTHS = (
    (155, 192, 214), (236, 238, 240), (34, 36, 40), (120, 150, 120), (60, 70, 120), (38, 48, 84),
    (120, 30, 36), (90, 90, 92), (200, 190, 170),
)  # fmt: skip


class Drawn(NamedTuple):
    """A face with something wrong.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB.
        landmarks (ndarray): (5, 2), of the photo that it would come from: of another size than the
            chip if its resolution is low.
    """

    chip: NDArray[np.uint8]
    landmarks: NDArray[np.float64]


Chip = NDArray[np.uint8]
Points = NDArray[np.float64]


def draw_cause(chip: Chip, points: Points, cause: str, name: str, seed: int = 0) -> Drawn:
    """Do something to a face.

    The landmarks that things are drawn at are moved by 1.5 px each, and colour, height, side,
    strength and so on are drawn anew for each face.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB, aligned.
        points (ndarray): (5, 2), where its landmarks should lie.
        cause (str): Of :data:`CAUSES`.
        name (str): Of the face; with the seed, it decides about all that varies.
        seed (int): ≥ 0.

    Returns:
        *Drawn*: the face.
    """
    generator = np.random.default_rng((seed, *(zlib.crc32(x.encode()) for x in (name, cause))))
    moved = points + generator.normal(0, at_112(chip, _JITTER), points.shape)
    if cause == CLEAN:
        return Drawn(chip, points)
    if cause == "low resolution":
        rows = int(generator.integers(14, 29))
        return Drawn(reduce_resolution(chip, rows), points * (rows / chip.shape[0]))
    return Drawn(_DRAW[cause](chip, moved, generator), points)


def _cloth(generator: np.random.Generator) -> tuple[int, int, int]:
    return _CLOTHS[generator.integers(len(_CLOTHS))]


def _mask(chip: Chip, points: Points, generator: np.random.Generator) -> Chip:
    top = float(generator.uniform(0.3, 0.7))
    return surgical_mask(chip, points, color=_cloth(generator), top=top).image


def _glasses(chip: Chip, points: Points, generator: np.random.Generator) -> Chip:
    return sunglasses(chip, points, transmittance=float(generator.uniform(0, 0.08))).image


def _hand(chip: Chip, points: Points, generator: np.random.Generator) -> Chip:
    seed = int(generator.integers(2**31))
    if generator.integers(2):
        return hand(chip, points, "left cheek", seed=seed).image
    return hand(chip, points, "right cheek", seed=seed).image


def _cap(chip: Chip, points: Points, generator: np.random.Generator) -> Chip:
    height = float(generator.uniform(0.4, 0.6))
    return headgear(chip, points, height=height, color=_cloth(generator)).image


def _stops(chip: Chip, generator: np.random.Generator, low: float, high: float) -> Chip:
    return change_exposure(chip, float(generator.uniform(low, high)))


_DRAW: dict[str, Callable[[Chip, Points, np.random.Generator], Chip]] = {
    "mask": _mask,
    "dark glasses": _glasses,
    "hand over a cheek": _hand,
    "cap over the brows": _cap,
    "blur": lambda chip, _, generator: blur(chip, at_112(chip, float(generator.uniform(2, 4)))),
    "darkness": lambda chip, _, generator: _stops(chip, generator, -4.5, -3),
    "over-exposure": lambda chip, _, generator: _stops(chip, generator, 2, 3),
}
