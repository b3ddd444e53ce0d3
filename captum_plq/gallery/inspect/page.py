"""An inspection as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces import REGION_WORDS, REGIONS
from captum_plq.gallery.inspect.pictures import RowPicture
from captum_plq.gallery.inspect.statistics import Inspection
from captum_plq.gallery.schema import lost_column
from captum_plq.quality import worst_region

__all__ = ["render_page"]

_LEVELS = {0.0: "lowest", 0.05: "5 %", 0.25: "25 %", 0.5: "median", 0.75: "75 %", 0.95: "95 %"}


def render_page(
    inspection: Inspection,
    lowest: Sequence[RowPicture] = (),
    highest: Sequence[RowPicture] = (),
    *,
    title: str = "Gallery",
    notes: Sequence[str] = (),
) -> str:
    """Return an inspection as an HTML page.

    It holds its pictures, runs no script and loads nothing, so it works offline and from a mail.
    File names and reasons are escaped.

    Args:

        inspection (Inspection): What the result shows.
        lowest (sequence of RowPicture): Of ``inspection.lowest``.
        highest (sequence of RowPicture): Of ``inspection.highest``.
        title (str): Of the page.
        notes (sequence of str): What a reader must know, a paragraph each.

    Returns:
        *str*: HTML.

    Raises:
        MissingExtraError: if Jinja or Pillow is not installed.

    Examples::

        >>> html = render_page(inspect_result(read_result("scored")), title="result")
    """
    with extra("gallery"):
        from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        files("captum_plq.gallery.inspect").joinpath("page.html").read_text("utf-8")
    )
    counts, edges = inspection.histogram
    return template.render(
        title=title,
        notes=list(notes),
        inspection=inspection,
        quantiles=[
            (_LEVELS.get(level, "highest"), f"{q:.3f}") for level, q in inspection.quantiles.items()
        ],
        bars=_bars(counts),
        edges=[f"{edges[0]:.2f}", f"{(edges[0] + edges[-1]) / 2:.2f}", f"{edges[-1]:.2f}"],
        losses=_losses(inspection),
        limits=sorted({f"{p.limit:.3f}" for p in (*lowest, *highest) if p.limit is not None}),
        sections=[
            ("Lowest quality", [_figure(picture) for picture in lowest]),
            ("Highest quality", [_figure(picture) for picture in highest]),
        ],
        model=inspection.metadata.get("model", {}).get("name", "unknown"),
        parameters=inspection.metadata.get("parameters", {}),
        source=inspection.metadata.get("source", {}).get("root", ""),
    )


def _bars(counts: NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return left edge and height of each bar, in hundredths of the drawing."""
    top, width = max(1, int(counts.max())), 100 / len(counts)
    return [(i * width, 100 * int(count) / top) for i, count in enumerate(counts)]


def _losses(inspection: Inspection) -> list[dict[str, Any]]:
    largest = max((abs(loss.low) for loss in inspection.losses), default=0.0) or 1.0
    return [
        {
            "words": REGION_WORDS.get(loss.region, loss.region),
            "mean": f"{loss.mean:+.3f}",
            "low": f"{loss.low:+.3f}",
            "share": f"{loss.worst_share:.0%}",
            "bar": 100 * max(0.0, loss.low) / largest,
        }
        for loss in sorted(inspection.losses, key=lambda loss: -loss.low)
    ]


def _figure(picture: RowPicture) -> dict[str, Any]:
    row = picture.row
    quality, error, scaled = row["quality"], row["standard_error"], row["scaled_quality"]
    words = f"Q {quality:.3f}" + ("" if error is None else f" ± {error:.3f}")
    region = _worst_region(row)
    face = "" if row["face"] in (None, 1) else f", face {row['face']}"
    return {
        "path": f"{row['path']}{face}",
        "words": words + ("" if scaled is None else f", Q̂ {scaled:.2f}"),
        "loss": region,
        "causes": ", ".join(row.get("causes") or ()),
        "problem": picture.problem,
        "chip": _data_url(picture.chip, "JPEG"),
        "chip_alt": f"Face in {row['path']}{face}: {words}",
        "map": _data_url(picture.map, "PNG"),
        "map_alt": f"Its map of local quality; {region or 'no region loses much'}",
    }


def _worst_region(row: dict[str, Any]) -> str:
    lost = {region: row.get(lost_column(region)) for region in REGIONS}
    worst = worst_region([math.nan if loss is None else loss for loss in lost.values()])
    return "" if worst is None else f"largest loss: {REGION_WORDS[worst]}, {lost[worst]:.2f}"


def _data_url(pixels: NDArray[np.uint8] | None, kind: str) -> str:
    if pixels is None:
        return ""
    with extra("faces"):
        from PIL import Image
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, quality=88, optimize=True)
    text = base64.b64encode(content.getvalue()).decode("ascii")
    return f"data:image/{kind.lower()};base64,{text}"
