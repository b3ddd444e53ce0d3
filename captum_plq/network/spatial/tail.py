"""What follows a network's last spatial map, as one affine map: exactly, or at each image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_plq._base.late import holds
from captum_plq._base.precision import at_least_float32, dot
from captum_plq._base.tracing import never_compiled
from captum_plq.functional.directions import signs_on
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.network.borrowed import borrowed
from captum_plq.network.exploration import first_images, structure_of
from captum_plq.network.independence import refuse_not_finite, refuse_zeros
from captum_plq.network.lender import Lender
from captum_plq.network.output import OutputSelector
from captum_plq.network.spatial.map import (
    Forward,
    Place,
    SpatialTailError,
    cut_at,
    estimated_norms,
    find_spatial_map,
    slopes_along,
    tolerance,
    wide_map,
)
from captum_plq.network.state import eager, outside_inference, unnoticed, weights_state

__all__ = ["SpatialRun", "SpatialTail"]

_CHECK_PASSES = 32
_LARGEST_GAP = 0.25
"""Of the trace of a linearised tail's noise; half of it, about, of the distance of Eq. 1."""
_LEAST_ROUNDING = 1e-6
_MARGIN = 50
"""How much more than on the first images the slopes may be off by rounding."""


class SpatialRun(NamedTuple):
    r"""One forward of a network, cut at its last spatial map.

    Args:

        features (Tensor): (B, C, H, W), a, the map.
        slopes (Tensor): (B, C, H, W), :math:`J^\top e`.
        evidence (Tensor): (B, H, W), the sum of both's product over the channels.
        embedding (Tensor): (B, d), e, before any normalisation.
        squared_norms (Tensor): (C, H, W), or (B, C, H, W) of a linearised tail, of J's columns.
        offset (Tensor): (B,), e·b.
    """

    features: Tensor
    slopes: Tensor
    evidence: Tensor
    embedding: Tensor
    squared_norms: Tensor
    offset: Tensor


@dataclass(frozen=True)
class _Tail:
    """What was found of a network as it was."""

    structure: int
    features: Place
    embedding: Place | None

    def holds_for(self, model: nn.Module, structure: int) -> bool:
        """Tell whether the modules are still the same."""
        return self.structure == structure


@dataclass(frozen=True)
class _Affine(_Tail):
    """``e = J a + b`` for all images."""

    shape: torch.Size
    """Of the map of an image, as the network has it."""
    squared_norms: Tensor
    signs: Tensor
    """(C, H, W), the slopes times these are added up over the channels of a place."""
    sums: Tensor
    """(d, places + 1): these sums along each component of e, and b."""
    width: float
    """The length of the largest column of these, but for b."""
    rounding: float
    """By how much a sum along e may be off, relative to the width times the length of e."""
    gap: float = 0.0


@dataclass(frozen=True)
class _Linearised(_Tail):
    """``e = J a + b`` at each image, with its own J and b."""

    gap: float
    weights: object

    def holds_for(self, model: nn.Module, structure: int) -> bool:
        """Tell whether modules and weights are still the same; no run tells of the gap."""
        return super().holds_for(model, structure) and self.weights == weights_state(model)


class SpatialTail:
    """Finds a network's last spatial map, and runs the network cut at it.

    The last spatial map is the last tensor (B, C, H, W) of more than one place, or (B, N, C) of a
    square number of tokens, that the embedding depends on; class and register tokens in front of
    these are left out if nothing of them reaches the embedding. Where what follows it is affine
    (flattening, pooling, linear layers, BatchNorm), J and b are measured once. Each call tells
    whether they still hold: at each image, the slopes along e, added up over a place's channels
    with fixed random signs, have to be those that J gives for e, and the squared length of e is
    the sum of all places and e·b.
    Where it is not affine (a normalisation of each image), it is linearised at each image, and
    :attr:`gap` says how far that is off.

    Args:

        output (int, str, Callable or None): Which part of the model's output is the embedding,
            see :func:`~captum_plq.network.output.select_embedding`.
    """

    def __init__(self, output: OutputSelector = None) -> None:
        self.output = output
        self._tail: _Affine | _Linearised | None = None
        self._lender = Lender()
        self._lender_for_rows = Lender(frozen=True)

    @property
    def layer_name(self) -> str | None:
        """Name of the module that gives, or takes, the last spatial map, once it was found."""
        return None if self._tail is None else self._tail.features.module

    @property
    def centres(self) -> PlaceCentres | None:
        """Where the places of the map lie in the image, once it was found; ``None``: not known."""
        return None if self._tail is None else self._tail.features.centres

    @property
    def gap(self) -> float | None:
        """By how much the linearised noise differs from sampled noise, relative to it.

        0 where what follows the map is affine; ``None`` before the first call.
        """
        return None if self._tail is None else self._tail.gap

    @never_compiled
    def run(
        self,
        model: nn.Module,
        inputs: Sequence[object],
        dropout: float = 0.5,
        forward: Forward | None = None,
    ) -> SpatialRun:
        """Run the network once, and what follows the map some times backwards.

        Args:

            model (nn.Module): The network, which is left as it is.
            inputs (sequence): Its arguments, images first, (B, ...).
            dropout (float): The rate that a linearisation has to hold for.
            forward (Callable, optional): Runs the copy of the network that has the hooks, and may
                put further rows behind the map, those of an image next to each other, its own
                first. ``None``: it is just run.

        Returns:
            *SpatialRun*: detached.

        Raises:
            SpatialTailError: if there is no spatial map, or the embedding is not, even nearly, an
                affine function of it.
        """
        with torch.inference_mode(False), eager():
            given = [x.detach() if isinstance(x, Tensor) else x for x in outside_inference(inputs)]
            answer = self._known(model, given, forward)
            for affine in (True, False):
                if answer is None:
                    with unnoticed(given):
                        tail = self._tail = _explore(model, given, self.output, dropout, affine)
                    answer = self._known(model, given, forward)
        if answer is None:
            raise SpatialTailError(
                f"What follows {tail.features.module!r} is another map each time it runs, so there "
                "is no quality to be divided over places."
            )
        return answer

    def _known(
        self, model: nn.Module, inputs: Sequence[object], forward: Forward | None
    ) -> SpatialRun | None:
        """``None``: no tail is known of the network as it is now."""
        lender = self._lender if forward is None else self._lender_for_rows
        with lender.lend(model) as (network, structure):
            tail = self._tail
            if tail is None or not tail.holds_for(model, structure):
                return None
            return _run(network, inputs, self.output, tail, forward, partial(self._forget, tail))

    def _forget(self, tail: _Affine | _Linearised) -> None:
        if self._tail is tail:
            self._tail = None


def _run(
    network: nn.Module,
    inputs: Sequence[object],
    output: OutputSelector,
    tail: _Affine | _Linearised,
    forward: Forward | None,
    forget: Callable[[], None],
) -> SpatialRun | None:
    """``None``: the tail is no longer the one that was found, and has been forgotten."""
    map_, e, turned = cut_at(
        network, inputs, output, tail.features, tail.embedding, forward=forward
    )
    share = tolerance(map_)
    if turned is not None and not holds(
        (turned,), lambda numbers: not numbers[0] > tolerance(e), forget
    ):
        return None
    mean, features = at_least_float32(e.detach()), wide_map(map_.detach(), tail.features)
    if isinstance(tail, _Linearised):
        squared = wide_map(estimated_norms(e, map_), tail.features)
        slopes = wide_map(slopes_along(e, map_, e.detach()), tail.features)
        evidence = dot(features, slopes, dim=1)
        offset = mean.square().sum(1) - evidence.sum((1, 2))
        return SpatialRun(features, slopes, evidence, mean, squared, offset)
    if map_.shape[1:] != tail.shape or e.shape[1] != len(tail.sums):
        forget()
        return None
    slopes = wide_map(slopes_along(e, map_, e.detach()), tail.features)
    apart, offset = _compared(slopes, tail.signs.to(slopes), mean, tail.sums.to(mean))
    evidence, length = dot(features, slopes, dim=1), dot(mean, mean)
    missing = length - evidence.sum((1, 2)) - offset
    halved = min(map_.dtype.itemsize, e.dtype.itemsize) < 4  # as autocast does, at any time
    close = tail.width * (max(share, tolerance(e)) if halved else tail.rounding)

    def still(numbers: list[float]) -> bool:
        parts = (numbers[i :: len(mean)] for i in range(len(mean)))  # of each image
        return all(
            not math.isfinite(whole)
            or (abs(off) <= share * whole and wrong <= close * math.sqrt(whole))
            for whole, off, wrong in parts
        )

    if not holds((length, missing, apart), still, forget):
        return None
    norms = tail.squared_norms.to(map_.device)
    return SpatialRun(features, slopes, evidence, mean, norms, offset)


def _compared(slopes: Tensor, signs: Tensor, mean: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return by how much an image's sums over a place's channels are off, at most, and e·b."""
    found = dot(slopes, signs, dim=1).flatten(1)
    expected = dot(mean.unsqueeze(2), sums, dim=1)
    wrong = found - expected.narrow(1, 0, found.shape[1])
    return torch.linalg.vector_norm(wrong, math.inf, dim=1), expected.select(1, -1)


def _explore(
    model: nn.Module,
    inputs: Sequence[object],
    output: OutputSelector,
    dropout: float,
    may_be_affine: bool,
) -> _Affine | _Linearised:
    inputs = first_images(inputs, 2)
    tail = _Tail(structure_of(model), *find_spatial_map(model, inputs, output))

    def run(replacement: Tensor | None = None, changed: bool = False) -> tuple[Tensor, Tensor]:
        arguments = list(inputs)
        if changed and isinstance(arguments[0], Tensor):
            arguments[0] = 0.8 * arguments[0].flip(-1)
        network, places = borrowed(model), (tail.features, tail.embedding)
        return cut_at(network, arguments, output, *places, replacement)[:2]

    map_, e = run()
    refuse_not_finite(e.detach())
    refuse_zeros(e.detach())
    other, expected = run(changed=True)
    scale = e.detach().abs().max() * tolerance(map_)
    end = run(other)[1]
    if bool((end - expected).detach().abs().max() > scale):
        raise SpatialTailError(
            f"The embedding does not depend on the spatial map at {tail.features.module!r} alone: "
            "another path leads past it."
        )
    ahead = run(2 * other.detach() - map_.detach())[1]
    bias = run(torch.zeros_like(other))[1]
    half = run(map_.detach() / 2)[1]
    bends = [ahead - (2 * end - e), half - (e + bias) / 2]
    affine = all(bool(bend.detach().abs().max() <= scale) for bend in bends)
    if not affine or not may_be_affine:
        return _linearised(tail, model, map_, e, run, dropout)
    squared = torch.zeros_like(wide_map(map_[:1].detach(), tail.features)[0])
    signs = signs_on(1, tuple(squared.shape), 0, squared.device)[0].to(squared)
    rows = []
    for row in torch.eye(e.shape[1]).to(e):
        slopes = wide_map(slopes_along(e[:1], map_, row)[:1], tail.features)[0]
        squared += slopes.square()
        rows.append((slopes * signs).sum(0).flatten())
    sums = torch.stack(rows)
    width = max(float(sums.norm(dim=0).max()), 1e-30)
    sums = torch.column_stack([sums, at_least_float32(bias[0].detach())])
    mean = at_least_float32(e.detach())
    slopes = wide_map(slopes_along(e, map_, e.detach()), tail.features)
    off = float((_compared(slopes, signs, mean, sums)[0] / mean.norm(dim=1)).max()) / width
    rounding = max(_LEAST_ROUNDING, min(tolerance(map_), _MARGIN * off))
    found = (map_.shape[1:], squared, signs, sums, width, rounding)
    return _Affine(tail.structure, tail.features, tail.embedding, *found)


def _linearised(
    tail: _Tail,
    model: nn.Module,
    map_: Tensor,
    e: Tensor,
    run: Callable[..., tuple[Tensor, Tensor]],
    dropout: float,
) -> _Linearised:
    """A tail linearised at each image, held against sampled dropout of the map."""
    features, mean = map_.detach(), at_least_float32(e.detach())
    norms = estimated_norms(e, map_)
    rate = dropout / (1 - dropout)
    expected = rate * (at_least_float32(features).square() * norms).flatten(1).sum(1)
    generator = torch.Generator("cpu").manual_seed(0)
    total = torch.zeros_like(expected)
    for _ in range(_CHECK_PASSES):
        kept = torch.rand(features.shape[1:], generator=generator, device="cpu") >= dropout
        stochastic = run(features * kept.to(features) / (1 - dropout))[1]
        total += (at_least_float32(stochastic.detach()) - mean).square().sum(1)
    sampled = total / _CHECK_PASSES
    gap = float(((expected - sampled).abs() / sampled).max())
    if not gap <= _LARGEST_GAP:
        raise SpatialTailError(
            f"The embedding is no affine function of the last spatial map, at "
            f"{tail.features.module!r}, and linearised at an image its noise is off by {gap:.0%}. "
            "Its quality can be divided over places only where what follows the map is affine, or "
            f"off by less than {_LARGEST_GAP:.0%}."
        )
    state = weights_state(model)
    return _Linearised(tail.structure, tail.features, tail.embedding, gap, state)
