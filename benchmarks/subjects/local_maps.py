"""Signed maps that are no gradients: local quality, and the distance from eigenfaces."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.subjects.methods import Attribute, Build
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import SpatialSERFIQ
from captum_plq.functional.enlargement import enlarge, interpolate
from captum_plq.functional.guided import guided_by_image
from captum_plq.functional.local import (
    LocalReference,
    PlaceShares,
    local_quality,
    local_reference,
    local_zscore,
)

_BOX = 5


def local(network: ExplainedNetwork) -> Attribute:
    """Return local quality against the better half of the reference faces, in units of Q."""
    spatial, shares = _shares(network)
    reference = _reference(network, shares)

    def explain(images: Tensor) -> Tensor:
        maps, _ = local_quality(shares(images), reference.snr)
        size = (images.shape[-2], images.shape[-1])
        return enlarge(maps, size, spatial.tail.centres).to(images.dtype)

    return explain


def local_z(network: ExplainedNetwork) -> Attribute:
    """Return local quality in standard deviations of these faces at each place."""
    spatial, shares = _shares(network)
    reference = _reference(network, shares)

    def explain(images: Tensor) -> Tensor:
        maps = local_zscore(shares(images), reference)
        size = (images.shape[-2], images.shape[-1])
        return interpolate(maps, size, spatial.tail.centres).to(images.dtype)

    return explain


def guided(build: Build) -> Build:
    """Return a map whose outlines follow those of the image."""

    def guided_map(network: ExplainedNetwork) -> Attribute:
        explain = build(network)
        return lambda images: guided_by_image(explain(images), images)

    return guided_map


def eigenface(network: ExplainedNetwork) -> Attribute:
    """Return minus the distance from a reconstruction by reference faces; no network is asked.

    The basis are the first 64 principal components (with fewer than 128 faces, half as many as
    these) of the RGB images.
    """
    faces = network.eigenfaces

    def explain(images: Tensor) -> Tensor:
        rest = (images - faces.reconstructed(images)).abs().mean(1, keepdim=True)
        return -F.avg_pool2d(rest, _BOX, 1, _BOX // 2, count_include_pad=False)[:, 0]

    return explain


def _shares(
    network: ExplainedNetwork,
) -> tuple[SpatialSERFIQ, Callable[[Tensor], PlaceShares]]:
    spatial = SpatialSERFIQ(network.model, dropout=network.dropout)
    return spatial, lambda images: network.once("shares", images, lambda: spatial.shares(images))


def _reference(
    network: ExplainedNetwork, shares: Callable[[Tensor], PlaceShares]
) -> LocalReference:
    def of_reference() -> LocalReference:
        parts = [shares(part) for part in network.reference_batches()]
        better = network.better_reference
        return local_reference(
            PlaceShares(*(torch.cat(own)[better] for own in zip(*parts, strict=True)))
        )

    return network.kept("local reference", of_reference)
