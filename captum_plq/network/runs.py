"""Forwards of a copy of a network with its embedding layer tapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import borrowed, hooked, original_of
from captum_plq.network.embedding_layer import EmbeddingLayerError, OutputSelector, named_layer
from captum_plq.network.output import embed
from captum_plq.network.rows import layer_features, masked_rows, rows_appended

__all__ = ["run_in_turn", "run_once", "run_together"]


def run_once(
    network: nn.Module, name: str, inputs: Sequence[object], output: OutputSelector
) -> tuple[Tensor, Tensor, Tensor]:
    """The clean embedding, and the layer's input and output, in one forward."""
    seen: list[tuple[Tensor, Tensor]] = []

    def see(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
        # a copy: what follows the layer may write into its output
        seen.append((layer_features(layer, (*args, *kwargs.values())), y.clone()))

    with hooked(named_layer(network, name), see, with_kwargs=True, in_turn=True):
        embedding = embed(network, inputs, output)
    if len(seen) != 1 or seen[0][0].shape[0] != embedding.shape[0]:
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} must run exactly once, on one row per image."
        )
    return embedding, *seen[0]


def run_together(
    network: nn.Module,
    name: str,
    inputs: Sequence[object],
    output: OutputSelector,
    masks: DropoutMasks,
    differentiable: bool,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """All rows in one forward."""
    calls = rows_appended(named_layer(network, name), masks, differentiable, chunk_size)
    embeddings = embed(network, inputs, output)
    ran = calls()
    if not ran:
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} was not run, or ran where hooks do not fire. "
            "Pass the original nn.Module, not a scripted, exported or replaced one."
        )
    if len({device for device, _ in ran}) < len(ran):  # once per DataParallel replica
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} ran {len(ran)} times in one forward, but "
            "must run exactly once."
        )
    per_image = masks.passes + 1
    images = sum(size for _, size in ran)
    first = inputs[0]
    if isinstance(first, Tensor) and first.shape[0] != images:
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} saw {images} rows for {first.shape[0]} images, but "
            "must see each image once."
        )
    if embeddings.shape[0] != images * per_image:
        raise EmbeddingLayerError(
            f"With {per_image} rows per image put in at {name!r}, the model returned "
            f"{embeddings.shape[0]} rows for {images} images: what follows the layer does not "
            "treat rows one by one."
        )
    by_image = embeddings.unflatten(0, (images, per_image))
    return by_image[:, 0], by_image[:, 1:]


def run_in_turn(
    network: nn.Module,
    name: str,
    inputs: Sequence[object],
    output: OutputSelector,
    masks: DropoutMasks,
    differentiable: bool,
) -> tuple[Tensor, Tensor]:
    """The clean row in one forward, and each stochastic one in one more."""
    clean, features, _ = run_once(network, name, inputs, output)
    kept = masks.for_features(features.shape[1:], features.device)
    detached = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
    rows = []
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        for mask in kept:
            passing = borrowed(original_of(network))  # a copy each, for the backward's sake
            masked = features * masks.scale * mask
            with masked_rows(named_layer(passing, name), masked):
                rows.append(embed(passing, detached, output))
    if any(row.shape != clean.shape for row in rows):
        raise EmbeddingLayerError(
            f"Embeddings have shape {tuple(clean.shape)} without dropout before {name!r}, but "
            "another one with it."
        )
    return clean, torch.stack(rows, dim=1)
