"""Figures of local quality on absolute scales: orange takes quality away, purple adds.

Zero is white and in the middle. Nothing is normalised per image. People who cannot tell red from
green can read these colours, and nobody takes them for the paper's, which mean something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from captum_plq.functional.enlargement import PlaceCentres, interpolate
from captum_plq.functional.guided import guided_by_image
from captum_plq.visualization.panels import View, draw

__all__ = [
    "LOCAL_COLOURS",
    "QUALITY_LIMIT",
    "ZSCORE_LIMIT",
    "local_picture",
    "local_views",
    "plot_local_quality",
    "quality_in_words",
]

LOCAL_COLOURS = "PuOr"
"""The colour map of local quality, in all figures."""

QUALITY_LIMIT = 0.75
"""What the darkest colours stand for: Q per place, times the number of places; ±.015 at 7×7.

Chosen on 60 people of LFW's fold 4 with ``mobilefacenet-places``: 98.9 % of the places of clean
faces lie within a third of it and so stay pale, none beyond it; of the faces degraded as in
``STANDARD_DEGRADATIONS`` 3–7 % of the places lie beyond.
"""

ZSCORE_LIMIT = 6.0
"""What the darkest colours stand for, in standard deviations.

Of the places of the same clean faces, 94 % lie within ±2, a third of it; covered lower halves
reach −7.
"""


def plot_local_quality(
    images: Sequence[ArrayLike],
    local_maps: Sequence[ArrayLike] | torch.Tensor,
    titles: Sequence[str],
    zscores: Sequence[ArrayLike] | torch.Tensor | None = None,
    *,
    caption: str = "",
    centres: PlaceCentres | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """Draw one image beside its local quality, or several above theirs.

    Between the places, maps follow the edges of the image, see
    :func:`~captum_plq.functional.guided.guided_by_image`.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        local_maps (sequence of arrays): n maps (h, w), at places, in units of Q, from
            ``LocalQuality.attribute(..., at_places=True)``.
        titles (sequence of str): n titles, e.g. of :func:`quality_in_words`, wrapped to the width
            of an image.
        zscores (sequence of arrays, optional): n maps (h, w), in standard deviations, from
            :func:`~captum_plq.functional.local.local_zscore`, for a second view.
        caption (str): Below everything, wrapped to the figure's width.
        centres (PlaceCentres, optional): Where the places lie in the image, e.g. of a calibration's
            ``local``. ``None``: they share it out in equal cells.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its axes, (2, n) or (3, n), or (2,) or
        (3,) for one image.

    Raises:
        ValueError: if the numbers differ, a shape is wrong, or an image or a map holds NaN.

    Examples::

        >>> title = quality_in_words(0.49, 0.71)
        >>> figure, axes = plot_local_quality([chip], torch.zeros(1, 7, 7), [title])
    """
    n = len(images)
    if not n == len(local_maps) == len(titles) == len(local_maps if zscores is None else zscores):
        raise ValueError("There must be as many images, maps, titles and z-scores.")
    if n == 0:
        raise ValueError("There is no image.")
    views = local_views(images, local_maps, zscores, centres)
    return draw(images, views, titles, caption, beside=n == 1)


def local_views(
    images: Sequence[ArrayLike],
    local_maps: Sequence[ArrayLike] | torch.Tensor,
    zscores: Sequence[ArrayLike] | torch.Tensor | None = None,
    centres: PlaceCentres | None = None,
) -> list[View]:
    """Return the view in units of Q and, if z-scores are given, the standardised one.

    Args:

        images (sequence of arrays): n images (H, W, 3).
        local_maps (sequence of arrays): n maps (h, w), in units of Q.
        zscores (sequence of arrays, optional): n maps (h, w), in standard deviations.
        centres (PlaceCentres, optional): As for :func:`plot_local_quality`.

    Returns:
        *list[View]*: one or two, of maps (H, W) in these units per place.

    Raises:
        ValueError: if a shape is wrong or a map is not finite.
    """
    maps, (rows, columns) = _enlarged(local_maps, images, centres)
    limit = QUALITY_LIMIT / (rows * columns)
    grid = f"{rows}×{columns} places, outlines from the image"
    ticks = {-limit: f"−{_short(limit)}", 0.0: "0", limit: f"+{_short(limit)}"}
    name = f"local quality: lost (−) or gained (+) at {grid}"
    views = [View(name, "Q per place", maps, LOCAL_COLOURS, (-limit, limit), ticks, True)]
    if zscores is not None:
        maps, _ = _enlarged(zscores, images, centres)
        limit, label = ZSCORE_LIMIT, "z, in standard\ndeviations"
        ticks = {-limit: f"−{limit:g}", 0.0: "0", limit: f"+{limit:g}"}
        name = f"how unusual for a high-quality face here, at {grid}"
        views.append(View(name, label, maps, LOCAL_COLOURS, (-limit, limit), ticks, True))
    return views


def local_picture(
    local_map: ArrayLike, image: ArrayLike, centres: PlaceCentres | None = None
) -> NDArray[np.uint8]:
    """Return a map in the colours of :func:`plot_local_quality`, as pixels.

    Args:

        local_map (array): (h, w), at places, in units of Q.
        image (array): (H, W, 3), 0–255, the face.
        centres (PlaceCentres, optional): As for :func:`plot_local_quality`.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: if the map is not of such a shape, not finite, or larger than the image.

    Examples::

        >>> local_picture(np.zeros((7, 7)), chip)[0, 0]  # nothing lost or gained
        array([246, 246, 246], dtype=uint8)
    """
    view = local_views([image], [local_map], centres=centres)[0]
    low, high = view.limits
    level = ((view.maps[0] - low) / (high - low)).clip(0, 1)
    pixels: NDArray[np.uint8] = colormaps[view.colours](level, bytes=True)[..., :3]
    return pixels


def quality_in_words(quality: float, reference_quality: float) -> str:
    """Say a quality, and by how much it differs from that of a high-quality face.

    Args:

        quality (float): Q, in (0, 1).
        reference_quality (float): Q₀, in (0, 1).

    Returns:
        *str*: e.g. ``"Q = .49, .22 below a high-quality face"``.

    Raises:
        ValueError: if one is not in (0, 1).

    Examples::

        >>> quality_in_words(0.49, 0.71)
        'Q = .49, .22 below a high-quality face'
    """
    if not (0 < quality < 1 and 0 < reference_quality < 1):
        raise ValueError(
            f"Qualities lie between 0 and 1, but got {quality} and {reference_quality}."
        )
    gained = quality - reference_quality
    if abs(gained) < 0.01:
        return f"Q = {_short(quality)}, as of a high-quality face"
    side = "above" if gained > 0 else "below"
    return f"Q = {_short(quality)}, {_short(abs(gained))} {side} a high-quality face"


def _enlarged(
    maps: Sequence[ArrayLike] | torch.Tensor,
    images: Sequence[ArrayLike],
    centres: PlaceCentres | None,
) -> tuple[list[NDArray[Any]], tuple[int, int]]:
    """(H, W) maps in units per place, and the grid that they come from."""
    arrays = [np.asarray(m, dtype=np.float64) for m in maps]
    found, grid = [], np.shape(arrays[0])
    for values, image in zip(arrays, images, strict=True):
        shape = np.shape(image)
        fits = len(shape) == 3 and shape[2] == 3 and values.ndim == 2 and values.shape == grid
        if not fits or any(s > p for s, p in zip(grid, shape, strict=False)):
            raise ValueError(
                "An image (H, W, 3) and its map at places (h, w), of one size for all, are "
                f"needed, but got {shape} and {values.shape}."
            )
        if wrong := int((~np.isfinite(values)).sum()):
            raise ValueError(
                f"The local map cannot be drawn: {wrong} of its {values.size} places are NaN or "
                "infinite."
            )
        size = (shape[0], shape[1])
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float64)).permute(2, 0, 1)[None]
        smooth = interpolate(torch.from_numpy(values)[None], size, centres)
        found.append(guided_by_image(smooth, pixels)[0].numpy())
    return found, (grid[0], grid[1])


def _short(value: float) -> str:
    return f"{value:.2g}".lstrip("0") if value < 0.02 else f"{value:.2f}".lstrip("0")
