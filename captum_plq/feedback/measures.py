"""Measures of the whole image of an aligned face: light, sharpness, size and pose.

They are named after the components of ISO/IEC 29794-5 as its open reference implementation OFIQ
names them, where they are the same quantity (``luminance_mean`` is the native value of OFIQ's
``LuminanceMean``, and so on). Where OFIQ takes 98 landmarks and the face's outline from networks,
here five landmarks and the regions of :func:`~captum_plq.faces.face_regions` must do, so that
values are close and not equal. ``sharpness`` is not OFIQ's, which is a random forest's vote, and
``head_turn`` stands in for its ``HeadPoseYaw``, which comes from a network.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces import face_regions
from captum_plq.faces.align import Template
from captum_plq.faces.checks import require_landmarks, require_rgb
from captum_plq.faces.disturb.drawing import face_axes

__all__ = ["MEASURES", "ImageMeasures", "measure_image"]

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of R, G and B, ITU-R BT.709
_DARK, _LIGHT = 25, 247  # OFIQ's ranges of under- and over-exposure: 0 to 25 and 247 to 255
_OUTSIDE = ("forehead", "background")
_BINS = 32


class ImageMeasures(NamedTuple):
    """Measures of one aligned face.

    Args:

        luminance_mean (float): Mean luminance of the face, 0 to 1. OFIQ: ``LuminanceMean``.
        luminance_variance (float): Its variance, 0 to 0.25. OFIQ: ``LuminanceVariance``.
        dynamic_range (float): Entropy of its histogram in bits, 0 to 8. OFIQ: ``DynamicRange``.
        under_exposure (float): Share of the face's pixels with a luminance of at most 25 of 255.
            OFIQ: ``UnderExposurePrevention``.
        over_exposure (float): Share with 247 or more. OFIQ: ``OverExposurePrevention``.
        illumination_uniformity (float): Overlap of the histograms of both cheeks, 0 to 1. OFIQ:
            ``IlluminationUniformity``, with 256 bins; here 32, since a cheek has few pixels.
        sharpness (float): Energy of the second differences over that of the first, of the region
            of the face where it is highest: a mask has few edges, a blurred image none. Does not
            depend on contrast or exposure. *Not* OFIQ's ``Sharpness``.
        inter_eye_distance (float, optional): Between the eyes' centres, in pixels of the photo.
            OFIQ: ``InterEyeDistance``, which is divided by the cosine of the yaw. ``None``: the
            photo is not known.
        head_roll (float, optional): Angle of the line between the eyes in the photo, in degrees,
            positive if the eye on the right of the picture is lower. OFIQ: ``HeadPoseRoll``,
            of a network. ``None``: the photo is not known.
        head_turn (float, optional): How far the base of the nose lies to the right of the middle
            between the eyes, in distances between the eyes; 0 for a frontal face. *Not* OFIQ's
            ``HeadPoseYaw``, an angle. ``None``: the photo is not known.
    """

    luminance_mean: float
    luminance_variance: float
    dynamic_range: float
    under_exposure: float
    over_exposure: float
    illumination_uniformity: float
    sharpness: float
    inter_eye_distance: float | None
    head_roll: float | None
    head_turn: float | None


MEASURES = ImageMeasures._fields
"""The names of the measures."""


def measure_image(
    chip: NDArray[np.uint8],
    template: Template,
    landmarks: NDArray[np.float64] | None = None,
) -> ImageMeasures:
    """Measure an aligned face, and where it lies in its photo.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB, aligned.
        template (str): How; see :func:`~captum_plq.faces.align_face`.
        landmarks (ndarray, optional): (5, 2), in the photo, as of
            :attr:`~captum_plq.faces.Face.landmarks`. ``None``: the photo is not known.

    Returns:
        *ImageMeasures*: of this face.

    Raises:
        ValueError: if ``chip``, ``template`` or ``landmarks`` is not as above, or the chip is so
            small that a part of the face has no pixel.

    Examples::

        >>> measures = measure_image(sample_face().chip, "arcface")
        >>> round(measures.luminance_mean, 2)
        0.65
    """
    image = require_rgb(chip)
    size = (image.shape[0], image.shape[1])
    face, regions = _face(template, size)
    light = image @ _LUMINANCE
    values = light[face]
    counts = np.bincount(np.rint(values).astype(int), minlength=256) / len(values)
    known = counts[counts > 0]
    position = (None, None, None) if landmarks is None else _position(landmarks)
    return ImageMeasures(
        float(values.mean()) / 255,
        float(values.var()) / 255**2,
        float(-(known * np.log2(known)).sum()),
        float(counts[: _DARK + 1].sum()),
        float(counts[_LIGHT:].sum()),
        _overlap(light[regions["left_cheek"]], light[regions["right_cheek"]]),
        max(_sharpness(light, area) for name, area in regions.items() if name not in _OUTSIDE),
        *position,
    )


@lru_cache(maxsize=8)
def _face(
    template: Template, size: tuple[int, int]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.bool_]]]:
    regions = face_regions(template, size)
    parts = [area for name, area in regions.items() if name not in _OUTSIDE]
    if not all(area.any() for area in parts):
        raise ValueError(f"A face of {size[1]}×{size[0]} pixels is too small to be measured.")
    return np.any(parts, axis=0), regions


def _sharpness(light: NDArray[np.float64], area: NDArray[np.bool_]) -> float:
    """Energy of the Laplacian over that of the gradient; 0 where there is no gradient."""
    padded = np.pad(light, 1, mode="edge")
    right, left = padded[1:-1, 2:], padded[1:-1, :-2]
    below, above = padded[2:, 1:-1], padded[:-2, 1:-1]
    second = (right + left + below + above - 4 * light)[area]
    first = (((right - left) ** 2 + (below - above) ** 2) / 4)[area]
    return float((second**2).mean() / max(first.mean(), 1e-9))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    bins = np.linspace(0, 256, _BINS + 1)
    shares = [np.histogram(x, bins)[0] / len(x) for x in (one, other)]
    return float(np.minimum(*shares).sum())


def _position(landmarks: NDArray[np.float64]) -> tuple[float, float, float]:
    axes = face_axes(require_landmarks(landmarks))
    roll = float(np.degrees(np.arctan2(axes.across[1], axes.across[0])))
    return axes.eye_distance, roll, axes.lean
