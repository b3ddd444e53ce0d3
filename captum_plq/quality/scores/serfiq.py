"""SER-FIQ by each of its estimators, under the names of the registry."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from captum_plq.network.output import OutputSelector
from captum_plq.quality.serfiq import SERFIQ
from captum_plq.quality.spatial import SpatialSERFIQ

__all__ = ["balanced", "closed_form", "sampling", "spatial"]

Model = nn.Module | Callable[..., object]


def sampling(model: Model, *, output: OutputSelector = None) -> SERFIQ:
    """Return the paper's SER-FIQ."""
    return SERFIQ(model, output=output)


def balanced(model: Model, *, output: OutputSelector = None) -> SERFIQ:
    """Return SER-FIQ with passes in balanced groups."""
    return SERFIQ(model, estimator="balanced", output=output)


def closed_form(model: Model, *, output: OutputSelector = None) -> SERFIQ:
    """Return SER-FIQ without sampling, where the network allows that."""
    return SERFIQ(model, estimator="closed-form", output=output)


def spatial(model: Model, *, output: OutputSelector = None) -> SpatialSERFIQ:
    """Return SER-FIQ with dropout on the last spatial map, which local quality takes apart."""
    return SpatialSERFIQ(model, output=output)
