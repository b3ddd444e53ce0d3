"""Degrade an aligned face by a known amount: blur, noise, fewer pixels, a block, a covered half.

None of these needs landmarks, so they work on aligned crops alone, and without dlib.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.choices import require_choice
from captum_plq.errors import extra
from captum_plq.faces.checks import require_rgb

__all__ = [
    "STANDARD_DEGRADATIONS",
    "Degradation",
    "Fill",
    "add_noise",
    "at_112",
    "blur",
    "cover_lower_part",
    "cover_with_block",
    "reduce_resolution",
]

Degradation = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]
"""An aligned crop (H, W, 3), uint8, and a seed → the crop degraded, of the same shape."""

Fill = Literal["black", "mean"]
"""What a covered part shows: black, or the mean colour of what it covers."""


def blur(chip: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    """Blur the whole image with a Gaussian (as Pillow approximates it: three running means).

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


def add_noise(chip: NDArray[np.uint8], sigma: float, *, seed: int = 0) -> NDArray[np.uint8]:
    """Add Gaussian noise to each pixel and channel, rounded, and cut off at 0 and 255.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        sigma (float): Standard deviation in grey levels of 255; 0 returns a copy.
        seed (int): Same seed and shape, same noise. No global random state is used. ≥ 0.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``sigma`` is negative or not finite.

    Examples::

        >>> noisy = add_noise(chip, 40.0, seed=1)
    """
    image = require_rgb(chip)
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be finite and not negative, but got {sigma}.")
    noise = np.random.default_rng(seed).normal(0.0, sigma, image.shape)
    return np.rint(np.clip(image + noise, 0, 255)).astype(np.uint8)


def reduce_resolution(chip: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """Scale down to a few pixels and back up, both bicubic as Pillow does it (antialiased).

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        height (int): Rows in between, 1 to H; the columns follow in proportion.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``height`` is not within 1 to H.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> coarse = reduce_resolution(chip, 16)
    """
    image = require_rgb(chip)
    rows, columns = image.shape[:2]
    if not 1 <= height <= rows:
        raise ValueError(f"height must be from 1 to the image's {rows} rows, but got {height}.")
    with extra("faces"):
        from PIL import Image

    small = Image.fromarray(image).resize(
        (max(1, round(columns * height / rows)), height), Image.Resampling.BICUBIC
    )
    return np.array(small.resize((columns, rows), Image.Resampling.BICUBIC))


def cover_with_block(
    chip: NDArray[np.uint8],
    size: int,
    *,
    seed: int = 0,
    fill: Fill = "black",
    middle: float = 1.0,
) -> NDArray[np.uint8]:
    """Lay a square over a random place, wholly inside the image.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        size (int): Side of the square in pixels, 1 to the shorter side of the image.
        seed (int): Same seed and shape, same place. ≥ 0.
        fill (str): ``"black"``, or ``"mean"``, the mean colour of what is covered.
        middle (float): The square's centre falls into this share of the height and of the
            width, around the image's centre; all places there are equally likely. In [0, 1];
            0 is the centre itself. The default, 1, leaves all places possible, many of
            which miss the face.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> covered = cover_with_block(chip, 40, seed=1, middle=0.4)
    """
    image: NDArray[np.uint8] = require_rgb(chip).copy()
    rows, columns = image.shape[:2]
    if not 1 <= size <= min(rows, columns):
        shorter = min(rows, columns)
        raise ValueError(f"size must be from 1 to the image's shorter side, {shorter}, not {size}.")
    if not 0 <= middle <= 1:
        raise ValueError(f"middle must be from 0 to 1, but got {middle}.")
    generator = np.random.default_rng(seed)
    top, left = (_first_pixel(side, size, middle, generator) for side in (rows, columns))
    _cover(image[top : top + size, left : left + size], fill)
    return image


def cover_lower_part(
    chip: NDArray[np.uint8], share: float = 0.4, *, fill: Fill = "black"
) -> NDArray[np.uint8]:
    """Cover the lower part of an aligned face, from edge to edge.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        share (float): Of the rows, from below, in (0, 1]; rounded to whole rows, at least
            one. The default, 0.4, hides tip of the nose, mouth and chin of a face aligned to
            the ArcFace template.
        fill (str): ``"black"``, or ``"mean"``, the mean colour of what is covered.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> upper_half = cover_lower_part(chip, 0.5)
    """
    image: NDArray[np.uint8] = require_rgb(chip).copy()
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, but got {share}.")
    _cover(image[-max(1, round(share * image.shape[0])) :], fill)
    return image


def _first_pixel(side: int, size: int, middle: float, generator: np.random.Generator) -> int:
    """Where a stretch of ``size`` pixels begins, its centre in the middle of ``side``."""
    reach = min((side - size) / 2, middle * side / 2)
    begin, end = (math.floor((side - size) / 2 + way * reach + 0.5) for way in (-1, 1))
    return int(generator.integers(begin, end + 1))


def _cover(part: NDArray[np.uint8], fill: Fill) -> None:
    require_choice("fill", fill, Fill)
    part[:] = 0 if fill == "black" else np.rint(part.mean(axis=(0, 1))).astype(np.uint8)


def at_112(chip: NDArray[np.uint8], length: float) -> float:
    """Return a length in this crop's pixels, given in those of a crop of 112 rows."""
    rows: int = chip.shape[0]
    return length * rows / 112


STANDARD_DEGRADATIONS: dict[str, Degradation] = {
    "blur σ3": lambda chip, _: blur(chip, at_112(chip, 3)),
    "noise σ40": lambda chip, seed: add_noise(chip, 40.0, seed=seed),
    "block of 40 px": lambda chip, seed: cover_with_block(
        chip, max(1, round(at_112(chip, 40))), seed=seed, middle=0.4
    ),
    "lower face covered": lambda chip, _: cover_lower_part(chip),
    "16 px": lambda chip, _: reduce_resolution(chip, max(1, round(at_112(chip, 16)))),
}
"""Five strong degradations by name, for crops of any size.

Lengths are in pixels of a crop of 112 rows and grow with the crop; noise is in grey levels, per
pixel of the crop as it is. Block and lower part are black; the block's centre falls into the middle
0.4 of height and width, where eyes, nose and mouth are.
"""
