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


def plot_quality_map(
    image: ArrayLike,
    quality_map: ArrayLike,
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
        title (str): Above the image, e.g. its quality.
        caption (str): Below everything, e.g. network and parameters.
        axes (sequence of Axes, optional): Two axes to draw into. ``None``: a new figure.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its two axes.

    Raises:
        ValueError: if a shape is wrong, or the map leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_map(chip, maps[0], title=f"Q = {quality[0]:.3f}")
        >>> fig.savefig("map.png")
    """
    if axes is None:
        figure = Figure(figsize=(2 * _PANEL + 1.0, _PANEL + 0.5), layout="constrained")
        pair = figure.subplots(1, 2)
    else:
        pair = np.asarray(axes, dtype=object)
        if pair.shape != (2,):
            raise ValueError(f"axes must be two, but got {pair.shape}.")
        figure = pair[0].figure
    _draw(pair[0], pair[1], image, quality_map, title)
    _colour_bar(figure, pair[1])
    _caption(figure, caption)
    return figure, pair


def plot_quality_maps(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    titles: Sequence[str],
    *,
    caption: str = "",
) -> tuple[Figure, NDArray[Any]]:
    """Draws images in one row, and their pixel-level quality maps below.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        quality_maps (sequence of arrays): n maps (H, W), in [0, 1].
        titles (sequence of str): n titles.
        caption (str): Below everything, e.g. network and parameters.

    Returns:
        *tuple[Figure, ndarray of Axes]*: the figure and its (2, n) axes.

    Raises:
        ValueError: if the numbers differ, a shape is wrong, or a map leaves [0, 1].

    Examples::

        >>> fig, axes = plot_quality_maps([clean, masked], maps, ["clean", "mask"])
    """
    n = len(images)
    if not n == len(quality_maps) == len(titles) or n == 0:
        raise ValueError(
            f"There must be as many images, maps and titles, but got {n}, "
            f"{len(quality_maps)} and {len(titles)}."
        )
    figure = Figure(figsize=(n * _PANEL + 0.9, 2 * _PANEL + 0.7), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False)
    for column in range(n):
        top, bottom = axes[:, column]
        _draw(top, bottom, images[column], quality_maps[column], titles[column])
    _colour_bar(figure, axes)
    _caption(figure, caption)
    return figure, axes


def _draw(top: Axes, bottom: Axes, image: ArrayLike, quality_map: ArrayLike, title: str) -> None:
    pixels, p = np.asarray(image), np.asarray(quality_map)
    if p.ndim != 2 or pixels.shape != (*p.shape, 3):
        raise ValueError(
            "An image (H, W, 3) and its map (H, W) are needed, but got "
            f"{pixels.shape} and {p.shape}."
        )
    if not (p.min() >= 0 and p.max() <= 1):  # also false for NaN
        raise ValueError(
            f"A quality map lies in [0, 1], but this one spans {p.min():g} to {p.max():g}: "
            "apply quality_map to the attributions first."
        )
    top.imshow(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    bottom.imshow(p, cmap="RdYlGn", vmin=0.0, vmax=1.0, interpolation="nearest")
    top.set_title(title, fontsize=10)
    for axis in (top, bottom):
        axis.set_axis_off()


def _colour_bar(figure: Any, axes: Any) -> None:
    picture = np.ravel(axes)[-1].images[0]
    bar = figure.colorbar(picture, ax=axes, fraction=0.05, aspect=25, ticks=[0, 0.5, 1])
    bar.set_label("pixel quality (absolute scale)")


def _caption(figure: Any, text: str) -> None:
    if text:
        figure.supxlabel(text, fontsize=7)
