"""Pixel-level quality from its definition, by a forward and a backward of plain autograd."""

from __future__ import annotations

from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args, _select_targets
from torch import Tensor, nn

__all__ = ["inputs_gradient", "layer_gradient"]


def _scalars(embedding: Tensor, quality: Tensor, target: Any) -> Tensor:
    """Q / ‖e‖₁ times the sum of the unit-length embedding, or times its part that is picked."""
    flat = embedding.flatten(1)
    unit = flat / flat.detach().new_tensor(1e-12).maximum(flat.norm(dim=1, keepdim=True))
    weights = quality / unit.detach().abs().sum(1)
    if target is None:
        return weights * unit.sum(1)
    picked = _select_targets(unit.view_as(embedding), target)
    return picked.flatten(1).sum(1) * weights if picked.ndim > 1 else picked * weights


def _forward(model: nn.Module, inputs: tuple[Tensor, ...], extra: Any) -> Tensor:
    more = () if extra is None else _format_additional_forward_args(extra)
    embedding: Tensor = model(*inputs, *more)
    return embedding


def _plain(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs)


def inputs_gradient(
    model: nn.Module, inputs: tuple[Tensor, ...], quality: Tensor, target: Any, extra: Any
) -> tuple[Tensor, ...]:
    """The gradient of the quality node with respect to each input.

    Args:

        model (nn.Module): Captum's, as the test made it.
        inputs (tuple[Tensor, ...]): What is explained.
        quality (Tensor): (B,), Q.
        target (Any): As in Captum.
        extra (Any): Additional forward arguments, as in Captum.
    """
    with torch.enable_grad():
        leaves = _plain(inputs)
        scalars = _scalars(_forward(model, leaves, extra), quality, target)
        return torch.autograd.grad(scalars.sum(), leaves)


def layer_gradient(
    model: nn.Module,
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    quality: Tensor,
    target: Any,
    extra: Any,
    of_input: bool = False,
) -> tuple[Tensor, ...]:
    """The same with respect to what a layer gives, or takes: caught by a hook of its own."""
    caught: list[Tensor] = []

    def catch(value: Any) -> Any:
        values = value if isinstance(value, tuple) else (value,)
        caught.extend(v if v.requires_grad else v.detach().requires_grad_() for v in values)
        fed = tuple(c.clone() for c in caught)  # a layer that works in place spoils the copy only
        return fed if isinstance(value, tuple) else fed[0]

    if of_input:
        handle = layer.register_forward_pre_hook(lambda _, taken: catch(taken))
    else:
        handle = layer.register_forward_hook(lambda _, taken, given: catch(given))
    try:
        with torch.enable_grad():
            embedding = _forward(model, _plain(inputs), extra)
    finally:
        handle.remove()
    with torch.enable_grad():
        scalars = _scalars(embedding, quality, target)
        return torch.autograd.grad(scalars.sum(), caught)
