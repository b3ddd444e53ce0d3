"""Images and views of them, each view with a colour bar of its own, on scales fixed beforehand."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

__all__ = ["View", "draw"]

_PANEL = 1.3  # inches; small, so that text is legible where the figure is scaled to a phone's width
_TEXT = 9  # points
_LINE, _LETTER = 0.16, 1 / 13  # inches
_DPI = 300
_COUNTS = {2: "two", 3: "three, for the relative map,"}


@dataclass(frozen=True)
class View:
    """Maps of one kind, one per image, and how they are drawn.

    Args:

        name (str): Above the maps.
        label (str): At the colour bar, in lines: what the values are.
        maps (sequence of arrays): (H, W), finite.
        colours (str): Matplotlib's name of the colours.
        limits (tuple[float, float]): What the ends of the colours stand for.
        ticks (dict[float, str]): Values at the colour bar, and their words.
        clamped (bool): Whether values may lie beyond the limits.
        notes (sequence of str): Below each map; above the map of a single image.
    """

    name: str
    label: str
    maps: Sequence[NDArray[Any]]
    colours: str
    limits: tuple[float, float]
    ticks: dict[float, str]
    clamped: bool = False
    notes: Sequence[str] = ()


def draw(
    images: Sequence[ArrayLike],
    views: Sequence[View],
    titles: Sequence[str],
    caption: str = "",
    axes: Sequence[Axes] | None = None,
    *,
    beside: bool = False,
) -> tuple[Figure, NDArray[Any]]:
    """Draw images in one row and their views below, or one image and its views beside it.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        views (sequence of View): of n maps each.
        titles (sequence of str): n, wrapped to the width of an image.
        caption (str): Below everything, wrapped to the figure's width.
        axes (sequence of Axes, optional): To draw one image and its views into.
        beside (bool): One image, its views to the right.

    Returns:
        *tuple[Figure, ndarray of Axes]*: axes of shape (1 + views, n), or (1 + views,) if
        ``beside``.

    Raises:
        ValueError: for an image that is not finite, or axes of another number.
    """
    titles = [_wrapped(title, _PANEL) for title in titles]
    names = [v.name for v in views]
    if beside:  # below are the bars
        names = [_wrapped("\n".join((v.name, *v.notes)), _PANEL) for v in views]
    bars: list[Axes | None] = [None] * len(views)
    if axes is not None:
        panels = np.asarray(axes, dtype=object).reshape(-1, 1)
        if len(panels) != 1 + len(views):
            word = _COUNTS[1 + len(views)]
            raise ValueError(f"axes must be {word}, but got {panels.shape[:1]}.")
        figure = panels[0, 0].figure
    elif beside:
        figure, panels, bars = _one_row(titles[0], names, views, caption)
    else:
        lines = _most_lines(titles) + len(views)
        lines += sum(_most_lines(view.notes) for view in views)
        figure = _figure(len(images), 1 + len(views), lines, caption)
        panels = figure.subplots(1 + len(views), len(images), squeeze=False)
    for axis, image, title in zip(panels[0], images, titles, strict=True):
        axis.imshow(_pixels(image))
        axis.set_title(title, fontsize=_TEXT, parse_math=False)  # a name may hold a $
    for row, view, name, bar in zip(panels[1:], views, names, bars, strict=True):
        _draw_view(figure, row, view, bar)
        if beside:
            row[0].set_title(name, fontsize=_TEXT)
        else:
            _name_row(row[0], name)
    for axis in panels.flat:
        axis.set_axis_off()
    if caption:
        text = _wrapped(caption, figure.get_figwidth())
        figure.supxlabel(text, fontsize=_TEXT).set_parse_math(False)
    return figure, panels[:, 0] if beside else panels


def _pixels(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if not np.isfinite(pixels).all():
        raise ValueError("The image cannot be drawn: some of its pixels are NaN or infinite.")
    drawn: NDArray[np.uint8] = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return drawn


def _draw_view(figure: Any, axes: NDArray[Any], view: View, bar_axes: Axes | None) -> None:
    low, high = view.limits
    for axis, values in zip(axes, view.maps, strict=True):
        picture = axis.imshow(
            values, cmap=view.colours, vmin=low, vmax=high, interpolation="nearest"
        )
    notes = () if bar_axes is not None else view.notes
    for axis, note in zip(axes, notes, strict=False):
        axis.text(
            0.5, -0.03, note, transform=axis.transAxes, ha="center", va="top", fontsize=_TEXT,
            parse_math=False,
        )  # fmt: skip
    place: dict[str, Any] = {"ax": list(axes), "fraction": 0.05, "aspect": 15, "pad": 0.02}
    if bar_axes is not None:
        place = {"cax": bar_axes, "orientation": "horizontal"}
    extend = "both" if view.clamped else "neither"
    bar = figure.colorbar(picture, ticks=list(view.ticks), extend=extend, **place)
    bar.ax.tick_params(labelsize=_TEXT)
    bar.set_ticklabels(list(view.ticks.values()))
    bar.set_label(view.label, fontsize=_TEXT)


def _name_row(axis: Axes, name: str) -> None:
    """Write above a row what its height has room for, without widening its first column."""
    axis.set_title(" ", fontsize=_TEXT)
    place: dict[str, Any] = {
        "xy": (0, 1),
        "xycoords": "axes fraction",
        "textcoords": "offset points",
    }
    axis.annotate(name, xytext=(0, 6), fontsize=_TEXT, **place).set_in_layout(False)


def _one_row(
    title: str, names: Sequence[str], views: Sequence[View], caption: str
) -> tuple[Figure, NDArray[Any], list[Axes | None]]:
    """Make a figure of an image and its views beside it, each with a bar below."""
    count = 1 + len(views)
    lines = _most_lines([title, *names]) + _most_lines([view.label for view in views]) + 4
    figure = _figure(count, 1, lines, caption)
    grid = figure.add_gridspec(2, count, height_ratios=(15, 1))
    panels = np.array([[figure.add_subplot(grid[0, i])] for i in range(count)], dtype=object)
    return figure, panels, [figure.add_subplot(grid[1, i]) for i in range(1, count)]


def _figure(columns: int, rows: int, lines: int, caption: str) -> Figure:
    """Make a figure with room for square panels, colour bars, lines of text and a caption."""
    width = columns * _PANEL + 0.9
    lines += _wrapped(caption, width).count("\n") + 1
    size = (width, rows * _PANEL + lines * _LINE + 0.25)
    return Figure(figsize=size, dpi=_DPI, layout="compressed")


def _most_lines(texts: Sequence[str]) -> int:
    return max((text.count("\n") + 1 for text in texts), default=0)


def _wrapped(text: str, inches: float) -> str:
    letters = round(inches / _LETTER)
    lines = (textwrap.fill(line, letters, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(lines)
