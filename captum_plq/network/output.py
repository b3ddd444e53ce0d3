"""What a model returns, and the embedding in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["EmbeddingLayerError", "OutputSelector", "embed", "select_embedding"]

OutputSelector = int | str | Callable[[Any], Tensor] | None
"""Which part of a model's output is the embedding: index, key or field, or a function."""


class EmbeddingLayerError(ValueError):
    """The embedding layer cannot be found or used; the message says what to do."""


def select_embedding(output: object, selector: OutputSelector = None) -> Tensor:
    """Pick the embedding out of what a model returns.

    Args:

        output (object): A tensor, tuple, list, dict, dataclass or named tuple.
        selector (int, str, Callable or None): Index, key or field name, or a function of
            ``output``. ``None`` takes a tensor as it is, and a container's only tensor.

    Returns:
        *Tensor*: the embedding, (B, ...).

    Raises:
        EmbeddingLayerError: if the choice is open, or the selected thing is no tensor.

    Examples::

        >>> select_embedding((embedding, norm), 0)
        >>> select_embedding({"feature": embedding}, "feature")
    """
    if callable(selector):
        chosen: object = selector(output)
    elif isinstance(output, Tensor) and selector is None:
        chosen = output
    else:
        parts = _parts(output)
        if selector is None:
            distinct = {id(part): key for key, part in parts.items() if isinstance(part, Tensor)}
            tensors = list(distinct.values())
            if len(tensors) != 1:
                raise EmbeddingLayerError(
                    f"The model returns a {type(output).__name__} with {len(tensors)} tensors "
                    f"{tensors}: say which is the embedding, e.g. output={tensors[0]!r}."
                    if tensors
                    else f"The model returns a {type(output).__name__} without a tensor in it: "
                    "pass output=, a function that takes it and returns the embedding."
                )
            selector = tensors[0]
        if isinstance(selector, int) and selector < 0 and selector not in parts:
            selector += sum(isinstance(key, int) for key in parts)
        if selector not in parts:
            raise EmbeddingLayerError(
                f"The model's output ({type(output).__name__}) has no part {selector!r}; "
                f"it has {list(parts)}."
            )
        chosen = parts[selector]
    if not isinstance(chosen, Tensor) or chosen.ndim == 0:
        raise EmbeddingLayerError(
            f"output={selector!r} selects a {type(chosen).__name__}, not a batch of embeddings."
        )
    return chosen


def embed(model: nn.Module, inputs: Sequence[object], selector: OutputSelector = None) -> Tensor:
    """Run a model and pick the embedding out; one image has one row even if squeezed.

    Args:

        model (nn.Module): The network.
        inputs (sequence): Its arguments, images first, (B, ...).
        selector (int, str, Callable or None): As for :func:`select_embedding`.

    Returns:
        *Tensor*: the embedding, (B, ...).

    Raises:
        EmbeddingLayerError: as :func:`select_embedding`.
    """
    embedding = select_embedding(model(*inputs), selector)
    images = inputs[0] if inputs else None
    if isinstance(images, Tensor) and images.ndim > 1 and len(images) == 1 and embedding.ndim == 1:
        return embedding.unsqueeze(0)  # the model ends in .squeeze()
    return embedding


def _parts(output: object) -> dict[int | str, object]:
    """The parts of a container by position and, where they have one, by name."""
    if isinstance(output, dict):
        named = dict(output)
    elif isinstance(output, (tuple, list)):
        named = {name: getattr(output, name) for name in getattr(output, "_fields", ())}
    else:
        fields = getattr(output, "__dataclass_fields__", {})
        named = {name: getattr(output, name) for name in fields}
    values = list(output) if isinstance(output, (tuple, list)) else list(named.values())
    return {**dict(enumerate(values)), **named}
