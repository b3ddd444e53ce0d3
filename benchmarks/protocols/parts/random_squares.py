"""Squares at random places of faces, filled in five ways (Sec. IV-A2 of the paper, and more).

The paper's squares are black. A black square alone proves little: it lowers the gradients even of
networks with random weights. Noise and the texture of another face do not.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import as_chip, as_image
from captum_plq.faces import blur

_INNER = 0.9
"""Share of the height and of the width, around the middle, that squares lie in (the paper's)."""

Chip = NDArray[np.uint8]
_Fill = Callable[[Chip, int, tuple[slice, slice], Chip, np.random.Generator], Chip]


def square(
    height: int, width: int, size: int, generator: np.random.Generator
) -> tuple[slice, slice]:
    """Draw a place, uniform among those wholly within the inner 90 % of the image.

    Args:

        height (int): Of the image, in pixels.
        width (int): Of the image, in pixels.
        size (int): Side of the square in pixels.
        generator (numpy.random.Generator): Draws it.

    Returns:
        *tuple[slice, slice]*: rows and columns.

    Raises:
        ValueError: if the square does not fit.
    """
    places = []
    for side in (height, width):
        first = -(-round(1000 * side * (1 - _INNER) / 2) // 1000)  # rounded up
        last = side - first - size
        if size < 1 or last < first:
            raise ValueError(
                f"Squares must have 1 to {side - 2 * first} pixels a side in images of {side}, "
                f"not {size}."
            )
        start = int(generator.integers(first, last + 1))
        places.append(slice(start, start + size))
    return places[0], places[1]


def occlude_squares(
    images: Tensor,
    sizes: Sequence[int],
    fills: Sequence[str],
    others: Sequence[Tensor],
    names: Sequence[str],
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Return images with a square each, and where it is.

    The place depends on the image's name, the size and the seed alone: all fills lie in the
    same square.

    Args:

        images (Tensor): (B, 3, H, W), whole numbers 0–255.
        sizes (sequence of int): Side of each square in pixels.
        fills (sequence of str): Of :data:`FILLS`, one each.
        others (sequence of Tensor): (3, H, W) each, other faces, which give the textures.
        names (sequence of str): Of the images.
        seed (int): ≥ 0.

    Returns:
        *tuple[Tensor, Tensor]*: the images, (B, 3, H, W), as ``images`` in type and device, and
        the masks (B, H, W), bool.

    Raises:
        ValueError: if a square does not fit, or a fill is unknown.
    """
    if unknown := set(fills) - set(FILLS):
        raise ValueError(f"There is no fill {unknown.pop()!r}; there are {', '.join(FILLS)}.")
    occluded = images.clone()
    masks = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool, device=images.device)
    for i, (size, fill, name) in enumerate(zip(sizes, fills, names, strict=True)):
        chip, texture = as_chip(images[i]), as_chip(others[i])
        stem = zlib.crc32(name.encode())
        generator = np.random.default_rng((seed, stem, size))
        place = square(chip.shape[0], chip.shape[1], size, generator)
        drawing = np.random.default_rng((seed, stem, size, zlib.crc32(fill.encode())))
        chip[place] = FILLS[fill](chip.copy(), size, place, texture, drawing)
        occluded[i] = as_image(chip, images)
        masks[i][place] = True
    return occluded, masks


def _mean(chip: Chip, *_: object) -> Chip:
    colour: Chip = np.rint(chip.mean((0, 1))).astype(np.uint8)
    return colour


def _texture(
    chip: Chip, size: int, place: tuple[slice, slice], other: Chip, drawing: np.random.Generator
) -> Chip:
    rows, columns = square(other.shape[0], other.shape[1], size, drawing)
    return other[rows, columns]


def _noise(
    chip: Chip, size: int, place: tuple[slice, slice], other: Chip, drawing: np.random.Generator
) -> Chip:
    return drawing.integers(0, 256, (size, size, 3), dtype=np.uint8)


def _blur(chip: Chip, size: int, place: tuple[slice, slice], *_: object) -> Chip:
    return blur(chip, 5 * chip.shape[0] / 112)[place]


FILLS: dict[str, _Fill] = {
    "black": lambda *_: np.zeros(3, np.uint8),
    "mean": _mean,
    "noise": _noise,
    "texture": _texture,
    "blur": _blur,
}
"""Black; the image's mean colour; uniform noise; a square of another face; a blur of σ = 5 px at
112 rows."""
