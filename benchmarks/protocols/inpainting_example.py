"""As the paper's Figs. 2 and 4: face, occluded, map, region, inpainted, and the qualities."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks.harness.old_context import StudyContext
from benchmarks.protocols.inpainting import Inpainting, lowest_regions, paint_over
from benchmarks.protocols.quality_runs import quality_runs
from benchmarks.subjects.faces import sample_image, spec_landmarks
from benchmarks.subjects.occluders import occlude

__all__ = ["inpainting_example"]

_PREFERRED = ("plq", "plq-relative")


def inpainting_example(context: StudyContext, protocol: Inpainting) -> Figure:
    """The package's sample face under each occluder, one row each.

    Args:

        context (StudyContext): Of the network. Shown are plq and plq-relative if they are among
            its methods, otherwise the first two.
        protocol (Inpainting): Occluders and inpainting.

    Returns:
        *Figure*: pixel qualities from 0 (red) to 1 (green), over images Q and its standard
        deviation; not known to pyplot.
    """
    parameter = next(context.model.parameters())
    image = sample_image(context.model.spec, parameter)
    landmarks = spec_landmarks(context.model.spec)
    parts = [
        occlude(image, landmarks, occluder, "sample", protocol.seed)
        for occluder in protocol.occluders
    ]
    occluded, masks = (torch.stack(list(x)) for x in zip(*parts, strict=True))
    maps = context.maps(occluded)
    names = [name for name in _PREFERRED if name in maps] or list(maps)[:2]
    columns: list[tuple[str, str, Any]] = [
        ("face", "", image[None].expand_as(occluded)),
        ("occluded", "", occluded),
    ]
    for name in names:
        region = lowest_regions({name: maps[name]}, masks, protocol.pool)[name]
        painted = paint_over(occluded, region, protocol.inpainting)
        again = context.maps(painted)
        columns += [
            (name, "map", context.pixel_qualities(name, maps[name])),
            ("lowest region", "region", (occluded, region)),
            ("inpainted", "", painted),
        ]
        if name in again:
            columns.append(
                (f"{name}, inpainted", "map", context.pixel_qualities(name, again[name]))
            )
    columns.append(("true mask inpainted", "", paint_over(occluded, masks, protocol.inpainting)))
    rows = len(protocol.occluders)
    figure = Figure(figsize=(1.35 * len(columns), 1.6 * rows), layout="constrained")
    panels = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, kind, shown) in zip(panels.T, columns, strict=True):
        spread = quality_runs(context.subject, shown, protocol.runs) if kind == "" else None
        for i, axes in enumerate(column):
            if kind == "map":
                axes.imshow(shown[i].float().cpu().numpy(), cmap="RdYlGn", vmin=0, vmax=1)
            elif kind == "region":
                marked = torch.where(shown[1][i], torch.full_like(shown[0][i], 255), shown[0][i])
                axes.imshow(_picture(marked))
            else:
                axes.imshow(_picture(shown[i]))
            if spread is not None:
                text = f"Q = {spread.mean[i]:.3f} ± {spread.sd[i]:.3f}"
                axes.set_xlabel(text, fontsize=6)
        column[0].set_title(title, fontsize=7)
    for axes, occluder in zip(panels[:, 0], protocol.occluders, strict=True):
        axes.set_ylabel(occluder, fontsize=7)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _picture(image: torch.Tensor) -> Any:
    return image.permute(1, 2, 0).byte().cpu().numpy()
