"""One forward of a network gives the clean embedding and the m stochastic ones.

A forward hook on the embedding layer keeps its clean output under autograd, runs the layer
itself on m randomly masked copies of its detached input, and returns all rows together,
(B, m + 1, ...) flattened. Whatever follows (BatchNorm, normalisation) is then applied by
the model's own code. The network in front of the layer runs once, without copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from captum_plq._state import (
    differentiable_copies,
    eager,
    evaluation_mode,
    never_compiled,
    outside_inference,
    undisturbed,
)
from captum_plq.dropout_masks import DropoutMasks, ProbeMasks
from captum_plq.embedding_layer import (
    EmbeddingLayerError,
    OutputSelector,
    check_embedding_layer,
    close_rows,
    find_embedding_layer,
    named_layer,
    select_embedding,
)
from captum_plq.stochastic_rows import layer_features, rows_appended

__all__ = ["EmbeddingTap", "first_images"]

Answer = TypeVar("Answer")


class EmbeddingTap:
    """Taps the input of a network's embedding layer.

    Args:

        layer (str, optional): Qualified name of the embedding layer. ``None``: found at the
            first call, see :func:`~captum_plq.embedding_layer.find_embedding_layer`.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, see :func:`~captum_plq.embedding_layer.select_embedding`.
    """

    def __init__(self, layer: str | None = None, output: OutputSelector = None) -> None:
        self.layer = layer
        self.output = output
        self._located: str | None = None

    @property
    def layer_name(self) -> str | None:
        """Name of the embedding layer, once it has been located."""
        return self._located

    @never_compiled
    def locate(self, model: nn.Module, inputs: Sequence[object]) -> str:
        """Name of the embedding layer, found and checked at the first call.

        The first call costs four forwards of a batch, cut to two images where it can be: two
        to watch, one to look for a second path, one to see that appended rows come out as
        they should and leave the clean rows as they were.

        Args:

            model (nn.Module): The network.
            inputs (sequence): Its arguments, images first, (B, ...).

        Returns:
            *str*: the qualified name, for ``model.get_submodule``.

        Raises:
            EmbeddingLayerError: if there is no such layer, or it cannot be tapped.
        """
        if self._located is None:
            if any(parameter.is_inference() for parameter in model.parameters()):
                raise EmbeddingLayerError(
                    "The model's parameters were made in inference mode, where autograd cannot "
                    "use them: build or load the model outside torch.inference_mode()."
                )
            with undisturbed(model, inputs), torch.enable_grad():
                example = differentiable_copies(first_images(inputs, 2))
                embedding = self.embed(model, example)
                if not bool(torch.isfinite(embedding).all()):
                    raise EmbeddingLayerError("The model gives NaN or infinite embeddings.")
                name = self.layer
                if name is None:
                    name = find_embedding_layer(model, example, self.output)
                else:
                    check_embedding_layer(model, name, example, self.output, embedding)
                self._check_rows(model, name, example, embedding)
            self._located = name
        return self._located

    @never_compiled
    def embed(self, model: nn.Module, inputs: Sequence[object]) -> Tensor:
        """The clean embedding alone, (B, ...), under the caller's autograd mode."""
        with evaluation_mode(model):
            return select_embedding(model(*inputs), self.output)

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
        """Clean and stochastic embeddings in one forward of the network.

        Args:

            model (nn.Module): The network; its modes are restored, no hook stays behind.
            inputs (sequence): Its arguments, images first, (B, ...).
            masks (DropoutMasks): The m dropout patterns.
            differentiable (bool): Keep the stochastic embeddings under autograd as well.
                Default: ``False``, only the clean one.
            chunk_size (int, optional): Rows (one image under one mask) that go through the
                layer at a time; changes memory, not results. ``None``: 2²⁴ features' worth.

        Returns:
            *tuple[Tensor, Tensor]*: clean embeddings (B, ...) and stochastic ones
            (B, m, ...).

        Raises:
            EmbeddingLayerError: if the layer cannot be found or tapped.
        """
        name = self.locate(model, inputs)
        with evaluation_mode(model), eager():
            return self._run(model, name, inputs, masks, differentiable, chunk_size)

    @never_compiled
    def features(self, model: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor, Tensor]:
        """The clean embedding, and what went into and came out of the embedding layer.

        Args:

            model (nn.Module): The network.
            inputs (sequence): Its arguments, images first, (B, ...).

        Returns:
            *tuple[Tensor, Tensor, Tensor]*: embeddings, the layer's input and its output,
            each (B, ...) and under autograd, in one forward.

        Raises:
            EmbeddingLayerError: if the layer cannot be found, or does not run exactly once.
        """
        name = self.locate(model, inputs)
        seen: list[tuple[Tensor, Tensor]] = []

        def see(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
            # a copy: what follows the layer may write into its output
            seen.append((layer_features(layer, (*args, *kwargs.values())), y.clone()))

        layer = named_layer(model, name)
        with (
            evaluation_mode(model),
            eager(),
            layer.register_forward_hook(see, with_kwargs=True),
        ):
            embedding = select_embedding(model(*inputs), self.output)
        if len(seen) != 1 or seen[0][0].shape[0] != embedding.shape[0]:
            raise EmbeddingLayerError(
                f"The embedding layer {name!r} must run exactly once, on one row per image."
            )
        return embedding, *seen[0]

    @never_compiled
    def examine(
        self,
        model: nn.Module,
        inputs: Sequence[object],
        question: Callable[[nn.Module, str, Sequence[object], OutputSelector], Answer],
    ) -> Answer:
        """Asks a question about the model and its embedding layer, leaving both untouched.

        Args:

            model (nn.Module): The network.
            inputs (sequence): Its arguments, images first, (B, ...).
            question (Callable): Of the model in evaluation mode, the layer's name, the inputs
                and the selector of the embedding.

        Returns:
            *Answer*: what ``question`` returned.
        """
        name = self.locate(model, inputs)
        with undisturbed(model, inputs), torch.no_grad():
            return question(model, name, outside_inference(inputs), self.output)

    def _run(
        self,
        model: nn.Module,
        name: str,
        inputs: Sequence[object],
        masks: DropoutMasks,
        differentiable: bool,
        chunk_size: int | None,
    ) -> tuple[Tensor, Tensor]:
        layer = named_layer(model, name)
        with rows_appended(layer, masks, differentiable, chunk_size) as calls:
            embeddings = select_embedding(model(*inputs), self.output)
        if not calls:
            raise EmbeddingLayerError(
                f"The embedding layer {name!r} was not run, or ran where hooks do not fire. "
                "Pass the original nn.Module, not a scripted, exported or replaced one."
            )
        if len({device for device, _ in calls}) < len(calls):  # once per DataParallel replica
            raise EmbeddingLayerError(
                f"The embedding layer {name!r} ran {len(calls)} times in one forward, but "
                "must run exactly once."
            )
        per_image = masks.passes + 1
        images = sum(size for _, size in calls)
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

    def _check_rows(
        self, model: nn.Module, name: str, example: Sequence[object], embedding: Tensor
    ) -> None:
        """Checks that rows appended at the layer come out right and leave the others alone."""
        try:
            clean, appended = self._run(model, name, example, ProbeMasks(), False, None)
        except EmbeddingLayerError:
            raise
        except Exception as error:  # whatever the model's own code objects to
            raise EmbeddingLayerError(
                f"Rows put in at {name!r} do not pass through the rest of the model: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not close_rows(clean, embedding):
            raise EmbeddingLayerError(
                f"Rows put in at {name!r} change the embeddings of the others: what follows "
                "the layer mixes the rows of a batch."
            )
        if not close_rows(appended[:, 0], embedding):
            raise EmbeddingLayerError(
                f"Run anew on its own input, {name!r} gives another embedding: it changes its "
                "input in place, or a hook of yours changes its output. Name another layer with "
                "embedding_layer=, or take the hook off."
            )


def first_images(inputs: Sequence[object], count: int) -> tuple[object, ...]:
    """The first images of a batch; all of them if other tensors may come per image too."""
    images, *others = inputs
    if isinstance(images, Tensor) and not any(isinstance(x, Tensor) for x in others):
        return (images[:count], *others)
    return tuple(inputs)
