"""What PLQ and SER-FIQ cost when written straight down: the two references.

Neither uses the package's tap; only the masks and the embedding layer's name are shared, so
that both must give the same numbers as the package.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.subjects.subject import Attribute, Build, Subject
from captum_plq import SERFIQ

__all__ = ["layer_and_masks", "naive_plq", "official_serfiq", "reference"]


def naive_plq(
    model: nn.Module, layer: nn.Module, images: Tensor, masks: Tensor, dropout: float
) -> Tensor:
    """S(I) of Eq. 4: SER-FIQ with a forward of its own, then a second forward and a backward.

    Args:

        model (nn.Module): (B, ...) → (B, d), in evaluation mode.
        layer (nn.Module): Its embedding layer.
        images (Tensor): (B, C, H, W).
        masks (Tensor): (m, ...), bool, true where a feature of one image is kept.
        dropout (float): p.

    Returns:
        *Tensor*: the shape of ``images``.
    """
    passes = masks.shape[0]

    def drop_out(_: nn.Module, args: tuple[Any, ...]) -> Tensor:
        features: Tensor = args[0]
        copies = features.repeat_interleave(passes, dim=0)
        kept = masks.repeat(features.shape[0], *[1] * (masks.ndim - 1))
        return copies * kept / (1 - dropout)

    with torch.no_grad(), layer.register_forward_pre_hook(drop_out):
        stochastic = model(images)
    quality = _quality(stochastic.unflatten(0, (-1, passes)))
    leaf = images.detach().clone().requires_grad_()
    embedding = F.normalize(model(leaf), dim=1)
    weights = quality / embedding.detach().abs().sum(1)
    (gradient,) = torch.autograd.grad((weights * embedding.sum(1)).sum(), leaf)
    return gradient


def official_serfiq(
    model: nn.Module, layer: nn.Module, images: Tensor, masks: Tensor, dropout: float, rows: int
) -> Tensor:
    """Q of Eq. 1 as the SER-FIQ repository has it: m copies through the whole network.

    Args:

        model (nn.Module): (B, ...) → (B, d), in evaluation mode.
        layer (nn.Module): Its embedding layer.
        images (Tensor): (B, C, H, W).
        masks (Tensor): (m, ...), bool, true where a feature of one image is kept.
        dropout (float): p.
        rows (int): Copies that go through the network at a time.

    Returns:
        *Tensor*: (B,), quality only.
    """
    current = masks

    def drop_out(_: nn.Module, args: tuple[Any, ...]) -> Tensor:
        features: Tensor = args[0]
        return features * current / (1 - dropout)

    qualities = []
    with torch.no_grad(), layer.register_forward_pre_hook(drop_out):
        for image in images:
            embeddings = []
            for chunk in masks.split(rows):
                current = chunk
                embeddings.append(model(image.expand(len(chunk), *image.shape)))
            qualities.append(_quality(torch.cat(embeddings).unsqueeze(0)))
    return torch.cat(qualities)


def reference(whole_network: bool) -> Build:
    """:func:`official_serfiq` or :func:`naive_plq` as a method of the registry."""

    def build(subject: Subject) -> Attribute:
        serfiq = subject.serfiq()
        found: list[tuple[nn.Module, Tensor]] = []

        def attribute(images: Tensor, node: Tensor) -> Tensor:
            if not found:
                found.append(layer_and_masks(serfiq, images))
            layer, masks = found[0]
            model, p = subject.model, subject.dropout
            if whole_network:
                return official_serfiq(model, layer, images, masks, p, subject.rows)
            return naive_plq(model, layer, images, masks, p)

        return attribute

    return build


def _quality(stochastic: Tensor) -> Tensor:
    """Eq. 1 of (B, m, d) embeddings, image by image: (B,)."""
    units = F.normalize(stochastic if stochastic.dtype.itemsize > 2 else stochastic.float(), dim=2)
    passes = units.shape[1]
    distances = torch.stack([2 / passes**2 * torch.pdist(x).sum() for x in units])
    return 2 * torch.sigmoid(-distances)


def layer_and_masks(serfiq: SERFIQ, images: Tensor) -> tuple[nn.Module, Tensor]:
    """The embedding layer that SER-FIQ found, and its masks (m, ...), true where kept.

    Args:

        serfiq (SERFIQ): Around the network.
        images (Tensor): (B, C, H, W), an example.
    """
    with torch.no_grad():
        _, features, _ = serfiq.tap.features(serfiq.model, (images[:1],))
    layer = serfiq.model.get_submodule(serfiq.tap.locate(serfiq.model, (images,)))
    return layer, serfiq.masks.for_features(features.shape[1:], images.device)
