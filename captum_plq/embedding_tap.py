"""One forward of a network gives the clean embedding and the m stochastic ones.

A forward hook on the embedding layer keeps its clean output under autograd, runs the layer
itself on m randomly masked copies of its detached input, and returns all rows together,
(B, m + 1, ...) flattened. Whatever follows (BatchNorm, normalisation) is then applied by
the model's own code. The network in front of the layer runs once, without copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captum_plq._state import (
    differentiable_copies,
    eager,
    evaluation_mode,
    never_compiled,
    untouched_rng,
    untraced,
)
from captum_plq.embedding_layer import (
    EmbeddingLayerError,
    OutputSelector,
    check_embedding_layer,
    close_rows,
    find_embedding_layer,
    named_layer,
    select_embedding,
)

__all__ = ["DropoutMasks", "EmbeddingTap"]

_ELEMENTS_AT_A_TIME = 2**24
"""Masked features held at once when no chunk size is given: 64 MiB in float32."""


class DropoutMasks:
    """The m dropout patterns of SER-FIQ: drawn once from a seed, shared by all images.

    Sharing them makes an image's quality independent of its batch, and lets much of the
    sampling noise cancel when images are compared.

    Args:

        passes (int): m ≥ 2.
        dropout (float): p, the probability that a feature is dropped, in (0, 1).
        seed (int): Same seed, same masks, on every device. The global random state is
            neither used nor moved.

    Raises:
        ValueError: if ``passes`` < 2 or ``dropout`` is not inside (0, 1).
    """

    def __init__(self, passes: int = 100, dropout: float = 0.5, seed: int = 0) -> None:
        if isinstance(passes, bool) or not isinstance(passes, int) or passes < 2:
            raise ValueError(
                f"passes must be an integer of at least 2 (a distance needs two embeddings), "
                f"but got {passes!r}."
            )
        if not 0.0 < dropout < 1.0:
            raise ValueError(f"dropout must lie strictly between 0 and 1, but got {dropout!r}.")
        self.passes = passes
        self.dropout = float(dropout)
        self.seed = seed
        self._drawn: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Masks for one layer input.

        Args:

            shape (torch.Size): Shape of one image's features.
            device (torch.device): Where they are needed.

        Returns:
            *Tensor*: (m, *shape), bool, true where a feature is kept.
        """
        with torch.inference_mode(False), untraced():
            key = (torch.Size(map(int, shape)), device)
            if any(drawn != key[0] for drawn, _ in self._drawn):
                self._drawn.clear()
            if key not in self._drawn:
                generator = torch.Generator().manual_seed(self.seed)
                kept = torch.rand(self.passes, *key[0], generator=generator) >= self.dropout
                self._drawn[key] = kept.to(device)
        return self._drawn[key]


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

        The first call costs four forwards of at most two images: one to watch, one to look
        for a second path, two to see that appended rows leave the clean rows as they were.

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
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                evaluation_mode(model),
                eager(),
                untouched_rng(inputs),
                untraced(),
            ):
                example = differentiable_copies(_first_images(inputs, 2))
                embedding = self.embed(model, example)
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
        with _rows_appended(layer, masks, differentiable, chunk_size) as calls:
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
        """Checks that rows appended at the layer leave the clean embeddings as they were."""
        try:
            clean, _ = self._run(model, name, example, DropoutMasks(2), False, None)
        except RuntimeError as error:
            raise EmbeddingLayerError(
                f"Rows put in at {name!r} do not pass through the rest of the model: {error}"
            ) from error
        if not close_rows(clean, embedding):
            raise EmbeddingLayerError(
                f"Rows put in at {name!r} change the embeddings of the others: what follows "
                "the layer mixes the rows of a batch."
            )


@contextmanager
def _rows_appended(
    layer: nn.Module, masks: DropoutMasks, differentiable: bool, chunk_size: int | None
) -> Iterator[list[tuple[torch.device, int]]]:
    """Hooks ``layer`` to append stochastic rows; yields the device and rows of each call."""
    calls: list[tuple[torch.device, int]] = []

    def append(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], clean: Tensor
    ) -> Tensor:
        key = None if args else next(iter(kwargs))
        features: Tensor = args[0] if key is None else kwargs[key]
        calls.append((features.device, features.shape[0]))

        def layer_on(masked: Tensor) -> Tensor:
            # .forward, so that neither this hook nor anyone else's fires again
            if key is None:
                y: Tensor = module.forward(masked, *args[1:], **kwargs)
            else:
                y = module.forward(**{**kwargs, key: masked})
            return y

        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            kept = masks.for_features(features.shape[1:], features.device)
            scaled = features / (1 - masks.dropout)
            stochastic = _through_layer(layer_on, scaled, kept, chunk_size)
        return torch.cat([clean.unsqueeze(1), stochastic.to(clean.dtype)], dim=1).flatten(0, 1)

    handle = layer.register_forward_hook(append, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def _through_layer(layer_on: Any, features: Tensor, kept: Tensor, chunk_size: int | None) -> Tensor:
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


def _first_images(inputs: Sequence[object], count: int) -> tuple[object, ...]:
    """The first images of a batch, and of every tensor that comes per image with them."""
    images = inputs[0]
    batch = images.shape[0] if isinstance(images, Tensor) and images.ndim else None
    return tuple(
        x[:count] if isinstance(x, Tensor) and x.ndim and x.shape[0] == batch else x for x in inputs
    )
