"""Figures of pixel-level quality on an absolute scale: red low, green high.

Unlike ``captum.attr.visualization.visualize_image_attr``, nothing is normalised per image: the
same colour means the same quality in every figure, as Sec. III-C of the paper asks for.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

__all__ = ["plot_faces", "plot_quality_map", "plot_quality_maps"]

COLOURS = "RdYlGn"
"""The colour map of pixel quality, in all figures."""
_PANEL = 1.3  # inches; small, so that text is legible where the figure is scaled to a phone's width
_TEXT = 9  # points
_LINE, _LETTER = 0.16, 1 / 14  # inches
_DPI = 300
_NAMES = ("pixel quality", "relative to reference faces")
_COUNTS = {2: "two", 3: "three, for the relative map,"}


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
        relative_map (array, optional): (H, W), in [0, 1], the quality relative to reference
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
    count = 2 if relative_map is None else 3
    title = _wrapped(title, _PANEL)
    if axes is None:
        lines = max(title.count("\n") + 1, count - 1)
        figure, grid = _figure(1, count, lines, caption)
        panels = grid[0]
    else:
        panels = np.asarray(axes, dtype=object)
        if panels.shape != (count,):
            raise ValueError(f"axes must be {_COUNTS[count]}, but got {panels.shape}.")
        figure = panels[0].figure
    _draw(panels, image, quality_map, relative_map, title)
    if relative_map is not None:
        for axis, name in zip(panels[1:], _NAMES, strict=True):
            axis.set_title(_wrapped(name, _PANEL), fontsize=_TEXT)
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
    """Draw images in one row, and their pixel-level quality maps below.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        quality_maps (sequence of arrays): n maps (H, W), in [0, 1].
        titles (sequence of str): n titles, wrapped to the width of an image.
        relative_maps (sequence of arrays, optional): n maps (H, W), in [0, 1], the quality
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
    third = [None] * n if relative_maps is None else relative_maps
    if not n == len(quality_maps) == len(titles) == len(third) or n == 0:
        raise ValueError(
            f"There must be as many images, maps and titles, but got {n}, "
            f"{len(quality_maps)} and {len(titles)}"
            + ("." if relative_maps is None else f", and {len(third)} relative maps.")
        )
    titles = [_wrapped(title, _PANEL) for title in titles]
    lines = max(title.count("\n") + 1 for title in titles)
    rows, named = (2, 0) if relative_maps is None else (3, 2)
    figure, axes = _figure(rows, n, lines + named, caption)
    for column in range(n):
        _draw(axes[:, column], images[column], quality_maps[column], third[column], titles[column])
    if relative_maps is not None:
        for axis, name in zip(axes[1:, 0], _NAMES, strict=True):
            axis.set_title(name, fontsize=_TEXT, loc="left")
    _colour_bar(figure, axes)
    _caption(figure, caption)
    return figure, axes


def plot_faces(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    titles: Sequence[str],
    relative_maps: Sequence[ArrayLike] | None = None,
    *,
    caption: str = "",
) -> Figure:
    """Draw one face beside its maps, or several above theirs.

    Args:

        images (sequence of arrays): As for :func:`plot_quality_maps`.
        quality_maps (sequence of arrays): Likewise.
        titles (sequence of str): Likewise.
        relative_maps (sequence of arrays, optional): Likewise.
        caption (str): Likewise.

    Returns:
        *Figure*: of :func:`plot_quality_map` for one face, otherwise of
        :func:`plot_quality_maps`.

    Raises:
        ValueError: as these do.

    Examples::

        >>> figure = plot_faces([clean], maps[:1], ["clean"])
    """
    if len(images) != 1:
        return plot_quality_maps(images, quality_maps, titles, relative_maps, caption=caption)[0]
    relative = None if relative_maps is None else relative_maps[0]
    return plot_quality_map(images[0], quality_maps[0], relative, title=titles[0], caption=caption)[
        0
    ]


def _figure(rows: int, columns: int, lines: int, caption: str) -> tuple[Figure, NDArray[Any]]:
    """Make a figure with room for square panels, a colour bar, lines of text and a caption."""
    width = columns * _PANEL + 0.9
    lines += _wrapped(caption, width).count("\n") + 1
    size = (width, rows * _PANEL + lines * _LINE + 0.25)
    figure = Figure(figsize=size, dpi=_DPI, layout="compressed")
    return figure, figure.subplots(rows, columns, squeeze=False)


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
    panels[0].set_title(title, fontsize=_TEXT, parse_math=False)  # a name may hold a $
    for axis, p in zip(panels[1:], maps, strict=True):
        axis.imshow(p, cmap=COLOURS, vmin=0.0, vmax=1.0, interpolation="nearest")
    for axis in panels:
        axis.set_axis_off()


def _wrapped(text: str, inches: float) -> str:
    return "\n".join(textwrap.fill(line, round(inches / _LETTER)) for line in text.split("\n"))


def _colour_bar(figure: Any, axes: Any) -> None:
    picture = np.ravel(axes)[-1].images[0]
    bar = figure.colorbar(picture, ax=axes, fraction=0.05, aspect=25, ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=_TEXT)
    bar.set_label("pixel quality\n(absolute scale)", fontsize=_TEXT)


def _caption(figure: Any, text: str) -> None:
    if text:
        text = _wrapped(text, figure.get_figwidth())
        figure.supxlabel(text, fontsize=_TEXT).set_parse_math(False)
