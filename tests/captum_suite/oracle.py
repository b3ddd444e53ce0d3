"""Pixel-level quality from its definition, by a forward and a backward of plain autograd."""

import torch
from captum._utils.common import _format_additional_forward_args, _select_targets


def _scalars(embedding, quality, target):
    """Q / ‖e‖₁ times the sum of the unit-length embedding, or times its part that is picked."""
    flat = embedding.flatten(1)
    unit = flat / flat.detach().new_tensor(1e-12).maximum(flat.norm(dim=1, keepdim=True))
    weights = quality / unit.detach().abs().sum(1)
    if target is None:
        return weights * unit.sum(1)
    picked = _select_targets(unit.view_as(embedding), target)
    return picked.flatten(1).sum(1) * weights if picked.ndim > 1 else picked * weights


def _forward(model, inputs, extra):
    return model(*inputs, *(() if extra is None else _format_additional_forward_args(extra)))


def _plain(inputs):
    return tuple(x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs)


def inputs_gradient(model, inputs, quality, target, extra):
    """The gradient of the quality node with respect to each input, of Q (B,)."""
    with torch.enable_grad():
        leaves = _plain(inputs)
        scalars = _scalars(_forward(model, leaves, extra), quality, target)
        return torch.autograd.grad(scalars.sum(), leaves)


def layer_gradient(model, layer, inputs, quality, target, extra, of_input=False):
    """The same with respect to what a layer gives, or takes: caught by a hook of its own."""
    caught = []

    def catch(value):
        values = value if isinstance(value, tuple) else (value,)
        caught.extend(v if v.requires_grad else v.detach().requires_grad_() for v in values)
        fed = tuple(c.clone() for c in caught)  # a layer that works in place spoils the copy only
        return fed if isinstance(value, tuple) else fed[0]

    if of_input:
        handle = layer.register_forward_pre_hook(lambda _, taken: catch(taken))
    else:
        handle = layer.register_forward_hook(lambda _, taken, given: catch(given))
    with torch.enable_grad():
        try:
            embedding = _forward(model, _plain(inputs), extra)
        finally:
            handle.remove()
        scalars = _scalars(embedding, quality, target)
        return torch.autograd.grad(scalars.sum(), caught)
