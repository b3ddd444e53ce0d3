"""Figures of pixel-level quality on an absolute scale: red low, green high.

Unlike ``captum.attr.visualization.visualize_image_attr``, nothing here is normalised per
image: the same colour means the same quality in every figure, as Sec. III-C of the paper
asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

__all__ = ["plot_quality_map", "plot_quality_maps"]

_PANEL = 2.6  # inches
_NAMES = ("pixel quality", "relative to good faces")
_WORDS = {2: "two", 3: "three, for the relative map,"}


def plot_quality_map(
    image: ArrayLike,
    quality_map: ArrayLike,
    relative_map: ArrayLike | None = None,
    *,
    title: str = "",
    caption: str = "",
    axes: Sequence[Axes] | None = None,
) -> tuple[Figure, NDArray[Any]]:
    """Draws an image beside its pixel-level quality map.

    Args:

        image (array): (H, W, 3), 0–255.
        quality_map (array): (H, W), in [0, 1], from
            :func:`~captum_plq.functional.quality_map`.
        relative_map (array, optional): (H, W), in [0, 1], the same relative to good faces, from
            :func:`~captum_plq.functional.relative.relative_pixel_quality`; goes to the right.
        title (str): Above the image, e.g. its quality.
        caption (str): Below everything, e.g. network and parameters.
        axes (sequence of Axes, optional): Axes to draw into, two, or three with a relative map.
            ``None``: a new figure.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its two or three axes.

    Raises:
        ValueError: if a shape is wrong, or the image or a map holds NaN, or a map leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_map(chip, maps[0], title=f"Q = {quality[0]:.3f}")
        >>> fig.savefig("map.png")
    """
    count = 2 if relative_map is None else 3
    if axes is None:
        figure = Figure(figsize=(count * _PANEL + 1.0, _PANEL + 0.5), layout="constrained")
        panels = figure.subplots(1, count)
    else:
        panels = np.asarray(axes, dtype=object)
        if panels.shape != (count,):
            raise ValueError(f"axes must be {_WORDS[count]}, but got {panels.shape}.")
        figure = panels[0].figure
    _draw(panels, image, quality_map, relative_map, title)
    if relative_map is not None:
        for axis, name in zip(panels[1:], _NAMES, strict=True):
            axis.set_title(name, fontsize=10)
    _colour_bar(figure, panels[1:])
    _caption(figure, caption)
    return figure, panels


def plot_quality_maps(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    titles: Sequence[str],
    relative_maps: Sequence[ArrayLike] | None = None,
    *,
    caption: str = "",
) -> tuple[Figure, NDArray[Any]]:
    """Draws images in one row, and their pixel-level quality maps below.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        quality_maps (sequence of arrays): n maps (H, W), in [0, 1].
        titles (sequence of str): n titles.
        relative_maps (sequence of arrays, optional): n maps (H, W), in [0, 1], the same relative
            to good faces, for a third row.
        caption (str): Below everything, e.g. network and parameters.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its axes, (2, n) or (3, n).

    Raises:
        ValueError: if the numbers differ, a shape is wrong, an image or a map holds NaN, or a map
            leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_maps([clean, masked], maps, ["clean", "mask"])
    """
    n = len(images)
    third = [None] * n if relative_maps is None else relative_maps
    if not n == len(quality_maps) == len(titles) == len(third) or n == 0:
        raise ValueError(
            f"There must be as many images, maps and titles, but got {n}, "
            f"{len(quality_maps)} and {len(titles)}"
            + ("." if relative_maps is None else f", and {len(third)} relative maps.")
        )
    rows = 2 if relative_maps is None else 3
    figure = Figure(figsize=(n * _PANEL + 0.9, rows * _PANEL + 0.7), layout="constrained")
    axes = figure.subplots(rows, n, squeeze=False)
    for column in range(n):
        _draw(axes[:, column], images[column], quality_maps[column], third[column], titles[column])
    if relative_maps is not None:
        for axis, name in zip(axes[1:, 0], _NAMES, strict=True):
            axis.set_title(name, fontsize=10, loc="left")
    _colour_bar(figure, axes)
    _caption(figure, caption)
    return figure, axes


def _draw(
    panels: NDArray[Any],
    image: ArrayLike,
    quality_map: ArrayLike,
    relative_map: ArrayLike | None,
    title: str,
) -> None:
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise ValueError("The image cannot be drawn: some of its pixels are NaN or infinite.")
    given = {"quality": quality_map, "relative": relative_map}
    maps = [np.asarray(m) for m in given.values() if m is not None]
    for name, p in zip(given, maps, strict=False):
        if p.ndim != 2 or pixels.shape != (*p.shape, 3):
            raise ValueError(
                "An image (H, W, 3) and its map (H, W) are needed, but got "
                f"{pixels.shape} and {p.shape}."
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
    panels[0].imshow(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    panels[0].set_title(title, fontsize=10, parse_math=False)  # a name may hold a $
    for axis, p in zip(panels[1:], maps, strict=True):
        axis.imshow(p, cmap="RdYlGn", vmin=0.0, vmax=1.0, interpolation="nearest")
    for axis in panels:
        axis.set_axis_off()


def _colour_bar(figure: Any, axes: Any) -> None:
    picture = np.ravel(axes)[-1].images[0]
    bar = figure.colorbar(picture, ax=axes, fraction=0.05, aspect=25, ticks=[0, 0.5, 1])
    bar.set_label("pixel quality (absolute scale)")


def _caption(figure: Any, text: str) -> None:
    if text:
        figure.supxlabel(text, fontsize=7).set_parse_math(False)
