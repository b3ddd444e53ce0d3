"""One forward of a network gives the clean embedding and the m stochastic ones.

A forward hook on the embedding layer keeps its clean output under autograd, runs the layer
itself on m randomly masked copies of its detached input, and returns all rows together,
(B, m + 1, ...) flattened. Whatever follows (BatchNorm, normalisation) is then applied by
the model's own code. The network in front of the layer runs once, without copies.

Where what follows the layer insists on one row per image, it takes m full passes in place of that.

Hooks are set on a copy of the network's modules that shares its weights (see
:mod:`captum_plq.network.borrowed`), so no other call of the network ever meets them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from captum_plq._base.tracing import never_compiled
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import borrowed, hooked, modules_of, original_of, own_copy
from captum_plq.network.embedding_layer import EmbeddingLayerError, OutputSelector, named_layer
from captum_plq.network.exploration import Found, explore
from captum_plq.network.output import embed
from captum_plq.network.rows import layer_features, stochastic_outputs
from captum_plq.network.state import eager, outside_inference, undisturbed

__all__ = ["EmbeddingTap"]

Answer = TypeVar("Answer")


class EmbeddingTap:
    """Taps the input of a network's embedding layer.

    Args:

        layer (str, optional): Qualified name of the embedding layer. ``None``: the one that the
            network states in an attribute ``embedding_layer``, or the one found at the first
            call, and again when the modules of the network have changed; see
            :func:`~captum_plq.network.embedding_layer.find_embedding_layer`.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, see :func:`~captum_plq.network.embedding_layer.select_embedding`.
    """

    def __init__(self, layer: str | None = None, output: OutputSelector = None) -> None:
        self.layer = layer
        self.output = output
        self._found: Found | None = None

    @property
    def layer_name(self) -> str | None:
        """Name of the embedding layer, once it has been located."""
        return None if self._found is None else self._found.layer

    @never_compiled
    def locate(self, model: nn.Module, inputs: Sequence[object]) -> str:
        """Return the embedding layer's name, found and checked at the first call.

        The first call costs some forwards of a batch, cut to two images where the network takes
        that: two to watch, one to look for a second path, one or two to see that the images of a
        batch do not depend on each other, and one to see that appended rows come out as they
        should.

        Args:

            model (nn.Module): The network.
            inputs (sequence): Its arguments, images first, (B, ...).

        Returns:
            *str*: the qualified name, for ``model.get_submodule``.

        Raises:
            EmbeddingLayerError: if there is no such layer, or it cannot be tapped.
            UnusableImagesError: if the network gives NaN or infinite embeddings.
        """
        return self._locate(model, inputs).layer

    @never_compiled
    def embed(self, model: nn.Module, inputs: Sequence[object]) -> Tensor:
        """Return the clean embedding alone, (B, ...), under the caller's autograd mode."""
        trains = any(module.training for module in modules_of(model))
        return embed(borrowed(model) if trains else model, inputs, self.output)

    @never_compiled
    def run(
        self,
        model: nn.Module,
        inputs: Sequence[object],
        masks: DropoutMasks,
        *,
        differentiable: bool = False,
        chunk_size: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return clean and stochastic embeddings, from one forward of the network.

        Args:

            model (nn.Module): The network, which is left as it is. A copy made by
                :func:`~captum_plq.network.borrowed.borrowed` keeps the hooks.
            inputs (sequence): Its arguments, images first, (B, ...).
            masks (DropoutMasks): The m dropout patterns.
            differentiable (bool): Keep the stochastic embeddings under autograd as well.
                Default: ``False``, only the clean one.
            chunk_size (int, optional): Rows (one image under one mask) that go through the
                layer at a time; changes memory, not results. ``None``: 2²² features' worth.

        Returns:
            *tuple[Tensor, Tensor]*: clean embeddings (B, ...) and stochastic ones
            (B, m, ...).

        Raises:
            EmbeddingLayerError: if the layer cannot be found or tapped.
        """
        found = self._locate(model, inputs)
        run = _run_together if found.takes_more_rows else _run_in_turn
        network = own_copy(model)
        with eager():
            return run(network, found.layer, inputs, self.output, masks, differentiable, chunk_size)

    @never_compiled
    def features(self, model: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clean embedding and the embedding layer's input and output.

        Args:

            model (nn.Module): As for :meth:`run`.
            inputs (sequence): Its arguments, images first, (B, ...).

        Returns:
            *tuple[Tensor, Tensor, Tensor]*: embeddings, the layer's input and its output,
            each (B, ...) and under autograd, in one forward.

        Raises:
            EmbeddingLayerError: if the layer cannot be found, or does not run exactly once.
        """
        name = self.locate(model, inputs)
        with eager():
            return _run_once(own_copy(model), name, inputs, self.output)

    @never_compiled
    def examine(
        self,
        model: nn.Module,
        inputs: Sequence[object],
        question: Callable[[nn.Module, str, Sequence[object], OutputSelector], Answer],
    ) -> Answer:
        """Ask a question about the model and its embedding layer, leaving both untouched.

        Args:

            model (nn.Module): The network.
            inputs (sequence): Its arguments, images first, (B, ...).
            question (Callable): Of a copy of the model in evaluation mode, the layer's name, the
                inputs and the selector of the embedding.

        Returns:
            *Answer*: what ``question`` returned.
        """
        name = self.locate(model, inputs)
        with undisturbed(model, inputs) as network, torch.no_grad():
            return question(network, name, outside_inference(inputs), self.output)

    def _locate(self, model: nn.Module, inputs: Sequence[object]) -> Found:
        found = self._found
        if found is None or not found.holds_for(model, self.layer):
            ways = (_run_together, _run_in_turn)
            found = self._found = explore(model, inputs, self.layer, self.output, ways)
        return found


def _run_once(
    network: nn.Module, name: str, inputs: Sequence[object], output: OutputSelector
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the clean embedding and the layer's input and output, from one forward."""
    seen: list[tuple[Tensor, Tensor]] = []

    def see(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
        # a copy: what follows the layer may write into its output
        seen.append((layer_features(layer, args, kwargs)[0], y.clone()))

    with hooked(named_layer(network, name), see, with_kwargs=True, in_turn=True):
        embedding = embed(network, inputs, output)
    if len(seen) != 1 or len(seen[0][0]) != len(embedding):
        raise EmbeddingLayerError(
            f"The embedding layer {name!r} must run exactly once, on one row per image."
        )
    return embedding, *seen[0]


def _run_together(
    network: nn.Module,
    name: str,
    inputs: Sequence[object],
    output: OutputSelector,
    masks: DropoutMasks,
    differentiable: bool,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return clean (B, ...) and stochastic (B, m, ...) embeddings, from one forward.

    The layer's hook gives m + 1 rows for each image. It stays on the copy: a backward through a
    checkpointed block runs the layer again.
    """
    calls: list[tuple[torch.device, int]] = []

    def append(
        layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], clean: Tensor
    ) -> Tensor:
        features, head = layer_features(layer, args, kwargs)
        calls.append((features.device, len(features)))
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            centre = clean if differentiable else clean.detach()
            stochastic = stochastic_outputs(layer, head, features, centre, masks, chunk_size)
        return torch.cat([clean.unsqueeze(1), stochastic.to(clean.dtype)], dim=1).flatten(0, 1)

    hooked(named_layer(network, name), append, with_kwargs=True, in_turn=True)
    embeddings, first = embed(network, inputs, output), inputs[0]
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
    raise EmbeddingLayerError(f"The embedding layer {name!r} {problem}.")


def _run_in_turn(
    network: nn.Module,
    name: str,
    inputs: Sequence[object],
    output: OutputSelector,
    masks: DropoutMasks,
    differentiable: bool,
    chunk_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As :func:`_run_together`, from one forward for each stochastic row and one for the clean."""
    clean, features, _ = _run_once(network, name, inputs, output)
    detached = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
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
                return layer_features(layer, args, kwargs)[1](masked)

            passing = borrowed(original_of(network))  # a copy each, for the backward's sake
            with hooked(named_layer(passing, name), replace, with_kwargs=True):
                rows.append(embed(passing, detached, output))
    if any(row.shape != clean.shape for row in rows):
        raise EmbeddingLayerError(
            f"Embeddings have shape {tuple(clean.shape)} without dropout before {name!r}, but "
            "another one with it."
        )
    return clean, torch.stack(rows, dim=1)
