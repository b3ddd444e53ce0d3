"""What figures of several protocols are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.protocol import Record
from benchmarks.subjects.methods import RANDOM_WEIGHTS

__all__ = ["curve_panels", "face_panels", "preferred", "record_panels", "show"]

_COLOURS = ("C2", "C0", "C1", "C3", "C4", "C5", "C6", "C8", "C9")  # C7 is grey
_DASHES = ("-", (0, (4, 1)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2)), (0, (2, 3)))


def preferred(maps: dict[str, Tensor]) -> list[str]:
    """Return which maps an example shows: plq and plq-relative, otherwise the first two."""
    return [name for name in ("plq", "plq-relative") if name in maps] or list(maps)[:2]


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
        axes.imshow(image.float().cpu().numpy(), cmap="RdYlGn", vmin=0, vmax=1)


def record_panels(
    records: Sequence[Record], columns: int, *, width: float, height: float, **options: Any
) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure with a row of panels for each record, and what must be said of the faces."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(records), columns, squeeze=False, **options)
    warnings = sorted({r["faces"]["warning"] for r in records if r["faces"]["warning"]})
    if warnings:
        figure.supxlabel(" ".join(warnings), fontsize=7)
    return figure, panels


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
    columns = max(len(record["curves"]) for record in records)
    figure, panels = record_panels(
        records, columns, width=width * columns + 2, height=3.6 * len(records)
    )
    for row, record in zip(panels, records, strict=True):
        for axes in row[len(record["curves"]) :]:
            axes.axis("off")
        for axes, (imputer, of) in zip(row, record["curves"].items(), strict=False):
            for name, style in _line_styles(record, list(of)).items():
                best, worst = curves(record, of[name])
                share = np.linspace(0, 100, len(best))
                axes.plot(share, best, linewidth=1.6, label=name, **style)
                axes.plot(share, worst, linewidth=0.7, **style)
            axes.set_title(
                f"{record['model']}, {imputer}, {record['faces']['evaluated']} {unit}", fontsize=9
            )
            axes.set_xlabel("pixels removed, %; thick: best first, thin: worst first", fontsize=8)
            axes.set_ylabel(measured(record), fontsize=8)
            axes.tick_params(labelsize=7)
        row[len(record["curves"]) - 1].legend(
            fontsize=6, loc="center left", bbox_to_anchor=(1.0, 0.5)
        )
    return figure


def _line_styles(record: Record, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Controls grey, the others in colours; each with a dash of its own once these are used up."""
    shown = [name for name in names if not name.endswith(RANDOM_WEIGHTS)]
    controls = [name for name in shown if record["methods"][name]["kind"] == "control"]
    styles: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(name for name in shown if name not in controls):
        turn, colour = divmod(i, len(_COLOURS))
        styles[name] = {"color": _COLOURS[colour], "linestyle": _DASHES[turn % len(_DASHES)]}
    for i, name in enumerate(controls):
        styles[name] = {"color": "0.55", "linestyle": _DASHES[i % len(_DASHES)]}
    return styles
