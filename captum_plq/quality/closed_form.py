"""The closed-form estimate of SER-FIQ's distance on a given network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from captum_plq._base.late import holds
from captum_plq._base.precision import at_least_float32
from captum_plq.functional import mean_pairwise_distance
from captum_plq.functional.closed_form import NoiseMap, expected_pairwise_distance, noise_map
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import original_of
from captum_plq.network.embedding_layer import named_layer, slopes_of
from captum_plq.network.exploration import first_images
from captum_plq.network.independence import largest_of_each
from captum_plq.network.output import executions_of, leaf_modules
from captum_plq.network.state import differentiable_copies, undisturbed
from captum_plq.network.tap import EmbeddingTap

__all__ = ["ClosedForm", "NotAffineError", "affine_head"]

_PROBES = 8
_COLUMNS = 2048
"""Columns of the layer from which the small terms are extrapolated, if it has more."""
_CHECK_PASSES = 200
_CHECK_IMAGES = 4
_TOLERANCE = 0.03


class NotAffineError(ValueError):
    """The embedding is not an affine function of the embedding layer's input."""


def affine_head(
    model: nn.Module, tap: EmbeddingTap, inputs: Sequence[object]
) -> dict[str, nn.Module]:
    """Find the embedding layer and the modules between it and the embedding.

    By running a copy of the model once. Functional calls cannot be seen; compare the fold with the
    model's own embeddings. Modules that the embedding does not depend on (another head, for
    quality) are left out.

    Args:

        model (nn.Module): The network.
        tap (EmbeddingTap): Of its embedding layer.
        inputs (sequence): The model's arguments.

    Returns:
        *dict[str, nn.Module]*: by name, in order, the layer first; modules of the copy, which
        share the model's weights.

    Raises:
        NotAffineError: if one of them is not a linear layer, a BatchNorm with fixed
            statistics, or something that changes no value.
    """
    name = tap.locate(model, inputs)
    with undisturbed(model, inputs) as network, torch.enable_grad():
        leaves, watched = differentiable_copies(inputs), leaf_modules(network, name)
        ran, embedding = executions_of(network, watched, leaves, tap.output)
        slopes = slopes_of(embedding, [x.output for x in ran])
        layer = named_layer(network, name)
    used = [x for x, slope in zip(ran, slopes, strict=True) if slope is not None]
    tail = used[[x.layer for x in used].index(layer) + 1 :]
    head = {name: layer, **{x.name: x.layer for x in tail}}
    with torch.no_grad():
        _composed((x.layer for x in tail), *_matrix(layer))
    return head


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
        head = affine_head(model, tap, inputs)
        self._names, modules = tuple(head), tuple(head.values())
        with torch.inference_mode(False), torch.no_grad():
            tensors = _tensors(modules)
            self._kinds = [(x.shape, x.dtype, x.device) for x in tensors]
            self._probe = _probe(tensors[0])
            self._weights = _summary(tensors, self._probe)
            self._folded = _fold(modules)
            self._check(modules, model, tap, inputs)

    def holds_for(self, model: nn.Module, forget: Callable[[], None]) -> bool:
        """Tell whether the modules and weights that were folded are still the model's.

        Args:

            model (nn.Module): The network.
            forget (Callable): Is called if the weights turn out to be others, be it at the end of
                the call, see :func:`~captum_plq._base.late.holds`.
        """
        try:
            modules = [model.get_submodule(name) for name in self._names]
        except AttributeError:
            return False
        if not isinstance(getattr(modules[0], "weight", None), Tensor):
            return False
        tensors = _tensors(modules)
        if [(x.shape, x.dtype, x.device) for x in tensors] != self._kinds:
            return False
        with torch.no_grad():
            changed = torch.ne(_summary(tensors, self._probe), self._weights).any()
        return holds((changed,), lambda numbers: not numbers[0], forget)

    def agrees(self, embedding: Tensor, mean: Tensor, forget: Callable[[], None]) -> bool:
        """Tell whether the folded tail still gives the network's own embeddings.

        It does not if something changed that is no tensor: a method, a hook, an ``eps``.

        Args:

            embedding (Tensor): (B, ...), clean.
            mean (Tensor): (B, d), of :meth:`mean`.
            forget (Callable): As for :meth:`holds_for`.
        """
        with torch.no_grad():
            both = torch.stack([mean, embedding.flatten(1).to(mean.dtype)])
            one, other = F.normalize(both, dim=-1)
            apart = one - other
        tolerance = 3e-2 if embedding.dtype.itemsize < 4 else 1e-3
        # NaN, of an embedding that is not finite, tells nothing.
        return holds(
            (largest_of_each(apart),),
            lambda numbers: not any(x > tolerance for x in numbers),
            forget,
        )

    def mean(self, output: Tensor) -> Tensor:
        """Return the folded embedding (B, d) for the embedding layer's output (B, ...)."""
        _, tail, shift = self._folded
        with torch.autocast(output.device.type, enabled=False):
            mean = output.flatten(1).to(shift.dtype)
            return mean * tail + shift if tail.ndim == 1 else torch.addmm(shift, mean, tail.T)

    def distance(self, features: Tensor, mean: Tensor) -> Tensor:
        """Return the expected pairwise distance of the unit-length stochastic embeddings.

        Args:

            features (Tensor): (B, ...), the embedding layer's input.
            mean (Tensor): (B, d), of :meth:`mean`.

        Returns:
            *Tensor*: (B,), differentiable with respect to ``features`` and ``mean``.
        """
        return expected_pairwise_distance(
            features.flatten(1), mean, self._folded.noise, self._dropout
        )

    def _check(
        self,
        head: Sequence[nn.Module],
        model: nn.Module,
        tap: EmbeddingTap,
        inputs: Sequence[object],
    ) -> None:
        masks = DropoutMasks(_CHECK_PASSES, self._dropout)
        _, features, output = tap.features(model, inputs)
        _, stochastic = tap.run(model, inputs, masks)
        weight, bias = (x.to(features.device) for x in _composed(head[1:], *_matrix(head[0])))
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
        expected = self.distance(features, self.mean(output))
        if ((sampled - expected).abs() > _TOLERANCE * sampled + 4 * error).any():
            worst = float(((sampled - expected).abs() / sampled).max())
            raise NotAffineError(
                f"Closed form and {_CHECK_PASSES} sampled passes disagree by {worst:.1%}: the "
                "noise has too few independent directions for a second-order expansion."
            )


def _fold(head: Sequence[nn.Module]) -> _Folded:
    own, bias = _matrix(head[0])
    weight, _ = _composed(head[1:], own, bias)
    tail, shift = _composed(head[1:], torch.eye(len(own)).to(own), torch.zeros_like(bias))
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


def _tensors(head: Sequence[nn.Module]) -> list[Tensor]:
    """Return the numbers that a folded head is made of, the layer's matrix W first."""
    weight, bias = head[0].weight, head[0].bias
    assert isinstance(weight, Tensor)
    rest = [x for m in head[1:] for x in (*m.parameters(), *m.buffers()) if x.is_floating_point()]
    return [weight, *([bias] if isinstance(bias, Tensor) else []), *rest]


def _probe(weight: Tensor) -> Tensor:
    """Return a fixed random vector, to be multiplied with W."""
    generator = torch.Generator("cpu").manual_seed(0)
    probe = torch.randn(len(weight), generator=generator, device="cpu")
    return probe.to(at_least_float32(weight[:0].detach()))


def _summary(tensors: Sequence[Tensor], probe: Tensor) -> Tensor:
    """Return numbers that tell whether weights have changed: all but the matrix W in full.

    Of W, which may be large, its product with a fixed random vector. (Data pointers and versions
    do not tell: ``weight.data.normal_()`` changes neither.)
    """
    weight, *rest = tensors
    with torch.autocast(weight.device.type, enabled=False):
        product = probe @ at_least_float32(weight).flatten(1)
    return torch.cat([product, *(x.flatten().to(product) for x in rest)])


def _composed(tail: Iterable[nn.Module], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """An affine map and the modules that follow it, as one matrix and one vector."""
    for module in tail:
        if not isinstance(module, (nn.Identity, nn.Flatten, _DropoutNd)):
            weight, bias = _compose(module, weight, bias)
    return weight, bias


def _matrix(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """A linear layer, or a convolution that covers its whole input, as (d, D) and (d,)."""
    if not isinstance(layer, (nn.Linear, _ConvNd)) or getattr(layer, "transposed", False):
        raise NotAffineError(f"The embedding layer is a {type(layer).__name__}.")
    if "weight" in vars(layer):  # not a parameter: nothing tells of its changes between forwards
        raise NotAffineError(
            "A weight is computed by a hook (torch.nn.utils.weight_norm, spectral_norm, prune)."
        )
    blocks = at_least_float32(layer.weight).flatten(1)
    groups = layer.groups if isinstance(layer, _ConvNd) else 1
    weight = torch.block_diag(*blocks.chunk(groups)) if groups > 1 else blocks
    bias = weight.new_zeros(len(weight)) if layer.bias is None else at_least_float32(layer.bias)
    return weight, bias


def _compose(module: nn.Module, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(module, nn.Linear):
        second, offset = _matrix(module)
        return second @ weight, second @ bias + offset
    if isinstance(module, _BatchNorm) and module.running_mean is not None:
        mean, variance = at_least_float32(module.running_mean), at_least_float32(module.running_var)  # type: ignore[arg-type]
        factor = (variance + module.eps).rsqrt()
        if module.affine:
            factor = factor * at_least_float32(module.weight)
        shift = -mean * factor
        if module.affine:
            shift = shift + at_least_float32(module.bias)
        return factor.unsqueeze(1) * weight, factor * bias + shift
    raise NotAffineError(f"A {type(module).__name__} follows the embedding layer.")
