"""What an embedding layer gives for masked features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum_plq._base.precision import at_least_float32
from captum_plq.functional.masks import BLOCKS, BalancedMasks, DropoutMasks
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.network.state import eager

__all__ = ["layer_features", "stochastic_outputs"]

_ELEMENTS_AT_A_TIME = 2**22
"""Masked features held at once when no chunk size is given: 16 MiB in float32."""

Head = Callable[[Tensor], Tensor]
"""The embedding layer as a function of its features alone."""


def layer_features(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor, Head]:
    """Return what is to be dropped out, and the layer as a function of it alone.

    Args:

        layer (nn.Module): The embedding layer, of a copy of the network.
        args (tuple): What it was called with.
        kwargs (dict): Likewise.

    Returns:
        *tuple[Tensor, Callable]*: its first floating-point argument that comes per image,
        (B, ...), and its own forward, without hooks, on others.

    Raises:
        EmbeddingLayerError: if there is no such argument.
    """
    for x in (*args, *kwargs.values()):
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0:
            features = x
            break
    else:
        raise EmbeddingLayerError(
            f"The layer {type(layer).__name__} takes no features to drop out."
        )

    def head(masked: Tensor) -> Tensor:
        positional = [masked if x is features else x for x in args]
        keyword = {k: masked if x is features else x for k, x in kwargs.items()}
        with eager():  # without hooks; a backward may run it again
            y: Tensor = layer.forward(*positional, **keyword)
        return y

    return features, head


def stochastic_outputs(
    layer: nn.Module,
    head: Head,
    features: Tensor,
    clean: Tensor,
    masks: DropoutMasks,
    chunk_size: int | None,
) -> Tensor:
    """Return what a layer gives for features under each mask.

    Args:

        layer (nn.Module): The embedding layer.
        head (Callable): see :func:`layer_features`.
        features (Tensor): Likewise.
        clean (Tensor): (B, ...), what the layer gave for the features as they are.
        masks (DropoutMasks): The m dropout patterns.
        chunk_size (int, optional): Rows at a time.

    Returns:
        *Tensor*: (B, m, ...).
    """
    weight = _matrix(layer, features, clean)
    if isinstance(masks, BalancedMasks) and weight is not None:
        return _balanced_rows(features, clean, weight, masks, chunk_size)
    kept = masks.for_features(features.shape[1:], features.device)
    return _through(head, features * masks.scale, kept, chunk_size)


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
    moves = _through(moves_of, features.flatten(1), signs, chunk_size)  # (B, groups, k, d)
    centre = clean.flatten(1)[:, None, None]
    rows = torch.stack([centre + moves, centre - moves], dim=2)
    return rows.reshape(len(clean), masks.passes, *clean.shape[1:])


def _through(head: Head, features: Tensor, masks: Tensor, chunk_size: int | None) -> Tensor:
    """Run (B, ...) features times (m, ...) masks, some rows at a time: (B, m, ...)."""
    images, passes = len(features), len(masks)
    rows = chunk_size or max(1, _ELEMENTS_AT_A_TIME // masks[0].numel())

    def run(x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = head((x.unsqueeze(1) * mask).flatten(0, 1)).unflatten(0, (len(x), len(mask)))
        return y

    def run_lean(x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = checkpoint(run, x, mask, use_reentrant=False, preserve_rng_state=False)
        return y

    step = run_lean if torch.is_grad_enabled() and images * passes > rows else run
    by_mask = masks.split(max(1, rows // images))
    by_image = features.split(max(1, rows // len(by_mask[0])))
    return torch.cat([torch.cat([step(x, mask) for x in by_image]) for mask in by_mask], dim=1)
