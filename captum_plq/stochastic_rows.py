"""A hook that makes an embedding layer append stochastic rows to its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.checkpoint import checkpoint

from captum_plq._state import eager, evaluation_mode
from captum_plq.dropout_masks import DropoutMasks
from captum_plq.embedding_layer import EmbeddingLayerError

__all__ = ["layer_features", "rows_appended"]

_ELEMENTS_AT_A_TIME = 2**24
"""Masked features held at once when no chunk size is given: 64 MiB in float32."""


@contextmanager
def rows_appended(
    layer: nn.Module, masks: DropoutMasks, differentiable: bool, chunk_size: int | None
) -> Iterator[list[tuple[torch.device, int]]]:
    """Hooks ``layer`` to append stochastic rows; yields the device and rows of each call."""
    calls: list[tuple[torch.device, int]] = []

    def append(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], clean: Tensor
    ) -> Tensor:
        features = layer_features(module, (*args, *kwargs.values()))
        calls.append((features.device, features.shape[0]))

        def layer_on(masked: Tensor) -> Tensor:
            positional = [masked if x is features else x for x in args]
            keyword = {k: masked if x is features else x for k, x in kwargs.items()}
            # A backward may run it again when the model is no longer in our hands.
            with evaluation_mode(module), eager():
                # .forward, so that neither this hook nor anyone else's fires again
                y: Tensor = module.forward(*positional, **keyword)
            return y

        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            kept = masks.for_features(features.shape[1:], features.device)
            scaled = features * masks.scale
            mirrored = masks.antithetic and isinstance(module, (nn.Linear, _ConvNd))
            if mirrored:  # W (2f - 2fz) + b is 2 (Wf + b) - (W 2fz + b): half the products
                kept = kept[: masks.passes // 2]
            stochastic = _through_layer(layer_on, scaled, kept, chunk_size)
            if mirrored:
                centre = clean if differentiable else clean.detach()
                complement = 2 * centre.unsqueeze(1) - stochastic
                stochastic = torch.cat([stochastic, complement], dim=1)
        return torch.cat([clean.unsqueeze(1), stochastic.to(clean.dtype)], dim=1).flatten(0, 1)

    with layer.register_forward_hook(append, with_kwargs=True):
        yield calls


def layer_features(layer: nn.Module, arguments: Sequence[object]) -> Tensor:
    """The layer's first floating-point argument that comes per image."""
    for x in arguments:
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0:
            return x
    raise EmbeddingLayerError(f"The layer {type(layer).__name__} takes no features to drop out.")


def _through_layer(
    layer_on: Callable[[Tensor], Tensor], features: Tensor, kept: Tensor, chunk_size: int | None
) -> Tensor:
    """Runs (B, ...) features under (m, ...) masks, some rows at a time: (B, m, ...)."""
    images, passes = features.shape[0], kept.shape[0]
    rows = chunk_size or max(1, _ELEMENTS_AT_A_TIME // kept[0].numel())

    def run(x: Tensor, mask: Tensor) -> Tensor:
        masked = (x.unsqueeze(1) * mask).flatten(0, 1)
        y: Tensor = layer_on(masked).unflatten(0, (x.shape[0], mask.shape[0]))
        return y

    def run_lean(x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = checkpoint(run, x, mask, use_reentrant=False, preserve_rng_state=False)
        return y

    lean = torch.is_grad_enabled() and images * passes > rows
    step = run_lean if lean else run
    by_mask = kept.split(max(1, rows // images))
    by_image = features.split(max(1, rows // by_mask[0].shape[0]))
    return torch.cat([torch.cat([step(x, mask) for x in by_image]) for mask in by_mask], dim=1)
