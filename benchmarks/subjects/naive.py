"""PLQ and SER-FIQ written straight down: the references for what the package's way costs.

Neither uses the package's tap. Only the masks and the embedding layer's name are shared, so that
both must give the same numbers as the package.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.subjects.methods import Attribute, Build
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import SERFIQ


def layer_and_masks(serfiq: SERFIQ, images: Tensor) -> tuple[nn.Module, Tensor]:
    """Return the embedding layer that SER-FIQ found, and its masks (m, ...), true where kept.

    Args:

        serfiq (SERFIQ): Of the network.
        images (Tensor): (B, C, H, W), an example.
    """
    with torch.no_grad():
        _, features, _ = serfiq.tap.features(serfiq.model, (images[:1],))
    layer = serfiq.model.get_submodule(serfiq.tap.locate(serfiq.model, (images,)))
    return layer, serfiq.masks.for_features(features.shape[1:], images.device)


def _of_layer_and_masks(
    compute: Callable[[ExplainedNetwork, Tensor, nn.Module, Tensor], Tensor],
) -> Build:
    """A method that is given the network's layer and masks, found at the first images."""

    def build(network: ExplainedNetwork) -> Attribute:
        serfiq = network.serfiq()
        found: list[tuple[nn.Module, Tensor]] = []

        def attribute(images: Tensor) -> Tensor:
            if not found:
                found.append(layer_and_masks(serfiq, images))
            return compute(network, images, *found[0])

        return attribute

    return build


@_of_layer_and_masks
def naive_plq(network: ExplainedNetwork, images: Tensor, layer: nn.Module, masks: Tensor) -> Tensor:
    """S(I) of Eq. 4: a forward for SER-FIQ, then a second forward and a backward."""
    passes = masks.shape[0]

    def drop_out(_: nn.Module, args: tuple[Any, ...]) -> Tensor:
        features: Tensor = args[0]
        copies = features.repeat_interleave(passes, dim=0)
        kept = masks.repeat(features.shape[0], *[1] * (masks.ndim - 1))
        return copies * kept / (1 - network.dropout)

    with torch.no_grad(), layer.register_forward_pre_hook(drop_out):
        stochastic = network.model(images)
    quality = _quality(stochastic.unflatten(0, (-1, passes)))
    leaf = images.detach().clone().requires_grad_()
    embedding = F.normalize(network.model(leaf), dim=1)
    weights = quality / embedding.detach().abs().sum(1)
    (gradient,) = torch.autograd.grad((weights * embedding.sum(1)).sum(), leaf)
    return gradient


@_of_layer_and_masks
def official_serfiq(
    network: ExplainedNetwork, images: Tensor, layer: nn.Module, masks: Tensor
) -> Tensor:
    """Q (B,) of Eq. 1 as the SER-FIQ repository has it: m copies through the whole network."""
    current = masks

    def drop_out(_: nn.Module, args: tuple[Any, ...]) -> Tensor:
        features: Tensor = args[0]
        return features * current / (1 - network.dropout)

    qualities = []
    with torch.no_grad(), layer.register_forward_pre_hook(drop_out):
        for image in images:
            embeddings = []
            for chunk in masks.split(network.rows):
                current = chunk
                embeddings.append(network.model(image.expand(len(chunk), *image.shape)))
            qualities.append(_quality(torch.cat(embeddings).unsqueeze(0)))
    return torch.cat(qualities)


def _quality(stochastic: Tensor) -> Tensor:
    """Eq. 1 of (B, m, d) embeddings, image by image: (B,)."""
    units = F.normalize(stochastic if stochastic.dtype.itemsize > 2 else stochastic.float(), dim=2)
    passes = units.shape[1]
    distances = torch.stack([2 / passes**2 * torch.pdist(x).sum() for x in units])
    return 2 * torch.sigmoid(-distances)
