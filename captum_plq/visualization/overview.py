"""Overviews: the numbered faces of a photo, and the faces of a run on one sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.visualization.local_maps import local_views
from captum_plq.visualization.panels import View
from captum_plq.visualization.quality_maps import quality_views

__all__ = ["plot_contact_sheet", "plot_detections"]

_DPI, _LONGEST = 150, 1600  # pixels
_SURE, _WEAK = "#4dd2ff", "#ffb000"  # told apart by people who cannot tell red from green
_CELL, _GAP, _LINES = 1.1, 0.08, 0.5  # inches; the height of two lines of text


def plot_detections(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[int, int, int, int]],
    labels: Sequence[str],
    weak: Sequence[bool],
) -> Figure:
    """Draw a photo with its detected faces, numbered.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        boxes (sequence of tuples): Left, top, right and bottom of each face, in pixels.
        labels (sequence of str): What is written at each after its number.
        weak (sequence of bool): Whether each is a weak detection; its box is dashed and orange.

    Returns:
        *Figure*: with the photo's proportions, at most 1600 pixels a side as it is saved.

    Raises:
        ValueError: if the numbers differ.

    Examples::

        >>> figure = plot_detections(image, [(179, 83, 266, 170)], ["Q = .70"], [False])
    """
    height, width = image.shape[:2]
    step = max(1, -(-max(height, width) // (2 * _LONGEST)))  # what Matplotlib need not resample
    side = min(_LONGEST, max(height, width, 480)) / _DPI / max(height, width)
    figure = Figure(figsize=(width * side, height * side), dpi=_DPI)
    axis = figure.add_axes((0, 0, 1, 1))
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(image[::step, ::step], extent=edges)
    axis.set_axis_off()
    for number, (box, label, faint) in enumerate(zip(boxes, labels, weak, strict=True), start=1):
        left, top, right, bottom = box
        colour = _WEAK if faint else _SURE
        axis.add_patch(
            Rectangle(
                (left, top), right - left, bottom - top, fill=False, edgecolor=colour,
                linewidth=2, linestyle="--" if faint else "-",
            )
        )  # fmt: skip
        words = f"{number}{', weak' if faint else ''}{label and ': '}{label}"
        place = (min(max(left, 0), width - 1), min(max(top, height * 0.03), height - 1))
        axis.text(
            *place, words, fontsize=9, color="black", va="bottom", clip_on=True, parse_math=False,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    axis.set_xlim(edges[0], edges[1])
    axis.set_ylim(edges[2], edges[3])
    return figure


def plot_contact_sheet(
    images: Sequence[ArrayLike],
    titles: Sequence[str],
    *,
    local_maps: Sequence[ArrayLike] | None = None,
    centres: PlaceCentres | None = None,
    quality_maps: Sequence[ArrayLike] | None = None,
    columns: int = 6,
    caption: str = "",
) -> Figure:
    r"""Draw many faces on one sheet, each beside its map.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255, of one size.
        titles (sequence of str): n, of one or two lines; long lines are cut.
        local_maps (sequence of arrays, optional): n maps (h, w) at places, in units of Q.
        centres (PlaceCentres, optional): As for
            :func:`~captum_plq.visualization.plot_local_quality`.
        quality_maps (sequence of arrays, optional): n maps (H, W) of the paper's, in [0, 1], drawn
            if there are no ``local_maps``.
        columns (int): Faces a row.
        caption (str): Above everything.

    Returns:
        *Figure*: a colour bar stands below the faces.

    Raises:
        ValueError: if the numbers or sizes differ, there is no image, or one or a map holds NaN.

    Examples::

        >>> figure = plot_contact_sheet([chip, chip], ["a.jpg\nQ = .70", "b.jpg\nQ = .71"])
    """
    pixels = [np.asarray(image) for image in images]
    if not pixels or len({p.shape for p in pixels}) > 1 or len(titles) != len(pixels):
        raise ValueError("A contact sheet needs images of one size, and as many titles.")
    view = _view(pixels, local_maps, centres, quality_maps)
    wide = 1 if view is None else 2
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns)
    cell_height = _CELL * pixels[0].shape[0] / pixels[0].shape[1]
    cell = (wide * _CELL + _GAP, cell_height + _LINES)
    top, below = 0.3 if caption else 0.05, 0.05 if view is None else 0.75
    size = (columns * cell[0] + _GAP, rows * cell[1] + top + below)
    figure = Figure(figsize=size, dpi=_DPI)
    for i, (image, title) in enumerate(zip(pixels, titles, strict=True)):
        left = _GAP + (i % columns) * cell[0]
        foot = size[1] - top - (i // columns + 1) * cell[1]
        parts: list[tuple[Any, dict[str, Any]]] = [(image.astype(np.uint8), {})]
        if view is not None:
            low, high = view.limits
            parts.append((view.maps[i], {"cmap": view.colours, "vmin": low, "vmax": high}))
        for j, (drawn, how) in enumerate(parts):
            at = (left + j * _CELL) / size[0], foot / size[1]
            axis = figure.add_axes((*at, _CELL / size[0], cell_height / size[1]))
            axis.imshow(drawn, interpolation="nearest", **how)
            axis.set_axis_off()
        lines = [_cut(line, round(cell[0] * 15)) for line in title.split("\n")[:2]]
        figure.text(
            left / size[0], (foot + cell_height + 0.04) / size[1], "\n".join(lines), fontsize=7,
            va="bottom", parse_math=False,
        )  # fmt: skip
    if view is not None:
        _bar(figure, view, size)
    if caption:
        figure.text(_GAP / size[0], 1 - 0.08 / size[1], caption, fontsize=9, va="top")
    return figure


def _view(
    images: Sequence[NDArray[Any]],
    local_maps: Sequence[ArrayLike] | None,
    centres: PlaceCentres | None,
    quality_maps: Sequence[ArrayLike] | None,
) -> View | None:
    if local_maps is not None:
        return local_views(images, local_maps, centres=centres)[0]
    return None if quality_maps is None else quality_views(images, quality_maps, None)[0]


def _bar(figure: Figure, view: View, size: tuple[float, float]) -> None:
    low, high = view.limits
    width = min(3.0, size[0] - 2 * _GAP) / size[0]
    axis = figure.add_axes((_GAP / size[0], 0.45 / size[1], width, 0.12 / size[1]))
    bar = figure.colorbar(
        ScalarMappable(Normalize(low, high), view.colours), axis, orientation="horizontal",
        ticks=list(view.ticks), extend="both" if view.clamped else "neither",
    )  # fmt: skip
    bar.set_ticklabels(list(view.ticks.values()), fontsize=7)
    figure.text(
        _GAP / size[0] + width + 0.1 / size[0],
        0.45 / size[1],
        f"{view.name}; {view.label}".replace("\n", " "),
        fontsize=7,
    )


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
