"""PreFIQs-style quality: how far the embedding stays where it is when the network is pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_plq._base.choices import require_choice
from captum_plq.functional import unit_length
from captum_plq.network.borrowed import modules_of, original_of, with_weights
from captum_plq.network.exploration import structure_of
from captum_plq.network.output import OutputSelector, embed
from captum_plq.network.state import weights_state
from captum_plq.quality.scores.base import Score, UnsuitableNetworkError

__all__ = ["PreFIQsStyle", "Scope", "pruned_by_magnitude"]

Scope = Literal["network", "layer"]
"""Over what weights are ranked: those of all layers together, or of each by itself."""


class PreFIQsStyle(Score):
    r"""Minus the distance that pruning moves the unit-length embedding, after PreFIQs.

    Kolf et al., "PreFIQs: Face Image Quality Is What Survives Pruning", arXiv:2605.13396, 2026.
    With :math:`e` of the network and :math:`e'` of the same network without its smallest weights,

    .. math:: Q = -\bigl\lVert e / \lVert e \rVert - e' / \lVert e' \rVert \bigr\rVert_2.

    Written from the paper's abstract; not checked against its text: how many weights it removes, by
    which rule, and in which layers. Here: the share ``sparsity`` of smallest magnitude of the
    weights of linear and convolution layers. Two forwards.

    The pruned weights are kept as long as the network's stay the same. A change through ``.data``
    is not noticed: make a new object then.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        sparsity (float): Share of weights that are set to 0, in (0, 1). Default: 0.3.
        scope (str): ``"network"``, the default: of all weights together; ``"layer"``: of each
            layer's.
        output (int, str, Callable or None): Which part of the output is the embedding.

    Raises:
        ValueError: if ``sparsity`` or ``scope`` is out of range.
        UnsuitableNetworkError: if the network has no linear or convolution layer.

    Examples::

        >>> quality = PreFIQsStyle(model)(images)  # (B, 3, 112, 112) -> (B,), in [-2, 0]
    """

    differentiable: bool = True
    needs: str = "linear or convolution layers"

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        sparsity: float = 0.3,
        scope: Scope = "network",
        output: OutputSelector = None,
    ) -> None:
        super().__init__(model, output=output)
        require_choice("scope", scope, Scope)
        if not 0 < sparsity < 1:
            raise ValueError(f"sparsity must lie between 0 and 1, but is {sparsity}.")
        self.sparsity = sparsity
        self.scope: Scope = scope
        self._kept = _Kept()

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings."""
        model = original_of(self.model)
        embedding = embed(network, inputs, self.output)
        sparse = embed(with_weights(model, self._pruned(model)), inputs, self.output)
        moved = unit_length(embedding.flatten(1)) - unit_length(sparse.flatten(1))
        lost = (sparse.detach() == 0).flatten(1).all(1)  # no direction, so no distance
        return -moved.norm(dim=1).masked_fill(lost, torch.nan), embedding

    def _pruned(self, model: nn.Module) -> Mapping[int, Tensor]:
        """Return the pruned weights by the ``id`` of their parameter."""
        state = (structure_of(model), weights_state(model))
        if self._kept.state != state:
            layers = {
                id(m.weight): m.weight
                for m in modules_of(model)
                if isinstance(m, (nn.Linear, _ConvNd)) and isinstance(m.weight, nn.Parameter)
            }
            if not layers:
                raise UnsuitableNetworkError(
                    "PreFIQs prunes linear and convolution layers, and this network has none."
                )
            pruned = pruned_by_magnitude(list(layers.values()), self.sparsity, self.scope)
            self._kept.weights = dict(zip(layers, pruned, strict=True))
            self._kept.state = state
        return self._kept.weights


class _Kept:
    """Pruned weights and what they were made of; copies of the score begin anew."""

    state: object = None
    weights: Mapping[int, Tensor] = {}

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def pruned_by_magnitude(
    weights: Sequence[Tensor], sparsity: float, scope: Scope = "network"
) -> list[Tensor]:
    """Set the smallest weights to 0.

    Args:

        weights (sequence of Tensor): Of any shapes.
        sparsity (float): The share that goes, in (0, 1), rounded down to whole weights; equally
            small ones go together.
        scope (str): Whether all of them are ranked together, ``"network"``, or those of each
            tensor, ``"layer"``.

    Returns:
        *list[Tensor]*: copies of them, detached.

    Examples::

        >>> pruned_by_magnitude([torch.tensor([1.0, -3.0]), torch.tensor([2.0, -4.0])], 0.5)
        [tensor([ 0., -3.]), tensor([ 0., -4.])]
    """
    sizes = [w.detach().abs().flatten().float() for w in weights]
    if scope == "network":
        limits = [_limit(torch.cat([x.to(sizes[0].device) for x in sizes]), sparsity)] * len(sizes)
    else:
        limits = [_limit(x, sparsity) for x in sizes]
    return [
        w.detach().masked_fill(w.detach().abs().float() <= limit, 0.0)
        for w, limit in zip(weights, limits, strict=True)
    ]


def _limit(sizes: Tensor, sparsity: float) -> float:
    """The largest magnitude that goes; below all of them if none does."""
    gone = int(sparsity * sizes.numel())
    return float(sizes.kthvalue(gone).values) if gone else -1.0
