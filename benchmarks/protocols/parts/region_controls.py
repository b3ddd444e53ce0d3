"""Regions that no map has chosen: what marking the lowest pixels has to beat, or can reach."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from benchmarks.subjects.methods import control
from captum_plq.metrics import lowest_region

TRUE_MASK, RANDOM_SQUARE, SHIFTED = "true mask", "random square", "shifted mask"


CONTROLS = (
    control(TRUE_MASK, "the occluder itself: the ceiling"),
    control(RANDOM_SQUARE, "a square of the occluder's area at a random place"),
    control(SHIFTED, "the occluder's shape at a random place; what leaves the image re-enters"),
)
"""The regions, described as the methods are; they explain nothing."""


def control_regions(mask: Tensor, name: str, seed: int) -> dict[str, Tensor]:
    """The regions for one occluded face, all of exactly the occluder's area.

    Args:

        mask (Tensor): (H, W), bool, where the occluder is.
        name (str): Of image and occluder; with the seed, it decides the places.
        seed (int): ≥ 0.

    Returns:
        *dict[str, Tensor]*: name → (H, W), bool.
    """
    generator = np.random.default_rng((seed, zlib.crc32(name.encode())))
    height, width = mask.shape
    area = int(mask.sum())
    side = min(area**0.5, height, width)
    y, x = (generator.uniform(side / 2, n - side / 2) - 0.5 for n in (height, width))
    rows, columns = (torch.arange(n, dtype=torch.float64) for n in (height, width))
    from_centre = torch.maximum((rows - y).abs()[:, None], (columns - x).abs())
    shift = (int(generator.integers(height)), int(generator.integers(width)))
    return {
        TRUE_MASK: mask,
        RANDOM_SQUARE: lowest_region(from_centre, area, pool=1).to(mask.device),
        SHIFTED: mask.roll(shift, dims=(0, 1)),
    }
