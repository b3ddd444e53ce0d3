"""Violate the photo standards for travel documents, by degrees, on an aligned face.

ISO/IEC 19794-5 and the ICAO's requirements ask for a face without headgear, dark glasses or mask,
upright, sharp, evenly lit, well exposed, and hardly compressed; Sec. V-C of the paper shows maps
of images that violate this. Here all violations are made from one image.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces.checks import require_rgb
from captum_plq.faces.disturb.degrade import at_112, blur, reduce_resolution
from captum_plq.faces.disturb.drawing import Disturbed, face_axes, from_linear, to_linear
from captum_plq.faces.disturb.occlude import headgear, sunglasses, surgical_mask

__all__ = [
    "NONCOMPLIANCES",
    "Noncompliance",
    "change_exposure",
    "compress_jpeg",
    "light_from_side",
    "rotate_in_plane",
]

Chip = NDArray[np.uint8]
Landmarks = NDArray[np.float64]


@dataclass(frozen=True)
class Noncompliance:
    """One way to violate the standards, by degrees.

    Args:

        parameter (str): What ``degrees`` are numbers of, with the unit.
        degrees (tuple[float, float, float]): From mild to severe.
        make (Callable): Chip, landmarks and one of ``degrees`` → :class:`Disturbed`, or, if the
            whole image changes, the image alone.
    """

    parameter: str
    degrees: tuple[float, float, float]
    make: Callable[[Chip, Landmarks, float], Disturbed | Chip]

    def __call__(
        self, chip: Chip, landmarks: Landmarks, severity: int
    ) -> tuple[Chip, NDArray[np.bool_] | None]:
        """Make an image violate the standard.

        Args:

            chip (ndarray): (H, W, 3), uint8, RGB, an aligned face; left as it is.
            landmarks (ndarray): (5, 2), x and y in its pixels.
            severity (int): 1 (mild), 2 or 3 (severe).

        Returns:
            *tuple[ndarray, ndarray or None]*: the new image, and where something was drawn
            over the face, (H, W), bool; ``None`` if all of it changed.

        Raises:
            ValueError: if ``severity`` is none of these.
            MissingExtraError: if Pillow is not installed.

        Examples::

            >>> worse, _ = NONCOMPLIANCES["blur"](chip, landmarks, 3)
        """
        if severity not in (1, 2, 3):
            raise ValueError(f"severity must be 1, 2 or 3, but got {severity}.")
        made = self.make(chip, landmarks, self.degrees[severity - 1])
        return (made.image, made.mask) if isinstance(made, Disturbed) else (made, None)


def change_exposure(chip: Chip, stops: float) -> Chip:
    """Make an image brighter or darker as a camera would: light times 2 to the ``stops``.

    What exceeds white is white. Darkness adds no noise here.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        stops (float): In exposure values: 1 doubles the light, -1 halves it.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``stops`` not finite.

    Examples::

        >>> dark = change_exposure(chip, -3)
    """
    image = require_rgb(chip)
    if not np.isfinite(stops):
        raise ValueError(f"stops must be finite, but got {stops}.")
    return from_linear(to_linear(image) * 2.0**stops)


def light_from_side(chip: Chip, landmarks: Landmarks, shade: float) -> Chip:
    r"""Take light away from the right half of the face, as seen, as if lit from the left.

    The light of a pixel u eye distances to the right of the middle of the face is multiplied by
    :math:`1 - s / (1 + e^{-6u})`: the shadow begins at the nose.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        landmarks (ndarray): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
        shade (float): s, the share of the light that the darker side loses, in [0, 1].

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> half_lit = light_from_side(chip, template_landmarks("arcface", 112), 0.9)
    """
    image = require_rgb(chip)
    if not 0 <= shade <= 1:
        raise ValueError(f"shade must be from 0 to 1, but got {shade}.")
    axes = face_axes(landmarks)
    rows, columns = np.indices(image.shape[:2])
    offsets = np.stack([columns, rows], axis=-1) - axes.middle
    u = offsets @ axes.across / axes.eye_distance**2
    left = 1 - shade / (1 + np.exp(-6 * u))
    return from_linear(to_linear(image) * left[..., None])


def compress_jpeg(chip: Chip, quality: int) -> Chip:
    """Save and load an image as JPEG, with Pillow's tables and half the colour resolution.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        quality (int): libjpeg's scale, 1 (worst) to 95.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``quality`` is not within 1 to 95.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> blocky = compress_jpeg(chip, 5)
    """
    image = require_rgb(chip)
    if not 1 <= quality <= 95:
        raise ValueError(f"quality must be from 1 to 95, but got {quality}.")
    with extra("faces"):
        from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
        with Image.open(file) as read:
            return np.array(read.convert("RGB"))


def rotate_in_plane(chip: Chip, degrees: float) -> Chip:
    """Turn an image about its middle, bicubic; what comes in from outside repeats its edge.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        degrees (float): Counter-clockwise as seen.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if ``chip`` is not (H, W, 3) uint8, or ``degrees`` not finite.
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> tilted = rotate_in_plane(chip, 20)
    """
    image = require_rgb(chip)
    if not np.isfinite(degrees):
        raise ValueError(f"degrees must be finite, but got {degrees}.")
    with extra("faces"):
        from PIL import Image

    rows, columns = image.shape[:2]
    margin = (max(rows, columns) + 1) // 2
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    turned = Image.fromarray(padded).rotate(degrees, Image.Resampling.BICUBIC)
    return np.array(turned)[margin : margin + rows, margin : margin + columns]


NONCOMPLIANCES: dict[str, Noncompliance] = {
    "headgear": Noncompliance(
        "height above the eyes, in eye–nose distances",
        (1.4, 1.0, 0.6),
        lambda chip, points, x: headgear(chip, points, height=x),
    ),
    "glasses": Noncompliance(
        "transmittance of the lenses",
        (1.0, 0.3, 0.0),
        lambda chip, points, x: sunglasses(chip, points, transmittance=x),
    ),
    "mask": Noncompliance(
        "upper edge below the eyes, in eye–nose distances",
        (1.8, 1.1, 0.42),
        lambda chip, points, x: surgical_mask(chip, points, top=x),
    ),
    "blur": Noncompliance(
        "σ in pixels at 112 rows",
        (1.0, 2.0, 4.0),
        lambda chip, _, x: blur(chip, at_112(chip, x)),
    ),
    "low light": Noncompliance(
        "stops", (-1.5, -3.0, -4.5), lambda chip, _, x: change_exposure(chip, x)
    ),
    "side light": Noncompliance("shade", (0.6, 0.85, 0.97), light_from_side),
    "over-exposure": Noncompliance(
        "stops", (1.0, 2.0, 3.0), lambda chip, _, x: change_exposure(chip, x)
    ),
    "JPEG": Noncompliance("quality", (30, 12, 5), lambda chip, _, x: compress_jpeg(chip, int(x))),
    "low resolution": Noncompliance(
        "rows of the crop",
        (48, 28, 14),
        lambda chip, _, x: reduce_resolution(chip, min(chip.shape[0], int(x))),
    ),
    "rotation": Noncompliance(
        "degrees", (10.0, 20.0, 40.0), lambda chip, _, x: rotate_in_plane(chip, x)
    ),
}
"""Ten violations by name. Whatever the size of the chip, they take the same away from the face."""
