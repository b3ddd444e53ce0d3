"""How faces are augmented in training: shifts, colours, and degradations of random strength.

The decoding, the geometry and the compression are torchvision's and Pillow's; the degradations
that SER-FIQ is judged on are the package's own, here in random strength and on other faces.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import ColorJitter, RandomGrayscale
from torchvision.transforms.v2 import functional as tv

from captum_plq.faces import add_noise, blur, reduce_resolution

Pixels = NDArray[np.uint8]
Draw = np.random.Generator

_GREY = [127, 127, 127]
_COLOUR = ColorJitter(0.4, 0.4, 0.4, 0.03)
_GREYSCALE = RandomGrayscale(0.05)


def augment(
    chip: Pixels, other: Pixels, generator: Draw, degraded_share: float, patched_share: float = 0.0
) -> tuple[Pixels, Pixels]:
    """Return one aligned face as the network may see it in training, undegraded and degraded.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB.
        other (ndarray): (H, W, 3), uint8: another image, parts of which may cover this one.
        generator (Generator): All that is drawn is drawn from it; the global random state of
            torch is put back.
        degraded_share (float): Probability of a degradation; half of that, of a second one.
        patched_share (float): Probability that a small part is covered, or blurred, after that.

    Returns:
        *tuple[ndarray, ndarray]*: (H, W, 3), uint8, RGB; moved and coloured alike, pixel for pixel.
    """
    image = _moved(chip, generator) if generator.random() < 0.5 else chip
    if generator.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    if generator.random() < 0.5:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**31)))
            image = np.array(_GREYSCALE(_COLOUR(Image.fromarray(image))))
    undegraded = image
    for share in (degraded_share, degraded_share / 2):
        if generator.random() >= share:
            break
        degrade = _DEGRADATIONS[int(generator.integers(len(_DEGRADATIONS)))]
        image = degrade(image, other, generator)
    if patched_share > 0 and generator.random() < patched_share:
        image = _patched(image, other, generator)
    return undegraded, image


def _moved(image: Pixels, generator: Draw) -> Pixels:
    """Turned, shifted and scaled a little, as alignment errs."""
    angle, x, y = generator.uniform(-4, 4), generator.uniform(-3, 3), generator.uniform(-3, 3)
    moved = tv.affine(
        Image.fromarray(image),
        angle=angle,
        translate=[round(x), round(y)],
        scale=generator.uniform(0.96, 1.05),
        shear=[0.0, 0.0],
        interpolation=tv.InterpolationMode.BILINEAR,
        fill=_GREY,
    )
    return np.array(moved)


def _compressed(image: Pixels, _: Pixels, generator: Draw) -> Pixels:
    quality = int(generator.integers(3, 40))
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def _badly_lit(image: Pixels, _: Pixels, generator: Draw) -> Pixels:
    """Dark or bright, and in half of all cases only on one side."""
    gain = float(np.exp(generator.uniform(0.5, 1.6) * generator.choice([-1, 1])))
    across = np.linspace(0, 1, image.shape[1])[None, :, None]
    if generator.random() < 0.5:
        across = np.ones_like(across)
    elif generator.random() < 0.5:
        across = 1 - across
    return np.rint(np.clip(image * gain**across, 0, 255)).astype(np.uint8)


def _covered(image: Pixels, other: Pixels, generator: Draw) -> Pixels:
    """A rectangle or an ellipse of a colour, noise or another image lies over a part."""
    height, width = image.shape[:2]
    kind = generator.integers(4)
    top, left, rows, columns = 0.0, 0.0, float(height), float(width)
    if kind == 0:  # from below
        rows = generator.uniform(0.2, 0.55) * height
        top = height - rows
    elif kind == 1:  # from above
        rows = generator.uniform(0.15, 0.5) * height
    elif kind == 2:  # across the eyes, or anywhere
        rows, top = generator.uniform(0.12, 0.3) * height, generator.uniform(0.1, 0.8) * height
    else:
        rows, columns = generator.uniform(0.1, 0.6, 2) * (height, width)
        top = generator.uniform(0.05, 0.95) * height - rows / 2
        left = generator.uniform(0.05, 0.95) * width - columns / 2
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = (y - top) / rows, (x - left) / columns
    inside = (y > 0) & (y < 1) & (x > 0) & (x < 1)
    if kind == 3 and generator.random() < 0.5:
        inside = (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.25
    return np.where(inside[:, :, None], _filling(image, other, generator), image)


def _patched(image: Pixels, other: Pixels, generator: Draw) -> Pixels:
    """A rectangle or an ellipse of 12 to 40 % of the image's sides is covered or blurred."""
    height, width = image.shape[:2]
    rows, columns = (_log_uniform(generator, 0.12, 0.4) * side for side in (height, width))
    if generator.random() < 0.5:
        columns = rows
    top, left = generator.uniform(0, height - rows), generator.uniform(0, width - columns)
    y, x = np.mgrid[:height, :width] + 0.5
    y, x = (y - top) / rows, (x - left) / columns
    inside = (y > 0) & (y < 1) & (x > 0) & (x < 1)
    if generator.random() < 0.3:
        inside = (y - 0.5) ** 2 + (x - 0.5) ** 2 < 0.25
    kind = generator.random()
    if kind < 0.25:
        filling = blur(image, generator.uniform(2.0, 8.0))
    elif kind < 0.5:  # the hardest to find
        filling = _filling(image, other, generator, kind=_OTHER_IMAGE)
    else:
        filling = _filling(image, other, generator)
    return np.where(inside[:, :, None], filling, image)


_OTHER_IMAGE = 4
"""Of the kinds of filling."""


def _filling(image: Pixels, other: Pixels, generator: Draw, kind: int | None = None) -> Pixels:
    kind = int(generator.integers(5)) if kind is None else kind
    if kind == 0:
        return np.zeros_like(image)
    if kind == 1:
        return np.broadcast_to(np.rint(image.mean((0, 1))).astype(np.uint8), image.shape)
    if kind == 2:
        return np.broadcast_to(generator.integers(256, size=3, dtype=np.uint8), image.shape)
    if kind == 3:
        return generator.integers(256, size=image.shape, dtype=np.uint8)
    rolled = tuple(int(n) for n in generator.integers(image.shape[:2]))
    return np.roll(other, rolled, (0, 1))


def _log_uniform(generator: Draw, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


_DEGRADATIONS: tuple[Callable[[Pixels, Pixels, Draw], Pixels], ...] = (
    lambda image, _, draw: blur(image, draw.uniform(0.7, 5.0)),
    lambda image, _, draw: add_noise(
        image, _log_uniform(draw, 6, 70), seed=int(draw.integers(2**31))
    ),
    lambda image, _, draw: reduce_resolution(image, round(_log_uniform(draw, 9, 48))),
    _compressed,
    _badly_lit,
    *[_covered] * 3,
)
