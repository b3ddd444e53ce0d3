"""Finds the embedding layer of a network by watching it run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from captum_plq.network.borrowed import hookable
from captum_plq.network.output import (
    EmbeddingLayerError,
    Example,
    Execution,
    OutputSelector,
    leaf_modules,
    select_embedding,
)

__all__ = [
    "EmbeddingLayerError",
    "OutputSelector",
    "check_embedding_layer",
    "chosen_layer",
    "close_rows",
    "find_embedding_layer",
    "named_layer",
    "select_embedding",
    "slopes_of",
]


_LATER = (
    "Before a layer that maps nothing (identity, pooling, normalisation) dropout only thins the "
    "embedding out, and the quality does not tell good images from bad; a block around the layer "
    "runs once more for each pass."
)


def find_embedding_layer(example: Example) -> str:
    """Find the last linear map on the way from the images to the embedding.

    Runs the network once with a hook on each linear and convolution layer. The answer is the
    last of them, in the order of execution, that the embedding depends on; of a low-rank
    pair (a wide layer feeding a wider one through fewer features, with nothing between
    them) the first.

    Args:

        example (Example): The network at work. Autograd must be on.

    Returns:
        *str*: the qualified name, for ``model.get_submodule``; ``""`` is the model itself.

    Raises:
        EmbeddingLayerError: if no linear layer was seen at work, or if the embedding
            depends on none of them.
    """
    executions, embedding = example.executions(_linear_modules(example.network))
    if not executions:
        raise EmbeddingLayerError(
            "The model ran no Linear or convolution module, so there is no embedding layer to "
            "drop out. Functional calls (F.linear), scripted and exported programs cannot be "
            "seen: use the original nn.Module, or name a module with embedding_layer=."
        )
    if not _depends_on_images(example, embedding):
        raise EmbeddingLayerError(
            "The embedding does not depend on the images: the model cuts the gradient "
            "(torch.no_grad, .detach or a non-differentiable step inside its forward)."
        )
    slopes = slopes_of(embedding, [x.output for x in executions])
    used = [x for x, slope in zip(executions, slopes, strict=True) if slope is not None]
    if not used:
        raise EmbeddingLayerError(
            "The embedding depends on none of the linear layers that ran: "
            f"{_listed(executions)}. Check output=, which selects the embedding."
        )
    last = used[-1]
    if len(used) > 1 and _is_low_rank_pair(used[-2], last):
        last = used[-2]
    try:
        check_embedding_layer(example, last.name)
    except EmbeddingLayerError as error:
        others = _alternatives(example, last)
        raise EmbeddingLayerError(
            f"The last linear layer that ran cannot serve as the embedding layer. {error} Name "
            "the module before which to drop out, SERFIQ(model, embedding_layer=NAME). "
            + (f"Possible: {_listed(others)}. {_LATER} " if others else "")
            + f"Linear layers that ran last: {_listed(used)}."
        ) from error
    _refuse_functional_layers(example, last.layer, executions)
    return last.name


def check_embedding_layer(example: Example, name: str) -> None:
    """Raise unless everything passes through a layer exactly once, and nothing is random.

    Cuts the gradient at the layer: if the embedding still depends on the images, a second
    path (a skip connection) goes around it, and dropping out its input is not what SER-FIQ
    means.

    Args:

        example (Example): The network at work.
        name (str): Qualified name of the layer.

    Raises:
        EmbeddingLayerError: if the layer is unknown, ran not exactly once, returned no
            tensor, can be bypassed, or if two forwards differ.
    """
    layer = named_layer(example.network, name)
    calls: list[object] = []

    def cut(_: nn.Module, __: object, output: object) -> object:
        calls.append(output)
        return output.detach() if isinstance(output, Tensor) else output

    with hookable(layer).register_forward_hook(cut):  # also while a block is computed anew
        again = example.again()
        ran = len(calls)
        bypassed = _depends_on_images(example, again)
    shown = f"{name!r} ({type(layer).__name__})"
    if ran != 1:
        raise EmbeddingLayerError(
            f"{shown} ran {ran} times in one forward, but must run exactly once. "
            "A model that embeds an image twice (flip augmentation) must be given without it."
        )
    if not isinstance(calls[0], Tensor):
        raise EmbeddingLayerError(f"{shown} returns a {type(calls[0]).__name__}, not a tensor.")
    if not close_rows(again, example.embedding):
        raise EmbeddingLayerError(
            "Two forwards of the same images gave different embeddings: some part of the model "
            "is random in evaluation mode (e.g. F.dropout without training=self.training). "
            "SER-FIQ brings its own dropout and needs a deterministic model."
        )
    if bypassed:
        raise EmbeddingLayerError(
            f"Another path leads around {shown} to the embedding (a skip connection or a gate)."
        )


def chosen_layer(model: nn.Module, name: str | None) -> str | None:
    """Return ``name``, or what the model states as its ``embedding_layer``, or ``None``."""
    stated = getattr(model, "embedding_layer", None)
    return stated if name is None and isinstance(stated, str) else name


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule of that name, or raise an error that lists the linear ones."""
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        linear = [n for n, _ in _linear_modules(model)]
        raise EmbeddingLayerError(
            f"The model has no module named {name!r}. Its last linear layers: {linear[-5:]}."
        ) from error


def close_rows(a: Tensor, b: Tensor) -> bool:
    """Tell whether two computations of the same embeddings agree within their precision."""
    if a.shape != b.shape:
        return False
    a, b = a.detach(), b.detach()
    half = a.dtype in (torch.float16, torch.bfloat16)
    scale = float(b.abs().max()) if b.numel() else 0.0
    tolerance = (3e-2 if half else 1e-3) * scale
    return torch.allclose(a.float(), b.float(), rtol=0.0, atol=tolerance, equal_nan=True)


def slopes_of(embedding: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Return gradients of an embedding's sum; ``None`` where it does not depend on a tensor."""
    reachable = [x for x in tensors if x.requires_grad]
    if not embedding.requires_grad or not reachable:
        return [None] * len(tensors)
    found = iter(
        torch.autograd.grad(embedding.sum(), reachable, allow_unused=True, retain_graph=True)
    )
    return [next(found) if x.requires_grad else None for x in tensors]


def _depends_on_images(example: Example, embedding: Tensor) -> bool:
    images = [x for x in example.inputs if isinstance(x, Tensor) and x.requires_grad]
    return any(slope is not None for slope in slopes_of(embedding, images))


def _linear_modules(model: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(n, x) for n, x in model.named_modules() if isinstance(x, (nn.Linear, _ConvNd))]


def _refuse_functional_layers(
    example: Example, layer: nn.Module, executions: Sequence[Execution]
) -> None:
    """Raise if a matrix is applied behind the layer other than by a linear module."""
    seen = {id(p) for x in executions for p in x.layer.parameters()}
    matrices = {
        name: p
        for name, p in example.network.named_parameters()
        if p.requires_grad and p.ndim > 1 and id(p) not in seen
    }
    if not matrices:
        return
    with hookable(layer).register_forward_hook(lambda _, __, y: y.detach().requires_grad_()):
        slopes = slopes_of(example.again(), list(matrices.values()))
    behind = [name for name, slope in zip(matrices, slopes, strict=True) if slope is not None]
    if behind:
        raise EmbeddingLayerError(
            f"Behind the last linear layer that ran as a module, the model applies {behind[-1]!r} "
            "by a functional call (F.linear, attention), before which no dropout can be put. Make "
            "that a module, or name the module before which to drop out, embedding_layer=."
        )


def _alternatives(example: Example, last: Execution) -> list[Execution]:
    """What may be named in place of the last linear layer: blocks around it, and what follows."""

    def serves(candidate: Execution) -> bool:
        try:
            check_embedding_layer(example, candidate.name)
        except EmbeddingLayerError:
            return False
        return True

    modules = example.network.named_modules()
    blocks = [(n, x) for n, x in modules if n and last.name.startswith(f"{n}.")]
    around = example.executions(blocks)[0]
    ran = example.executions(leaf_modules(example.network, last.name))[0]
    after = ran[max(i for i, x in enumerate(ran) if x.layer is last.layer) + 1 :]
    return [*list(filter(serves, around))[:1], *filter(serves, after)]


def _is_low_rank_pair(first: Execution, second: Execution) -> bool:
    """Whether ``second`` is fed by ``first``, unchanged, through fewer features."""
    alike = isinstance(first.layer, nn.Linear) is isinstance(second.layer, nn.Linear)
    fed = (
        first.output.data_ptr() == second.input.data_ptr()
        and first.output.numel() == second.input.numel()
        and first.output._version == first.output_version
    )
    rank = first.output[0].numel()
    return alike and fed and rank < first.input[0].numel() and rank < second.output[0].numel()


def _listed(executions: Sequence[Execution]) -> str:
    return "; ".join(str(x) for x in executions[-6:])
