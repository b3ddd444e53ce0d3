"""Figures of pixel-level quality on an absolute scale: red low, green high.

Unlike ``captum.attr.visualization.visualize_image_attr``, nothing is normalised per image: the
same colour means the same value in every figure, as Sec. III-C of the paper asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from captum_plq.visualization.panels import View, draw

__all__ = ["plot_quality_map", "plot_quality_maps", "quality_views"]

COLOURS = "RdYlGn"
"""The colour map of the paper's maps, in all figures."""
_TICKS = {0.0: "0", 0.5: "½", 1.0: "1"}


def plot_quality_map(
    image: ArrayLike,
    quality_map: ArrayLike,
    relative_map: ArrayLike | None = None,
    *,
    title: str = "",
    caption: str = "",
    axes: Sequence[Axes] | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """Draw an image beside its pixel-level quality map.

    Args:

        image (array): (H, W, 3), 0–255.
        quality_map (array): (H, W), in [0, 1], from
            :func:`~captum_plq.functional.quality_map`.
        relative_map (array, optional): (H, W), in [0, 1], the gradient relative to reference
            faces, from :func:`~captum_plq.functional.relative.relative_pixel_quality`. Drawn to
            the right.
        title (str): Above the image, e.g. its quality. Wrapped to the width of the image.
        caption (str): Below everything, e.g. network and parameters. Wrapped likewise.
        axes (sequence of Axes, optional): Axes to draw into, two, or three with a relative map.
            ``None``: a new figure.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its two or three axes.

    Raises:
        ValueError: if a shape is wrong, the image or a map holds NaN, or a map leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_map(chip, maps[0], title=f"Q = {quality[0]:.3f}")
        >>> fig.savefig("map.png")
    """
    relative = None if relative_map is None else [relative_map]
    views = quality_views([image], [quality_map], relative)
    return draw([image], views, [title], caption, axes, beside=True)


def plot_quality_maps(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    titles: Sequence[str],
    relative_maps: Sequence[ArrayLike] | None = None,
    *,
    caption: str = "",
) -> tuple[Figure, NDArray[Any]]:
    """Draw images in one row, and their pixel-level quality maps below.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        quality_maps (sequence of arrays): n maps (H, W), in [0, 1].
        titles (sequence of str): n titles, wrapped to the width of an image.
        relative_maps (sequence of arrays, optional): n maps (H, W), in [0, 1], the gradient
            relative to reference faces, for a third row.
        caption (str): Below everything, e.g. network and parameters. Wrapped to the figure's
            width.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its axes, (2, n) or (3, n).

    Raises:
        ValueError: if the numbers differ, a shape is wrong, an image or a map holds NaN, or a map
            leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_maps([clean, masked], maps, ["clean", "mask"])
    """
    n = len(images)
    given = n if relative_maps is None else len(relative_maps)
    if not n == len(quality_maps) == len(titles) == given or n == 0:
        raise ValueError(
            f"There must be as many images, maps and titles, but got {n}, "
            f"{len(quality_maps)} and {len(titles)}"
            + ("." if relative_maps is None else f", and {given} relative maps.")
        )
    return draw(images, quality_views(images, quality_maps, relative_maps), titles, caption)


def quality_views(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    relative_maps: Sequence[ArrayLike] | None = None,
    notes: Sequence[str] = (),
) -> list[View]:
    """Return the views of the paper's maps and, if given, of the relative ones.

    Args:

        images (sequence of arrays): n images (H, W, 3).
        quality_maps (sequence of arrays): n maps (H, W), in [0, 1].
        relative_maps (sequence of arrays, optional): Likewise.
        notes (sequence of str): Below the paper's maps.

    Returns:
        *list[View]*: one or two.

    Raises:
        ValueError: if a shape is wrong, or a map is not finite or leaves [0, 1].
    """
    paper = [_checked(p, i, "quality") for p, i in zip(quality_maps, images, strict=True)]
    label = "pixel quality\n(absolute scale)"
    views = [View("the paper's map", label, paper, COLOURS, (0, 1), _TICKS, notes=notes)]
    if relative_maps is not None:
        maps = [_checked(p, i, "relative") for p, i in zip(relative_maps, images, strict=True)]
        name, label = "gradient relative to reference faces", "rank among\nreference faces"
        views.append(View(name, label, maps, COLOURS, (0, 1), _TICKS))
    return views


def _checked(quality_map: ArrayLike, image: ArrayLike, name: str) -> NDArray[Any]:
    p, shape = np.asarray(quality_map), np.shape(image)
    if p.ndim != 2 or shape != (*p.shape, 3):
        raise ValueError(
            f"An image (H, W, 3) and its map (H, W) are needed, but got {shape} and {p.shape}."
        )
    if wrong := int((~np.isfinite(p)).sum()):
        raise ValueError(
            f"The {name} map cannot be drawn: {wrong} of its {p.size} pixels are NaN or "
            "infinite, as where a network has no finite gradient."
        )
    if p.min() < 0 or p.max() > 1:
        raise ValueError(
            f"The {name} map must lie in [0, 1], as qualities of pixels (Eq. 6) do, but spans "
            f"{p.min():g} to {p.max():g}, as attributions do."
        )
    return p
