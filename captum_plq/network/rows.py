"""A hook that makes an embedding layer append stochastic rows to its output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from captum_plq._base.precision import at_least_float32
from captum_plq.functional.balanced_masks import BLOCKS, BalancedMasks
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import hooked
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.network.state import eager

__all__ = ["layer_features", "masked_rows", "rows_appended"]

_ELEMENTS_AT_A_TIME = 2**22
"""Masked features held at once when no chunk size is given: 16 MiB in float32."""


def rows_appended(
    layer: nn.Module, masks: DropoutMasks, differentiable: bool, chunk_size: int | None
) -> Callable[[], list[tuple[torch.device, int]]]:
    """Hooks ``layer``, a module of a copy, to append stochastic rows to its output.

    The hook stays: a backward through a checkpointed block runs the layer again.

    Returns:
        *Callable*: tells device and rows of each call until now.
    """
    calls: list[tuple[torch.device, int]] = []

    def append(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], clean: Tensor
    ) -> Tensor:
        features = layer_features(module, (*args, *kwargs.values()))
        calls.append((features.device, features.shape[0]))
        layer_on = _layer_on(module, features, args, kwargs)
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            centre = clean if differentiable else clean.detach()
            stochastic = _outputs(module, layer_on, features, centre, masks, chunk_size)
        return torch.cat([clean.unsqueeze(1), stochastic.to(clean.dtype)], dim=1).flatten(0, 1)

    hooked(layer, append, with_kwargs=True, in_turn=True)
    return calls.copy


def masked_rows(layer: nn.Module, masked: Tensor) -> RemovableHandle:
    """Hooks ``layer``, a module of a copy, to give what it gives for other features.

    Args:

        layer (nn.Module): Runs once.
        masked (Tensor): (B, ...), to be put in the place of its input.

    Returns:
        *RemovableHandle*: to be entered as a context.
    """

    def replace(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: object
    ) -> Tensor:
        features = layer_features(module, (*args, *kwargs.values()))
        return _layer_on(module, features, args, kwargs)(masked)

    return hooked(layer, replace, with_kwargs=True)


def _layer_on(
    module: nn.Module, features: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    """The layer as a function of its features alone, other arguments as they were."""

    def layer_on(masked: Tensor) -> Tensor:
        positional = [masked if x is features else x for x in args]
        keyword = {k: masked if x is features else x for k, x in kwargs.items()}
        return _run(module, *positional, **keyword)

    return layer_on


def layer_features(layer: nn.Module, arguments: Sequence[object]) -> Tensor:
    """The layer's first floating-point argument that comes per image."""
    for x in arguments:
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0:
            return x
    raise EmbeddingLayerError(f"The layer {type(layer).__name__} takes no features to drop out.")


def _run(module: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
    """The module's own forward, without hooks; a backward may run it again."""
    with eager():
        y: Tensor = module.forward(*args, **kwargs)
    return y


def _outputs(
    layer: nn.Module,
    layer_on: Callable[[Tensor], Tensor],
    features: Tensor,
    clean: Tensor,
    masks: DropoutMasks,
    chunk_size: int | None,
) -> Tensor:
    """What a layer gives for (B, ...) features under each mask: (B, m, ...)."""
    weight = _matrix(layer, features, clean)
    if isinstance(masks, BalancedMasks) and weight is not None:
        return _balanced_rows(features, clean, weight, masks, chunk_size)
    kept = masks.for_features(features.shape[1:], features.device)
    return _through_layer(layer_on, features * masks.scale, kept, chunk_size)


def _matrix(layer: nn.Module, features: Tensor, clean: Tensor) -> Tensor | None:
    """The (d, D) matrix of a layer that is one affine map of all features of an image."""
    if "forward" in vars(layer) or features[0].numel() < BLOCKS:
        return None
    if type(layer) is nn.Linear:
        return layer.weight if features.ndim == 2 else None
    if type(layer) is not nn.Conv2d or layer.groups > 1 or layer.padding != (0, 0):
        return None
    covers = layer.weight.shape[1:] == features.shape[1:] and clean.shape[2:] == (1, 1)
    return layer.weight.flatten(1) if covers else None


def _balanced_rows(
    features: Tensor, clean: Tensor, weight: Tensor, masks: BalancedMasks, chunk_size: int | None
) -> Tensor:
    """(B, m, ...) rows of an affine layer: its clean ones plus and minus what signs flip."""
    width = features[0].numel() // BLOCKS
    contrasts = masks.contrasts(features.device)

    def moves_of(flipped: Tensor) -> Tensor:
        """(R, D) features with signs → (R, patterns, d), W (s H f) for each pattern."""
        cut = BLOCKS * width
        blocks = flipped[:, :cut].unflatten(1, (BLOCKS, width)).transpose(0, 1)
        shares = torch.bmm(blocks, weight[:, :cut].unflatten(1, (BLOCKS, width)).permute(1, 2, 0))
        with torch.autocast(features.device.type, enabled=False):
            of_block = at_least_float32(shares)
            moves: Tensor = torch.tensordot(contrasts.to(of_block.dtype), of_block, dims=1)
        if cut < flipped.shape[1]:  # the last block takes what is left over
            rest = at_least_float32(flipped[:, cut:] @ weight[:, cut:].T)
            moves = moves + contrasts[:, -1:, None].to(rest.dtype) * rest
        return moves.transpose(0, 1)

    signs = masks.signs(features.shape[1:], features.device).flatten(1)
    moves = _through_layer(moves_of, features.flatten(1), signs, chunk_size)  # (B, groups, k, d)
    centre = clean.flatten(1)[:, None, None]
    rows = torch.stack([centre + moves, centre - moves], dim=2)
    return rows.reshape(len(clean), masks.passes, *clean.shape[1:])


def _through_layer(
    layer_on: Callable[[Tensor], Tensor], features: Tensor, masks: Tensor, chunk_size: int | None
) -> Tensor:
    """Runs (B, ...) features times (m, ...) masks, some rows at a time: (B, m, ...)."""
    images, passes = features.shape[0], masks.shape[0]
    rows = chunk_size or max(1, _ELEMENTS_AT_A_TIME // masks[0].numel())

    def run(x: Tensor, mask: Tensor) -> Tensor:
        masked = (x.unsqueeze(1) * mask).flatten(0, 1)
        y: Tensor = layer_on(masked).unflatten(0, (x.shape[0], mask.shape[0]))
        return y

    def run_lean(x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = checkpoint(run, x, mask, use_reentrant=False, preserve_rng_state=False)
        return y

    lean = torch.is_grad_enabled() and images * passes > rows
    step = run_lean if lean else run
    by_mask = masks.split(max(1, rows // images))
    by_image = features.split(max(1, rows // by_mask[0].shape[0]))
    return torch.cat([torch.cat([step(x, mask) for x in by_image]) for mask in by_mask], dim=1)
