"""The figure of an explanation: local quality first, then the paper's maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.visualization.local_maps import local_views
from captum_plq.visualization.panels import draw
from captum_plq.visualization.quality_maps import quality_views

__all__ = ["plot_faces"]


def plot_faces(
    images: Sequence[ArrayLike],
    quality_maps: Sequence[ArrayLike],
    titles: Sequence[str],
    relative_maps: Sequence[ArrayLike] | None = None,
    *,
    local_maps: Sequence[ArrayLike] | torch.Tensor | None = None,
    zscores: Sequence[ArrayLike] | torch.Tensor | None = None,
    notes: Sequence[str] = (),
    caption: str = "",
    centres: PlaceCentres | None = None,
) -> Figure:
    """Draw one face beside its maps, or several above theirs.

    Args:

        images (sequence of arrays): n images (H, W, 3), 0–255.
        quality_maps (sequence of arrays): n maps of the paper's, (H, W), in [0, 1].
        titles (sequence of str): n titles, wrapped to the width of an image.
        relative_maps (sequence of arrays, optional): As for
            :func:`~captum_plq.visualization.plot_quality_maps`.
        local_maps (sequence of arrays, optional): As for
            :func:`~captum_plq.visualization.plot_local_quality`; drawn first.
        zscores (sequence of arrays, optional): Likewise.
        notes (sequence of str): n notes below the paper's maps.
        caption (str): Below everything, wrapped to the figure's width.
        centres (PlaceCentres, optional): As for
            :func:`~captum_plq.visualization.plot_local_quality`.

    Returns:
        *Figure*: each kind of map with its colour bar.

    Raises:
        ValueError: if the numbers differ, a shape is wrong, an image or a map holds NaN, or a
            quality map leaves [0, 1].

    Examples::

        >>> figure = plot_faces([chip], maps[:1], ["clean"])
    """
    given = (quality_maps, titles, relative_maps, local_maps, zscores, notes or None)
    if not images or any(len(g) != len(images) for g in given if g is not None):
        raise ValueError("There must be as many images, titles, notes and maps of each kind.")
    local = [] if local_maps is None else local_views(images, local_maps, zscores, centres)
    views = [*local, *quality_views(images, quality_maps, relative_maps, notes)]
    return draw(images, views, titles, caption, beside=len(images) == 1)[0]
