"""What figures of several protocols are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, LogLocator, NullLocator, ScalarFormatter
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.protocol import Record
from benchmarks.subjects.methods import is_null
from captum_plq.visualization.quality_maps import COLOURS

_LINE_COLOURS = ("C2", "C0", "C1", "C3", "C4", "C5", "C6", "C8", "C9")  # C7 is grey
_DASHES = ("-", (0, (4, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (2, 3)))


def preferred(maps: dict[str, Tensor]) -> list[str]:
    """Return which two maps an example shows: plq and local-z if they are there."""
    wanted: tuple[str, ...] = ("plq", "local-z", "plq-relative")
    return ([name for name in wanted if name in maps] or list(maps))[:2]


def face_panels(
    rows: int, columns: int, *, width: float, height: float, dpi: int = 80
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure, not known to pyplot, and its axes (rows, columns) without ticks.

    Args:

        rows (int): Of panels.
        columns (int): Of panels.
        width (float): Of each, in inches.
        height (float): Of each, in inches.
        dpi (int): When it is saved.
    """
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=dpi)
    without: dict[str, Any] = {"xticks": [], "yticks": []}
    return figure, figure.subplots(rows, columns, squeeze=False, subplot_kw=without)


def show(axes: Axes, image: Tensor) -> None:
    """Draw an image (3, H, W), 0–255, or pixel qualities (H, W), from 0 (red) to 1 (green)."""
    if image.ndim == 3:
        axes.imshow(image.permute(1, 2, 0).to(torch.uint8).cpu().numpy())
    else:
        axes.imshow(image.float().cpu().numpy(), cmap=COLOURS, vmin=0, vmax=1)


def record_panels(
    records: Sequence[Record],
    items: Callable[[Record], Mapping[str, Any]],
    size: tuple[float, float],
    *,
    right: float = 0.0,
    below: float = 0.0,
    **options: Any,
) -> tuple[Figure, list[tuple[Record, list[tuple[Axes, str, Any]]]]]:
    """Return a figure with a row of panels for each record, and what must be said of the faces.

    Args:

        records (sequence of dict): At least one.
        items (Callable): Record → what has a panel each, by name.
        size (tuple[float, float]): Of a panel, in inches.
        right (float): Inches beside all panels.
        below (float): Inches below all panels.
        options: Of :meth:`~matplotlib.figure.Figure.subplots`.

    Returns:
        *tuple*: the figure, not known to pyplot, and each record with its panels: axes, name and
        item.
    """
    columns = max(len(items(record)) for record in records)
    width, height = size[0] * columns + right, size[1] * len(records) + below
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(records), columns, squeeze=False, **options)
    faces = [record["faces"] for record in records if isinstance(record["faces"], dict)]
    if warnings := sorted({x["warning"] for x in faces if x["warning"]}):
        figure.supxlabel(" ".join(warnings), fontsize=7)
    rows = []
    for row, record in zip(panels, records, strict=True):
        shown = items(record).items()
        for axes in row[len(shown) :]:
            axes.axis("off")
        rows.append((record, [(axes, *own) for axes, own in zip(row, shown, strict=False)]))
    return figure, rows


def label(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Write title and labels of a panel in the sizes of all figures."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.tick_params(labelsize=7)


def legend_beside(axes: Axes, size: float) -> None:
    """Put the legend of a panel to the right of it."""
    axes.legend(fontsize=size, loc="center left", bbox_to_anchor=(1.0, 0.5))


def log_ticks(axis: Axis, form: str | Formatter = "{x:g}") -> None:
    """Mark 1, 2 and 5 of each decade of a logarithmic axis."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(form)
    axis.set_minor_locator(NullLocator())


def ticks_at(axis: Axis, places: Sequence[float]) -> None:
    """Mark these places of an axis, and no others."""
    axis.set_ticks(places)
    axis.set_major_formatter(ScalarFormatter())
    axis.set_minor_locator(NullLocator())


def curve_panels(
    records: Sequence[Record],
    curves: Callable[[Record, Any], tuple[Sequence[float], Sequence[float]]],
    measured: Callable[[Record], str],
    *,
    width: float,
    unit: str,
) -> Figure:
    """Draw two curves per method, a row per network, a panel per imputer.

    Best first thick, worst first thin; methods on random weights are left out.

    Args:

        records (sequence of dict): Summaries with ``"curves"``: imputer → method; at least one.
        curves (Callable): Summary and what it holds of a method → best first and worst first.
        measured (Callable): Summary → what its curves show.
        width (float): Of a panel, in inches.
        unit (str): What ``"evaluated"`` counts, e.g. faces.

    Returns:
        *Figure*: not known to pyplot.
    """
    figure, rows = record_panels(records, lambda r: r["curves"], (width, 3.6), right=2)
    for record, row in rows:
        about = f"{record['faces']['evaluated']} {unit}"
        for axes, imputer, of in row:
            for name, style in _line_styles(record, list(of)).items():
                best, worst = curves(record, of[name])
                share = np.linspace(0, 100, len(best))
                axes.plot(share, best, linewidth=1.6, label=name, **style)
                axes.plot(share, worst, linewidth=0.7, **style)
            x = "pixels removed, %; thick: best first, thin: worst first"
            label(axes, f"{record['model']}, {imputer}, {about}", x, measured(record))
        legend_beside(row[-1][0], 6)
    return figure


def _line_styles(record: Record, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Controls grey, the others in colours; each with a dash of its own once these are used up."""
    shown = [name for name in names if not is_null(name)]
    controls = [name for name in shown if record["methods"][name]["kind"] == "control"]
    styles: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(name for name in shown if name not in controls):
        turn, colour = divmod(i, len(_LINE_COLOURS))
        styles[name] = {"color": _LINE_COLOURS[colour], "linestyle": _DASHES[turn % len(_DASHES)]}
    for i, name in enumerate(controls):
        styles[name] = {"color": "0.55", "linestyle": _DASHES[i % len(_DASHES)]}
    return styles
