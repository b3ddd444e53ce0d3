"""The places in a network where SER-FIQ's dropout may be put, found by watching it run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_plq.network.output import (
    EmbeddingLayerError,
    Execution,
    OutputSelector,
    executions_of,
    leaf_modules,
)
from captum_plq.network.state import undisturbed
from captum_plq.network.tap import EmbeddingTap

__all__ = ["DropoutSite", "SiteKind", "find_dropout_sites"]

SiteKind = Literal[
    "last linear map", "as named", "global convolution", "global pooling", "last spatial map"
]
"""What follows the dropped features."""

_SCALES_THROUGH = (nn.ReLU, nn.PReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout2d)
"""Layers that let dropout through: what is dropped or scaled before comes out so after."""


@dataclass(frozen=True)
class DropoutSite:
    """A layer whose input may be dropped out.

    Args:

        layer (str): Its qualified name, for ``SERFIQ(model, embedding_layer=...)``; or that of the
            module that takes or gives the last spatial map.
        kind (str): What follows the dropped features: ``"last linear map"``, SER-FIQ's own
            place; ``"as named"``, another place that was named instead; ``"global
            convolution"``, one that turns the map into a single pixel (in
            MobileFaceNets depthwise); or ``"global pooling"``. ``"last spatial map"``: the map
            itself is dropped out, see :class:`~captum_plq.SpatialSERFIQ`.
        features (tuple[int, ...]): Shape of one image's features there.
    """

    layer: str
    kind: SiteKind
    features: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.layer or 'the model itself'} ({self.kind})"

    @property
    def is_spatial(self) -> bool:
        """Whether it is the map that :class:`~captum_plq.LocalQuality` divides quality over."""
        return self.kind == "last spatial map"


def find_dropout_sites(
    model: nn.Module,
    images: Tensor,
    embedding_layer: str | None = None,
    output: OutputSelector = None,
) -> list[DropoutSite]:
    """Find where SER-FIQ can drop out features: before the head, and before the map collapses.

    Always the last linear map; and the last convolution, and the last pooling, that turn a map
    of features into one pixel, where :class:`~captum_plq.SERFIQ` accepts them. Where the
    pooling is no module of its own (``x.mean((2, 3))``), the activation in front of it stands
    for it: dropout before a ReLU or PReLU does what it does after it.

    Args:

        model (nn.Module): Embedding network, (B, C, H, W) → (B, d); left as it was.
        images (Tensor): (B, C, H, W), floating point, at least one, to try it on.
        embedding_layer (str, optional): Qualified name of the first site. ``None``: the last
            linear map, found.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, see :func:`~captum_plq.network.embedding_layer.select_embedding`.

    Returns:
        *list[DropoutSite]*: at least one, the last linear map (or what was named) first.

    Raises:
        EmbeddingLayerError: if the last linear map cannot be found, or not be used.

    Examples::

        >>> [(site.layer, site.kind) for site in find_dropout_sites(load_model("dlib"), chips)]
        [('backbone.fc', 'last linear map'), ('backbone.blocks.13.relu2', 'global pooling')]
    """
    last = EmbeddingTap(embedding_layer, output).locate(model, (images,))
    executions = _watch_all(model, images, last, output)
    linear = [x.name for x in executions if isinstance(x.layer, (nn.Linear, _ConvNd))]
    named = embedding_layer is not None and linear[-1:] != [last]
    usual: SiteKind = "as named" if named else "last linear map"
    sites = [_site(x, usual) for x in executions if x.name == last]

    def last_accepted(kind: SiteKind, candidates: Sequence[Execution]) -> list[DropoutSite]:
        for x in reversed(candidates):
            with suppress(EmbeddingLayerError):
                EmbeddingTap(x.name, output).locate(model, (images,))
                return [_site(x, kind)]
        return []

    collapsing = [x for x in executions if _collapses(x) and x.name != last]
    convolutions = [x for x in collapsing if isinstance(x.layer, _ConvNd)]
    poolings = [x for x in collapsing if not isinstance(x.layer, _ConvNd)]
    sites += last_accepted("global convolution", convolutions)
    sites += last_accepted("global pooling", poolings)
    if len(sites) == 1:
        sites += last_accepted("global pooling", _before_unseen_pooling(executions))
    return sites


def _watch_all(
    model: nn.Module, images: Tensor, last: str, output: OutputSelector
) -> list[Execution]:
    """One forward of two images, with every leaf module watched, and the one named ``last``."""
    with undisturbed(model, (images,)) as network, torch.no_grad():
        return executions_of(network, leaf_modules(network, last), (images[:2],), output)[0]


def _site(execution: Execution, kind: SiteKind) -> DropoutSite:
    return DropoutSite(execution.name, kind, tuple(execution.input.shape[1:]))


def _collapses(execution: Execution) -> bool:
    """Whether a map of several pixels (B, C, H, W) becomes one, without a view (flatten)."""
    before, after = execution.input, execution.output
    several = before.ndim == 4 and before.shape[2] * before.shape[3] > 1
    one = after.ndim == 2 or (after.ndim == 4 and after.shape[2:] == (1, 1))
    return several and one and after.numel() < before.numel()


def _before_unseen_pooling(executions: Sequence[Execution]) -> list[Execution]:
    """The last layer that gives a map, if it lets dropout through and a mean follows it."""
    for execution, following in reversed(list(pairwise(executions))):
        y, x = execution.output, following.input
        if y.ndim == 4 and y.shape[2:] != (1, 1):
            pooled = x.ndim == 2 and x.shape[1] == y.shape[1]
            return [execution] if pooled and isinstance(execution.layer, _SCALES_THROUGH) else []
    return []
