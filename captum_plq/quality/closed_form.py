"""The closed-form estimate of SER-FIQ's distance on a given network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.functional import mean_pairwise_distance
from captum_plq.functional.closed_form import NoiseMap, expected_pairwise_distance, noise_map
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import original_of
from captum_plq.network.exploration import first_images
from captum_plq.network.tail import AffineHead, NotAffineError, find_affine_head
from captum_plq.network.tap import EmbeddingTap

__all__ = ["ClosedForm"]

_PROBES = 8
_COLUMNS = 2048
"""Columns of the layer from which the small terms are extrapolated, if it has more."""
_CHECK_PASSES = 200
_CHECK_IMAGES = 4
_TOLERANCE = 0.03


class _Folded(NamedTuple):
    """A folded head: the noise map of all of it, and the tail as a matrix or its diagonal."""

    noise: NoiseMap
    tail: Tensor
    shift: Tensor


class ClosedForm:
    """The closed form of a network's embedding layer and tail, checked against sampling.

    It holds for the weights that it was made of; :meth:`holds_for` tells whether they are still
    the same.

    Args:

        model (nn.Module): The network.
        tap (EmbeddingTap): Of its embedding layer.
        inputs (sequence): Arguments of the model to check with, images first, (B, ...).
        dropout (float): p.

    Raises:
        NotAffineError: if the embedding is not, up to its length, an affine function of the
            embedding layer's input, or if closed form and sampling disagree by more than 3 %
            beyond the error of the sampling.
    """

    def __init__(
        self, model: nn.Module, tap: EmbeddingTap, inputs: Sequence[object], dropout: float
    ) -> None:
        self._dropout = dropout
        model, inputs = original_of(model), first_images(inputs, _CHECK_IMAGES)
        head = tap.examine(model, inputs, find_affine_head)
        self._names = head.names
        with torch.inference_mode(False), torch.no_grad():
            self._values = head.values()
            self._folded = _fold(head)
            self._check(head, model, tap, inputs)

    def holds_for(self, model: nn.Module) -> bool:
        """Tell whether the modules and weights that were folded are still the model's."""
        try:
            layer, *tail = (model.get_submodule(name) for name in self._names)
        except AttributeError:
            return False
        if not isinstance(getattr(layer, "weight", None), Tensor):
            return False
        now = AffineHead(layer, tuple(tail), self._names).values()
        return len(now) == len(self._values) and all(
            a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
            for a, b in zip(now, self._values, strict=True)
        )

    def agrees(self, embedding: Tensor, output: Tensor) -> bool:
        """Tell whether the folded tail still gives the network's own embeddings.

        It does not if something changed that is no tensor: a method, a hook, an ``eps``.

        Args:

            embedding (Tensor): (B, ...), clean.
            output (Tensor): (B, ...), the embedding layer's output.
        """
        with torch.no_grad():
            e, mean = embedding.flatten(1), self._mean(output)
            usable = torch.isfinite(e).all(1) & (e != 0).any(1)
            apart = F.normalize(mean, dim=1) - F.normalize(e.to(mean.dtype), dim=1)
            tolerance = 3e-2 if embedding.dtype.itemsize < 4 else 1e-3
            return not bool((apart[usable].abs() > tolerance).any())

    def _mean(self, output: Tensor) -> Tensor:
        _, tail, shift = self._folded
        with torch.autocast(output.device.type, enabled=False):
            mean = output.flatten(1).to(shift.dtype)
            return mean * tail + shift if tail.ndim == 1 else torch.addmm(shift, mean, tail.T)

    def distance(self, features: Tensor, output: Tensor) -> Tensor:
        """Return the expected pairwise distance of the unit-length stochastic embeddings.

        Args:

            features (Tensor): (B, ...), the embedding layer's input.
            output (Tensor): (B, ...), the embedding layer's output.

        Returns:
            *Tensor*: (B,), differentiable with respect to ``features`` and ``output``.
        """
        mean = self._mean(output)
        return expected_pairwise_distance(
            features.flatten(1), mean, self._folded.noise, self._dropout
        )

    def _check(
        self, head: AffineHead, model: nn.Module, tap: EmbeddingTap, inputs: Sequence[object]
    ) -> None:
        masks = DropoutMasks(_CHECK_PASSES, self._dropout)
        _, features, output = tap.features(model, inputs)
        _, stochastic = tap.run(model, inputs, masks)
        weight, bias = (x.to(features.device) for x in head.fold())
        flat = features.flatten(1)
        if weight.shape[1] != flat.shape[1]:
            raise NotAffineError("The embedding layer is a convolution that slides.")
        kept = masks.for_features(features.shape[1:], features.device).flatten(1)
        masked = (flat.unsqueeze(1) * kept * masks.scale).to(weight.dtype)
        folded = F.normalize(masked @ weight.T + bias, dim=-1)
        actual = F.normalize(stochastic.flatten(2).to(folded.dtype), dim=-1)
        half = stochastic.dtype.itemsize < 4
        if folded.shape != actual.shape or (folded - actual).abs().max() > (3e-2 if half else 1e-3):
            raise NotAffineError(
                "Something that is not affine follows the embedding layer in the model's code."
            )
        quarters = mean_pairwise_distance(actual.unflatten(1, (4, -1)), "pairs")
        sampled, error = quarters.mean(1), quarters.std(1) / 2
        expected = self.distance(features, output)
        if ((sampled - expected).abs() > _TOLERANCE * sampled + 4 * error).any():
            worst = float(((sampled - expected).abs() / sampled).max())
            raise NotAffineError(
                f"Closed form and {_CHECK_PASSES} sampled passes disagree by {worst:.1%}: the "
                "noise has too few independent directions for a second-order expansion."
            )


def _fold(head: AffineHead) -> _Folded:
    weight = head.fold()[0]
    tail, shift = head.fold_tail()
    # Fixed draws: the estimate is the same on every call and every machine.
    generator = torch.Generator("cpu").manual_seed(0)
    coins = torch.randint(2, (len(weight), _PROBES), generator=generator, device="cpu")
    sample = None
    if weight.shape[1] > _COLUMNS:
        shuffled = torch.randperm(weight.shape[1], generator=generator, device="cpu")
        sample = shuffled[:_COLUMNS].sort().values.to(weight.device)
    noise = noise_map(weight, probes=2 * coins - 1, sample=sample)
    diagonal = tail.diagonal()  # all there is to a BatchNorm, or to no tail
    if torch.equal(tail, diagonal.diag()):
        tail = diagonal.clone()
    return _Folded(noise, tail, shift)
