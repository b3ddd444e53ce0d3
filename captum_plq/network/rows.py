"""The embeddings of a network for features that are masked in front of its embedding layer.

A forward hook on the embedding layer keeps its clean output under autograd, runs the layer
itself on m randomly masked copies of its detached input, and returns all rows together,
(B, m + 1, ...) flattened. Whatever follows (BatchNorm, normalisation) is then applied by
the model's own code. The network in front of the layer runs once, without copies.

Where what follows the layer insists on one row per image, it takes m full passes in place of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum_plq._base.late import apart
from captum_plq._base.precision import at_least_float32
from captum_plq.functional.masks import BLOCKS, BalancedMasks, DropoutMasks
from captum_plq.network.borrowed import borrowed, hookable, original_of
from captum_plq.network.embedding_layer import named_layer
from captum_plq.network.output import (
    EmbeddingLayerError,
    OutputSelector,
    embed,
    executions_of,
    features_among,
    select_embedding,
)
from captum_plq.network.state import eager

__all__ = ["Site", "run_in_turn", "run_once", "run_together"]

_ELEMENTS_AT_A_TIME = 2**22
"""Masked features held at once when no chunk size is given: 16 MiB in float32."""

Head = Callable[[Tensor], Tensor]
"""The embedding layer as a function of its features alone."""


class Site(NamedTuple):
    """An embedding layer of a copy of a network, and what the network is run on.

    Args:

        network (nn.Module): The copy, see :func:`~captum_plq.network.borrowed.borrowed`.
        name (str): Qualified name of the layer.
        inputs (tuple): The network's arguments, images first, (B, ...).
        output (int, str, Callable or None): Which part of its output is the embedding.
    """

    network: nn.Module
    name: str
    inputs: tuple[object, ...]
    output: OutputSelector

    @property
    def layer(self) -> nn.Module:
        """The layer, ready to be given hooks."""
        return hookable(named_layer(self.network, self.name))


def run_once(site: Site) -> tuple[Tensor, Tensor, Tensor]:
    """Return clean embeddings and the layer's input and output, from one forward."""
    network, name, inputs, output = site
    watched = [(name, site.layer)]
    ran, embedding = executions_of(network, watched, inputs, output, as_they_were=True)
    if len(ran) != 1 or len(ran[0].input) != len(embedding):
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} must run exactly once, on one row per image."
        )
    return embedding, ran[0].input, ran[0].output


def run_together(
    site: Site, masks: DropoutMasks, differentiable: bool = False, chunk_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return clean (B, ...) and stochastic (B, m, ...) embeddings, from one forward.

    The layer's hook gives m + 1 rows for each image. It stays on the copy: a backward through a
    checkpointed block runs the layer again.

    Args:

        site (Site): Of a copy that is not run again, since it keeps the hook.
        masks (DropoutMasks): The m dropout patterns.
        differentiable (bool): Keep the stochastic embeddings under autograd as well.
        chunk_size (int, optional): Rows that go through the layer at a time.

    Returns:
        *tuple[Tensor, Tensor]*: clean and stochastic embeddings.

    Raises:
        EmbeddingLayerError: if the rows do not come out as they should.
    """
    calls: list[tuple[torch.device, int]] = []

    def append(
        layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], clean: Tensor
    ) -> Tensor:
        features, head = _taken(layer, args, kwargs)
        calls.append((features.device, len(features)))
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            centre = clean if differentiable else clean.detach()
            stochastic = _stochastic_outputs(layer, head, features, centre, masks, chunk_size)
        return torch.cat([clean.unsqueeze(1), stochastic.to(clean.dtype)], dim=1).flatten(0, 1)

    site.layer.register_forward_hook(append, with_kwargs=True)
    with apart():
        output = site.network(*site.inputs)
    embeddings = select_embedding(output, site.output)
    first = site.inputs[0]
    devices, rows = {device for device, _ in calls}, masks.passes + 1
    images = sum(count for _, count in calls)
    if not calls:
        problem = "was not run, or ran where hooks do not fire: pass the original nn.Module"
    elif len(devices) < len(calls):  # a DataParallel replica runs it on a device of its own
        problem = f"ran {len(calls)} times in one forward, but must run exactly once"
    elif isinstance(first, Tensor) and len(first) != images:
        problem = f"saw {images} rows for {len(first)} images, but must see each image once"
    elif len(embeddings) != images * rows:
        problem = (
            f"gave {rows} rows per image, but the model returned {len(embeddings)} for {images} "
            "images: what follows the layer does not treat rows one by one"
        )
    else:
        by_image = embeddings.unflatten(0, (images, rows))
        return by_image[:, 0], by_image[:, 1:]
    raise EmbeddingLayerError(f"The embedding layer {site.name!r} {problem}.")


def run_in_turn(
    site: Site, masks: DropoutMasks, differentiable: bool = False, chunk_size: int | None = None
) -> tuple[Tensor, Tensor]:
    """As :func:`run_together`, from one forward for each stochastic row and one for the clean."""
    clean, features, _ = run_once(site)
    detached = tuple(x.detach() if isinstance(x, Tensor) else x for x in site.inputs)
    rows = []
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        for mask in masks.for_features(features.shape[1:], features.device):
            masked = features * masks.scale * mask

            def replace(
                layer: nn.Module,
                args: tuple[Any, ...],
                kwargs: dict[str, Any],
                _: object,
                masked: Tensor = masked,
            ) -> Tensor:
                return _taken(layer, args, kwargs)[1](masked)

            # a copy each, for the backward's sake
            passing = site._replace(network=borrowed(original_of(site.network)))
            with passing.layer.register_forward_hook(replace, with_kwargs=True):
                rows.append(embed(passing.network, detached, site.output))
    if any(row.shape != clean.shape for row in rows):
        raise EmbeddingLayerError(
            f"Embeddings have shape {tuple(clean.shape)} without dropout before {site.name!r}, "
            "but another one with it."
        )
    return clean, torch.stack(rows, dim=1)


def _taken(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Head]:
    """What is to be dropped out of a layer's arguments, and the layer as a function of it alone."""
    features = features_among(args, kwargs)
    if features is None:
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


def _stochastic_outputs(
    layer: nn.Module,
    head: Head,
    features: Tensor,
    clean: Tensor,
    masks: DropoutMasks,
    chunk_size: int | None,
) -> Tensor:
    """(B, m, ...), what a layer gives for features under each mask, some rows at a time."""
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
    return _joined([_joined([step(x, mask) for x in by_image], 0) for mask in by_mask], 1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
