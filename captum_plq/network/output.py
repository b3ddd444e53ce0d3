"""What a network returns, the embedding in it, and what its modules did on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from captum_plq._base.late import apart
from captum_plq.network.borrowed import hookable

__all__ = [
    "EmbeddingLayerError",
    "Example",
    "Execution",
    "OutputSelector",
    "embed",
    "executions_of",
    "features_among",
    "leaf_modules",
    "select_embedding",
]

OutputSelector = int | str | Callable[[Any], Tensor] | None
"""Which part of a model's output is the embedding: index, key or field, or a function."""


class EmbeddingLayerError(ValueError):
    """The embedding layer cannot be found or used; the message says what to do."""


@dataclass(frozen=True)
class Execution:
    """One call of a module, as a hook saw it: its features, its output, and that one's version.

    -1 in inference mode, where tensors have none.
    """

    name: str
    layer: nn.Module
    input: Tensor
    output: Tensor
    output_version: int

    def __str__(self) -> str:
        kind = type(self.layer).__name__
        shapes = f"{tuple(self.input.shape[1:])} -> {tuple(self.output.shape[1:])}"
        return f"{self.name or '(the model itself)'}: {kind} {shapes}"


@dataclass(frozen=True)
class Example:
    """A network tried out on a few images.

    Args:

        network (nn.Module): A copy, see :func:`~captum_plq.network.borrowed.borrowed`.
        inputs (tuple): Its arguments, images first, (B, ...). What is explained requires grad.
        output (int, str, Callable or None): see :func:`select_embedding`.
        embedding (Tensor): (B, ...), what the network gives, under autograd.
    """

    network: nn.Module
    inputs: tuple[object, ...]
    output: OutputSelector
    embedding: Tensor

    def again(self) -> Tensor:
        """Return the embedding of another forward."""
        return embed(self.network, self.inputs, self.output)

    def executions(
        self, modules: Iterable[tuple[str, nn.Module]]
    ) -> tuple[list[Execution], Tensor]:
        """Return those of another forward, see :func:`executions_of`."""
        return executions_of(self.network, modules, self.inputs, self.output)


def executions_of(
    model: nn.Module,
    modules: Iterable[tuple[str, nn.Module]],
    inputs: Sequence[object],
    selector: OutputSelector = None,
    *,
    as_they_were: bool = False,
) -> tuple[list[Execution], Tensor]:
    """Run a copy of a network once and note what its modules do.

    Args:

        model (nn.Module): A copy, see :func:`~captum_plq.network.borrowed.borrowed`.
        modules (iterable of (str, nn.Module)): Those to watch, by name.
        inputs (sequence): The model's arguments.
        selector (int, str, Callable or None): see :func:`select_embedding`.
        as_they_were (bool): Copy outputs, since what follows may write into them.

    Returns:
        *tuple[list[Execution], Tensor]*: calls from tensor to tensor in their order, and the
        embedding.
    """
    executions: list[Execution] = []

    def note(
        name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any
    ) -> None:
        x = features_among(args, kwargs)
        if x is not None and isinstance(y, Tensor):
            kept = y.clone() if as_they_were else y
            version = -1 if y.is_inference() else y._version
            executions.append(Execution(name, layer, x, kept, version))

    with ExitStack() as hooks:
        for name, module in modules:
            watch = hookable(module).register_forward_hook(partial(note, name), with_kwargs=True)
            hooks.enter_context(watch)
        embedding = embed(model, inputs, selector)
    return executions, embedding


def features_among(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the first of a module's arguments that is a floating-point tensor, (B, ...)."""
    for x in (*args, *kwargs.values()):
        if isinstance(x, Tensor) and x.is_floating_point() and x.ndim > 0:
            return x
    return None


def leaf_modules(model: nn.Module, also: str | None = None) -> list[tuple[str, nn.Module]]:
    """Return the modules that have none within them, and the one named ``also``, by name."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if name == also or next(module.children(), None) is None
    ]


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
    with apart():
        output = model(*inputs)
    embedding = select_embedding(output, selector)
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
