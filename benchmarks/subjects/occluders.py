"""Occluders drawn at known places of a face, in place of the occlusions in the paper's photos."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import as_chip, as_image
from captum_plq.faces import Disturbed, hand, headgear, square, sunglasses, surgical_mask
from captum_plq.faces.disturb.occlude import HandPlace, Place

Draw = Callable[[NDArray[np.uint8], NDArray[np.float64], np.random.Generator], Disturbed]


def occlude(
    image: Tensor, landmarks: NDArray[np.float64], occluder: str, name: str, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw an occluder over a face, and return where it is.

    Args:

        image (Tensor): (3, H, W), whole numbers 0–255.
        landmarks (ndarray): (5, 2), x and y in its pixels.
        occluder (str): One of :data:`OCCLUDERS`.
        name (str): Of the image; with the seed, it decides where squares and hands lie.
        seed (int): ≥ 0.

    Returns:
        *tuple[Tensor, Tensor]*: the image, (3, H, W), as ``image`` in type and device, and the
        mask (H, W), bool.

    Raises:
        ValueError: if the occluder is unknown, or hides nothing or everything.
    """
    if occluder not in OCCLUDERS:
        raise ValueError(f"There is no occluder {occluder!r}; there are {', '.join(OCCLUDERS)}.")
    generator = np.random.default_rng((seed, *(zlib.crc32(x.encode()) for x in (name, occluder))))
    drawn = OCCLUDERS[occluder](as_chip(image), landmarks, generator)
    if not drawn.mask.any() or drawn.mask.all():
        raise ValueError(f"{occluder} hides nothing or everything of {name}.")
    return as_image(drawn.image, image), torch.from_numpy(drawn.mask).to(image.device)


def _square(
    chip: NDArray[np.uint8], landmarks: NDArray[np.float64], generator: np.random.Generator
) -> Disturbed:
    places = get_args(Place)
    return square(chip, landmarks, places[generator.integers(len(places))])


def _hand(
    chip: NDArray[np.uint8], landmarks: NDArray[np.float64], generator: np.random.Generator
) -> Disturbed:
    places = get_args(HandPlace)
    place = places[generator.integers(len(places))]
    return hand(chip, landmarks, place, seed=int(generator.integers(2**31)))


OCCLUDERS: dict[str, Draw] = {
    "square": _square,
    "sunglasses": lambda chip, landmarks, _: sunglasses(chip, landmarks),
    "surgical-mask": lambda chip, landmarks, _: surgical_mask(chip, landmarks),
    "hand": _hand,
    "headgear": lambda chip, landmarks, _: headgear(chip, landmarks),
}
"""A black square over a random part of the face, opaque sunglasses, a surgical mask, a hand over
the mouth or a cheek, a knitted cap."""
