"""The paper's Fig. 1, the method as a flow of data, drawn from what is computed on one face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.subjects.naive import layer_and_masks
from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.faces import sample_face
from captum_plq.functional import (
    merge_channels,
    node_weights,
    pixel_quality,
    quality_from_embeddings,
    scale_quality,
)
from captum_plq.models import DEFAULT_MODEL, load_model
from captum_plq.visualization.quality_maps import COLOURS

_EMBEDDINGS_SHOWN = 30


def data_flow_figure() -> Figure:
    """Image → stochastic embeddings → Q → node → gradient → map, on the sample face.

    The network is the package's own. Every panel shows what Eqs. 1 to 6 gave.

    Returns:
        *Figure*
    """
    model = load_model(DEFAULT_MODEL).eval()
    scaling, gamma = model.spec.scaling, model.spec.gamma
    if scaling is None or gamma is None:
        raise ValueError("The network of the figure must be calibrated.")
    chip = sample_face().chip
    images = torch.from_numpy(chip).permute(2, 0, 1)[None].float()
    serfiq = SERFIQ(model)
    stochastic = _stochastic_embeddings(serfiq, images)
    quality = quality_from_embeddings(stochastic[None])
    with torch.no_grad():
        embedding = F.normalize(model(images), dim=1)
    weights = node_weights(embedding, scale_quality(quality, scaling), "l1")
    gradient = PixelQualityAttribution(serfiq, scaling=scaling).attribute(images)
    merged = merge_channels(gradient)

    scaled = scale_quality(quality, scaling).item()
    signed = gradient[0].mean(0)
    limit = float(signed.abs().quantile(0.99))
    logs, p = merged[0].clamp_min(1e-9).log10(), pixel_quality(merged, gamma)[0]
    panels: list[tuple[str, str, Callable[[Axes], object]]] = [
        ("image I", f"{chip.shape[0]} × {chip.shape[1]} pixels", lambda axes: axes.imshow(chip)),
        (f"{len(stochastic)} stochastic embeddings",
         f"Q = {quality.item():.3f}  (Eq. 1)\nQ̂ = {scaled:.2f}  (Eq. 2)",
         lambda axes: _draw_embeddings(axes, stochastic)),
        ("quality node on the embedding", f"w = Q̂ / Σ|e| = {weights[0, 0]:.4f}  (Eq. 3)",
         lambda axes: _draw_node(axes, embedding[0])),
        ("saliency S", "signed, mean of colours  (Eq. 4)",
         lambda axes: axes.imshow(signed, cmap="RdBu", vmin=-limit, vmax=limit)),
        ("merged Ŝ", "logarithmic grey  (Eq. 5)", lambda axes: axes.imshow(logs, cmap="gray")),
        ("pixel quality P", f"red 0, green 1, γ = {gamma:.1f}  (Eq. 6)",
         lambda axes: axes.imshow(p, cmap=COLOURS, vmin=0, vmax=1)),
    ]  # fmt: skip
    figure = Figure(figsize=(13, 3.0))
    for i, (head, words, draw) in enumerate(panels):
        axes = figure.add_axes((0.01 + 0.165 * i, 0.16, 0.125, 0.56), xticks=[], yticks=[])
        axes.set_title(head, fontsize=9)
        axes.text(0.5, -0.05, words, fontsize=8, ha="center", va="top", transform=axes.transAxes)
        draw(axes)
    for i, words in enumerate(("dropout,\nm times", "weights", "gradient", "|·|", "γ")):
        start = 0.137 + 0.165 * i
        figure.text(start + 0.018, 0.47, words, fontsize=6.5, ha="center", va="bottom")
        _connect(figure, start + 0.034, start + 0.002, 0.42, arrowstyle="-|>", color="black")
    for left, right, words in (
        (0.01, 0.29, "1  how good is the image for this network?"),
        (0.34, 0.455, "2  a node for it"),
        (0.505, 0.96, "3  its gradient, as the quality of each pixel"),
    ):
        figure.text((left + right) / 2, 0.92, words, fontsize=10, ha="center", weight="bold")
        _connect(figure, left, right, 0.88, arrowstyle="|-|", color="0.5", mutation_scale=3)
    return figure


def _connect(figure: Figure, to: float, start: float, height: float, **style: Any) -> None:
    figure.axes[0].annotate("", (to, height), (start, height), xycoords="figure fraction",
                            textcoords="figure fraction", arrowprops=style)  # fmt: skip


def _stochastic_embeddings(serfiq: SERFIQ, images: Tensor) -> Tensor:
    """(m, d), unit length: the network under each of SER-FIQ's masks."""
    model = serfiq.model
    layer, masks = layer_and_masks(serfiq, images)
    copies = images.expand(len(masks), *images.shape[1:])
    scale = 1 / (1 - serfiq.masks.dropout)
    with (
        torch.no_grad(),
        layer.register_forward_pre_hook(lambda _, args: args[0] * masks * scale),
    ):
        return F.normalize(model(copies), dim=1)


def _draw_embeddings(axes: Axes, stochastic: Tensor) -> None:
    """In the plane in which they scatter most, some lines between pairs: the distances of Eq. 1."""
    centred = stochastic - stochastic.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    points = centred @ directions[:2].T
    some = points[:_EMBEDDINGS_SHOWN]
    for i in range(len(some)):
        for j in range(i):
            axes.plot(*zip(some[i].tolist(), some[j].tolist(), strict=True), color="C0",
                      linewidth=0.2, alpha=0.35)  # fmt: skip
    axes.plot(points[:, 0], points[:, 1], ".", color="C0", markersize=4)
    axes.margins(0.08)


def _draw_node(axes: Axes, embedding: Tensor) -> None:
    """Features of the embedding, all connected to the node with the same weight."""
    count = 24
    features = embedding[:count]
    heights = torch.linspace(0.04, 0.96, count)
    limit = float(embedding.abs().max())
    for height, value in zip(heights.tolist(), features.tolist(), strict=True):
        axes.plot([0.4, 0.9], [height, 0.5], color="0.6", linewidth=0.5, zorder=1)
        colour = "C3" if value < 0 else "C0"
        axes.barh(height, value / limit * 0.3, 0.025, left=0.2, color=colour, zorder=2)
    axes.plot([0.9], [0.5], "o", color="C2", markersize=15, zorder=3)
    axes.text(0.9, 0.5, r"$N_Q$", fontsize=7, ha="center", va="center", color="white", zorder=4)
    axes.text(0.2, -0.01, "e", fontsize=8, ha="center", va="top")
    axes.set_xlim(-0.15, 1.02)
    axes.set_ylim(-0.08, 1.02)
