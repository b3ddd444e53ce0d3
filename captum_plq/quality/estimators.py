"""Estimators of SER-FIQ's quality, one class each.

To add one, derive a class from :class:`QualityEstimator`, name it in :data:`Estimator`, and make it
in :func:`make_estimator`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq._base.tracing import untraced
from captum_plq.errors import warn_caller
from captum_plq.functional import (
    PairAverage,
    quality_from_distance,
    quality_from_embeddings,
    quality_with_standard_error,
)
from captum_plq.functional.masks import BalancedMasks, DropoutMasks
from captum_plq.network.exploration import structure_of
from captum_plq.network.state import outside_inference, weights_state
from captum_plq.network.tap import EmbeddingTap
from captum_plq.quality.closed_form import ClosedForm, NotAffineError

__all__ = [
    "Assessment",
    "ClosedFormEstimator",
    "Estimator",
    "QualityEstimator",
    "Request",
    "Sampling",
    "make_estimator",
]

Estimator = Literal["sampling", "balanced", "closed-form"]
"""How the mean pairwise distance of Eq. 1 is estimated."""

_ELEMENTS_AT_A_TIME = 2**20
"""Stochastic embedding values compared at once: 4 MiB in float32."""


class Assessment(NamedTuple):
    """What one forward of a network tells about a batch of images.

    Args:

        embedding (Tensor): (B, ...), clean, under autograd.
        quality (Tensor): (B,), Q, in (0, 1].
        standard_error (Tensor or None): (B,), of Q, from the finite number of passes, in
            units of Q; 0 for the closed form, which draws none. ``None``: not asked for.
    """

    embedding: Tensor
    quality: Tensor
    standard_error: Tensor | None


class Request(NamedTuple):
    """What an estimator is asked.

    Args:

        tap (EmbeddingTap): Of the network's embedding layer.
        model (nn.Module): The network.
        inputs (tuple): Its arguments, images first, (B, ...).
        differentiable (bool): Keep the quality under autograd.
        standard_error (bool): Estimate the standard error of Q as well.
    """

    tap: EmbeddingTap
    model: nn.Module
    inputs: tuple[object, ...]
    differentiable: bool = False
    standard_error: bool = False


class QualityEstimator(ABC):
    """What an estimator has to offer."""

    fallback_reason: str | None = None
    """Why it cannot estimate on this network and samples instead; ``None``: it can, or was not
    tried."""

    @property
    @abstractmethod
    def sampling(self) -> Sampling:
        """The masks, and the options of sampling with them."""

    @abstractmethod
    def assess(self, request: Request) -> Assessment:
        """Return embedding, quality and standard error of B images."""

    def prepare(self, request: Request) -> None:  # noqa: B027 - most have nothing to prepare
        """Do now what the first call would do; nothing, unless a class says otherwise."""


@dataclass(frozen=True)
class Sampling(QualityEstimator):
    """The mean distance between m stochastic embeddings (Eq. 1).

    Args:

        masks (DropoutMasks): The m dropout patterns; in groups for ``"balanced"``.
        average (str): see :func:`~captum_plq.functional.mean_pairwise_distance`.
        normalize (bool): Scale the stochastic embeddings to unit length first.
        chunk_size (int, optional): Rows put through the embedding layer at a time.
    """

    masks: DropoutMasks
    average: PairAverage
    normalize: bool
    chunk_size: int | None

    @property
    def sampling(self) -> Sampling:
        """Itself."""
        return self

    def assess(self, request: Request) -> Assessment:
        """Assess a batch of images, see :class:`QualityEstimator`."""
        clean, stochastic = self.embeddings(request)
        if request.differentiable:
            return Assessment(clean, *self._quality(stochastic, request.standard_error))
        # A few images at a time: copies on the way stay small.
        images = max(1, _ELEMENTS_AT_A_TIME // max(1, stochastic[0].numel()))
        split = stochastic.detach().split(images)
        parts = [self._quality(x, request.standard_error) for x in split]
        errors = [error for _, error in parts if error is not None]
        quality = parts[0][0] if len(parts) == 1 else torch.cat([q for q, _ in parts])
        return Assessment(clean, quality, torch.cat(errors) if errors else None)

    def embeddings(self, request: Request) -> tuple[Tensor, Tensor]:
        """Return clean (B, ...) and stochastic (B, m, ...) embeddings."""
        tap, model, inputs, differentiable, _ = request
        return tap.run(
            model,
            inputs,
            self.masks,
            differentiable=differentiable,
            chunk_size=self.chunk_size,
        )

    def _quality(self, stochastic: Tensor, standard_error: bool) -> tuple[Tensor, Tensor | None]:
        estimate = quality_with_standard_error if standard_error else quality_from_embeddings
        found = estimate(
            stochastic.flatten(2),
            average=self.average,
            normalize=self.normalize,
            group_size=self.masks.group_size,
        )
        return (found[0], found[1].detach()) if isinstance(found, tuple) else (found, None)


class ClosedFormEstimator(QualityEstimator):
    """The value that sampling scatters around, where the network allows a closed form.

    The closed form is kept for the weights it was made of. Where there is none, sampling is used,
    and ``fallback_reason`` says why.

    Args:

        sampling (Sampling): What is estimated, and the fallback.
    """

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._form: ClosedForm | None = None
        self._failed_on: object = None

    @property
    def sampling(self) -> Sampling:
        """What is estimated."""
        return self._sampling

    def assess(self, request: Request) -> Assessment:
        """Assess a batch of images, see :class:`QualityEstimator`."""
        form = self._usable_form(request)
        if form is not None:
            clean, features, output = request.tap.features(request.model, request.inputs)
            if not request.differentiable:
                features, output = features.detach(), output.detach()
            mean = form.mean(output)
            if not form.agrees(clean, mean, partial(self._forget, form)):
                form = self._usable_form(request)
                mean = mean if form is None else form.mean(output)
        if form is None:
            return self._sampling.assess(request)
        distance = form.distance(features, mean)
        if self._sampling.average == "paper":  # what m passes would be expected to give
            passes = self._sampling.masks.passes
            distance = distance * ((passes - 1) / passes)
        quality = quality_from_distance(distance)
        error = torch.zeros_like(quality) if request.standard_error else None
        return Assessment(clean, quality, error)

    def prepare(self, request: Request) -> None:
        """Make the closed form, or find out that there is none."""
        self._usable_form(request)

    def _usable_form(self, request: Request) -> ClosedForm | None:
        """The closed form of the network as it is now; ``None``: sampling is to be used."""
        tap, model, inputs, *_ = request
        form = self._form
        if form is not None and form.holds_for(model, partial(self._forget, form)):
            return form
        state = (structure_of(model), weights_state(model))
        if self.fallback_reason is not None and self._failed_on == state:
            return None
        try:
            with torch.inference_mode(False), untraced():
                self._form = ClosedForm(
                    model, tap, outside_inference(inputs), self._sampling.masks.dropout
                )
                self.fallback_reason = None
        except NotAffineError as error:
            self._form, self.fallback_reason, self._failed_on = None, str(error), state
            warn_caller(f"No closed form on this network, sampling instead: {error}")
        return self._form

    def _forget(self, form: ClosedForm) -> None:
        if self._form is form:
            self._form = None


def make_estimator(
    name: Estimator,
    passes: int,
    dropout: float,
    seed: int,
    average: PairAverage,
    normalize: bool,
    chunk_size: int | None,
) -> QualityEstimator:
    """Make an estimator by name, with the arguments of :class:`~captum_plq.SERFIQ`.

    Raises:
        ValueError: as :class:`~captum_plq.SERFIQ`.
    """
    require_choice("estimator", name, Estimator)
    require_choice("average", average, PairAverage)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, but got {chunk_size!r}.")
    make_masks = BalancedMasks if name == "balanced" else DropoutMasks
    sampling = Sampling(make_masks(passes, dropout, seed), average, normalize, chunk_size)
    if name != "closed-form":
        return sampling
    if not normalize:
        raise ValueError("The closed form is that of unit-length embeddings: normalize=True.")
    return ClosedFormEstimator(sampling)
