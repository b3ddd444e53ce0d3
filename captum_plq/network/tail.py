"""The embedding layer and what follows it as one affine map, where it is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from captum_plq._base.precision import at_least_float32
from captum_plq.network.embedding_layer import named_layer, slopes_of
from captum_plq.network.output import OutputSelector, executions_of, leaf_modules
from captum_plq.network.state import differentiable_copies

__all__ = ["AffineHead", "NotAffineError", "find_affine_head"]


class NotAffineError(ValueError):
    """The embedding is not an affine function of the embedding layer's input."""


@dataclass(frozen=True)
class AffineHead:
    """From the embedding layer's input to the embedding, up to a final normalisation.

    Args:

        layer (nn.Module): The embedding layer.
        tail (tuple[nn.Module, ...]): The modules that follow it, in order, those included that
            change no value.
        names (tuple[str, ...]): Qualified names of all of them.
    """

    layer: nn.Module
    tail: tuple[nn.Module, ...]
    names: tuple[str, ...]

    def fold(self) -> tuple[Tensor, Tensor]:
        """Fold layer and tail into one matrix and one vector.

        Returns:
            *tuple[Tensor, Tensor]*: weight (d, D) and bias (d,), detached, float32 or
            float64: the embedding is ``features.flatten(1) @ weight.T + bias``.
        """
        with torch.no_grad():
            weight, bias = _matrix(self.layer)
            return self._compose_tail(weight, bias)

    def fold_tail(self) -> tuple[Tensor, Tensor]:
        """Fold the tail alone.

        Returns:
            *tuple[Tensor, Tensor]*: weight (d, d') and bias (d,), as :meth:`fold`, for the
            layer's output (d',) in place of its input.
        """
        with torch.no_grad():
            weight, bias = _matrix(self.layer)
            return self._compose_tail(torch.eye(len(weight)).to(weight), torch.zeros_like(bias))

    def _compose_tail(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        for module in self.tail:
            if not _is_identity_at_eval(module):
                weight, bias = _compose(module, weight, bias)
        return weight, bias

    def values(self) -> list[Tensor]:
        """Return tensors that tell whether weights have changed; all but W in full.

        Of the layer's matrix W, which may be large, its product with a fixed random vector. (Data
        pointers and versions do not tell: ``weight.data.normal_()`` changes neither.)
        """
        weight, bias = self.layer.weight, self.layer.bias
        assert isinstance(weight, Tensor)
        with torch.no_grad():
            matrix = at_least_float32(weight).flatten(1)
            generator = torch.Generator("cpu").manual_seed(0)
            probe = torch.randn(len(matrix), generator=generator, device="cpu").to(matrix)
            rest = [x for m in self.tail for x in (*m.parameters(), *m.buffers())]
            own = [bias] if isinstance(bias, Tensor) else []
            return [probe @ matrix, *(x.detach().clone() for x in (*own, *rest))]


def find_affine_head(
    model: nn.Module, name: str, inputs: Sequence[object], output: OutputSelector = None
) -> AffineHead:
    """Find the modules that lie between the embedding layer and the embedding.

    By running the model once. Functional calls cannot be seen; compare the fold with the
    model's own embeddings. Modules that the embedding does not depend on (another head, for
    quality) are left out.

    Args:

        model (nn.Module): A copy of the network, see :func:`~captum_plq.network.borrowed.borrowed`.
        name (str): Qualified name of the embedding layer.
        inputs (sequence): The model's arguments.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, see :func:`~captum_plq.network.output.select_embedding`.

    Returns:
        *AffineHead*: layer and tail.

    Raises:
        NotAffineError: if one of them is not a linear layer, a BatchNorm with fixed
            statistics, or something that changes no value.
    """
    layer = named_layer(model, name)
    with torch.enable_grad():
        leaves = differentiable_copies(inputs)
        ran, embedding = executions_of(model, leaf_modules(model, name), leaves, output)
        slopes = slopes_of(embedding, [x.output for x in ran])
    place = [x.layer for x in ran].index(layer)
    tail = [x for x, y in zip(ran[place + 1 :], slopes[place + 1 :], strict=True) if y is not None]
    head = AffineHead(layer, tuple(x.layer for x in tail), (name, *(x.name for x in tail)))
    head.fold()
    return head


def _is_identity_at_eval(module: nn.Module) -> bool:
    return isinstance(module, (nn.Identity, nn.Flatten, _DropoutNd))


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
