"""As the paper's Fig. 6: one face with squares of growing size, and its maps below."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from benchmarks.harness.old_context import StudyContext
from benchmarks.protocols.random_squares import spoil
from benchmarks.subjects.faces import aligned_chip
from captum_plq.faces import sample_face

__all__ = ["example_figure"]

_PREFERRED = ("plq", "plq-relative")


def example_figure(
    context: StudyContext, sizes: Sequence[int], fill: str = "black", seed: int = 0
) -> Figure:
    """The package's sample face, so that the figure may be shown to anyone.

    Args:

        context (StudyContext): Of the network. Shown are plq and plq-relative if they are among
            its methods, otherwise the first two.
        sizes (sequence of int): Of the squares, in pixels.
        fill (str): Of the squares.
        seed (int): Of their places.

    Returns:
        *Figure*: qualities from 0 (red) to 1 (green); not known to pyplot.
    """
    parameter = next(context.model.parameters())
    chip = torch.from_numpy(aligned_chip(sample_face()[0], context.model.spec))
    image = chip.permute(2, 0, 1).to(parameter)
    other = image.flip(2)
    spoilt = [spoil(image, size, fill, other, "sample", seed)[0] for size in sizes]
    images = torch.stack([image, *spoilt])
    maps = context.maps(images)
    names = [name for name in _PREFERRED if name in maps] or list(maps)[:2]
    columns = len(images)
    figure = Figure(figsize=(1.6 * columns, 1.75 * (1 + len(names))), layout="constrained")
    panels = figure.subplots(1 + len(names), columns, squeeze=False)
    for axes, shown, size in zip(panels[0], images, ("none", *sizes), strict=True):
        axes.imshow(shown.permute(1, 2, 0).byte().cpu().numpy())
        axes.set_title(f"s = {size}", fontsize=8)
    for row, name in zip(panels[1:], names, strict=True):
        for axes, p in zip(row, context.pixel_qualities(name, maps[name]), strict=True):
            axes.imshow(p.float().cpu().numpy(), cmap="RdYlGn", vmin=0, vmax=1)
        row[0].set_ylabel(name, fontsize=8)
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    return figure
