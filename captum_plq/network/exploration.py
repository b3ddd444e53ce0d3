"""Explores a network once: its embedding layer, and what the rest of it lets through."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_plq.functional.masks import ProbeMasks
from captum_plq.network.borrowed import hooked, modules_of, original_of, originals_that_run
from captum_plq.network.embedding_layer import (
    EmbeddingLayerError,
    OutputSelector,
    check_embedding_layer,
    chosen_layer,
    close_rows,
    find_embedding_layer,
    named_layer,
)
from captum_plq.network.independence import check_independence, refuse_not_finite
from captum_plq.network.output import embed
from captum_plq.network.runs import run_in_turn, run_together
from captum_plq.network.state import (
    differentiable_copies,
    eager,
    evaluation_mode,
    outside_inference,
    undisturbed,
    unnoticed,
)

__all__ = ["Found", "explore", "first_images", "structure_of"]


class Found(NamedTuple):
    """What was found out about a network, and of what network.

    Args:

        key (int): Of its modules and of the layer that it or the caller names.
        layer (str): Qualified name of the embedding layer.
        takes_more_rows (bool): Whether what follows takes more rows than there are images.
        hooks (tuple[int, ...]): Of the caller's, on the layer: they decide whether it can be run
            anew.
    """

    key: int
    layer: str
    takes_more_rows: bool
    hooks: tuple[int, ...]

    def holds_for(self, model: nn.Module, layer: str | None) -> bool:
        """Whether it is still so, as far as modules and hooks tell."""
        return self.key == _key(model, layer) and self.hooks == _hooks_on(
            original_of(model).get_submodule(self.layer)
        )


def explore(
    model: nn.Module, inputs: Sequence[object], layer: str | None, output: OutputSelector
) -> Found:
    """Finds and checks the embedding layer of a network.

    Args:

        model (nn.Module): The network; copies of it are run, and once itself.
        inputs (sequence): Its arguments, images first, (B, ...).
        layer (str, optional): Name of the layer, if the caller gives one.
        output (int, str, Callable or None): Which part of the output is the embedding.

    Returns:
        *Found*: of the network as it is now.

    Raises:
        EmbeddingLayerError: if there is no such layer, or it cannot be tapped.
        UnusableImagesError: if the network gives NaN or infinite embeddings.
    """
    if any(is_lazy(x) for x in (*model.parameters(), *model.buffers())):
        _make_lazy_parameters(original_of(model), inputs)
    if any(not is_lazy(p) and p.is_inference() for p in model.parameters()):
        raise EmbeddingLayerError(
            "The model's parameters were made in inference mode, where autograd cannot "
            "use them: build or load the model outside torch.inference_mode()."
        )
    original = original_of(model)
    with (
        undisturbed(model, inputs) as network,
        torch.enable_grad(),
        originals_that_run(original, _hidden) as ran,
    ):
        example, embedding = _example(network, inputs, output)
        try:
            name, more = _layer_and_rows(network, layer, example, output, embedding)
        except EmbeddingLayerError as error:
            if ran:
                raise _hidden(ran[-1]) from error
            raise
        _refuse_hidden_tail(network, name, example, output, ran)
    _compare(original, example, output, embedding)
    return Found(_key(model, layer), name, more, _hooks_on(original.get_submodule(name)))


def _key(model: nn.Module, layer: str | None) -> int:
    return hash((structure_of(model), chosen_layer(model, layer)))


def _refuse_hidden_tail(
    network: nn.Module, name: str, example: Sequence[object], output: OutputSelector, ran: list[str]
) -> None:
    """Raises if a module that is run in the place of its copy runs behind the layer.

    In front of the layer, or within it, it does no harm.
    """
    if not ran:
        return
    ran.clear()
    until: list[int] = []
    with hooked(named_layer(network, name), lambda *_: until.append(len(ran))):
        embed(network, example, output)
    if ran[until[-1] :]:
        raise _hidden(ran[-1])


def _compare(
    model: nn.Module, example: Sequence[object], output: OutputSelector, embedding: Tensor
) -> None:
    """Checks that the network gives what its copy gave, if it can be run without a trace."""
    if any(module.training for module in modules_of(model)):
        return
    with unnoticed(example), torch.no_grad():
        same = close_rows(embed(model, example, output), embedding)
    if not same:
        raise EmbeddingLayerError(
            "The network gives another embedding than a copy of its modules: a hook or a "
            "function of its own writes to, or reads from, an object that cannot be seen in "
            "its attributes. Keep such state in attributes of its modules."
        )


def _layer_and_rows(
    network: nn.Module,
    layer: str | None,
    example: Sequence[object],
    output: OutputSelector,
    embedding: Tensor,
) -> tuple[str, bool]:
    """The layer's name, and whether what follows takes more rows than images."""
    refuse_not_finite(embedding)
    name = chosen_layer(network, layer)
    if name is None:
        name = find_embedding_layer(network, example, output)
    else:
        check_embedding_layer(network, name, example, output, embedding)
    check_independence(network, example, embedding, output)
    try:
        _check_rows(network, name, example, output, embedding, run_together)
    except EmbeddingLayerError as error:
        try:
            _check_rows(network, name, example, output, embedding, run_in_turn)
        except EmbeddingLayerError:
            raise error from None
        warnings.warn(
            f"What follows the layer {name!r} takes one row per image only, so each of the "
            "stochastic passes runs through the whole network, which is slow. "
            f"{error}",
            stacklevel=7,
        )
        return name, False
    return name, True


def _example(
    network: nn.Module, inputs: Sequence[object], output: OutputSelector
) -> tuple[tuple[object, ...], Tensor]:
    """Two images and their embeddings, or as many as the caller has if it must be as many."""
    few = _leaves(first_images(inputs, 2))
    all_of_them = _leaves(inputs)
    try:
        embedding = embed(network, few, output)
        if _one_each(few, embedding):
            return few, embedding
    except Exception:  # whatever the model's own code objects to
        few = all_of_them
    try:
        embeddings = embed(network, all_of_them, output)
    except Exception as error:
        if few is not all_of_them:
            return few, embedding
        if isinstance(inputs[0], Tensor) and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(
                f"The network raised this on images of shape {tuple(inputs[0].shape)}. It is "
                "run on batches, (B, C, H, W), of the size that it takes."
            )
        raise
    return all_of_them, embeddings


def _check_rows(
    network: nn.Module,
    name: str,
    example: Sequence[object],
    output: OutputSelector,
    embedding: Tensor,
    run: Callable[..., tuple[Tensor, Tensor]],
) -> None:
    """Checks that stochastic rows come out right and leave the clean ones alone."""
    try:
        clean, appended = run(network, name, example, output, ProbeMasks(), False)
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


def _leaves(inputs: Sequence[object]) -> tuple[object, ...]:
    """Copies of which those require grad that do, or else the first: what is to be explained."""
    explained = [isinstance(x, Tensor) and x.requires_grad for x in inputs]
    if not any(explained):
        explained[0] = True
    leaves = differentiable_copies(inputs)
    return tuple(
        leaf.detach() if isinstance(leaf, Tensor) and not wanted else leaf
        for leaf, wanted in zip(leaves, explained, strict=True)
    )


def _one_each(inputs: Sequence[object], embedding: Tensor) -> bool:
    images = inputs[0]
    return not isinstance(images, Tensor) or len(images) == len(embedding)


def structure_of(model: nn.Module) -> int:
    """A number that changes when modules of a network are put in, taken out or made anew.

    Or given another ``forward``; not when weights change.
    """
    return hash(
        tuple(
            (
                type(module),
                id(vars(module).get("forward")),
                *module._modules.keys(),
                *map(_shape, module._parameters.values()),
            )
            for module in modules_of(original_of(model))
        )
    )


def _hooks_on(layer: nn.Module) -> tuple[int, ...]:
    return tuple(map(id, (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())))


def _hidden(module: str) -> EmbeddingLayerError:
    return EmbeddingLayerError(
        f"The module {module!r} is run by something that does not show in the attributes of the "
        "network's modules (a weak reference, a registry, a function elsewhere), so dropout cannot "
        "be put before a layer without touching other users of the network. Hold the module in an "
        "attribute, a list or a dictionary of the module that runs it."
    )


def _shape(parameter: Tensor | None) -> torch.Size | None:
    return None if parameter is None or is_lazy(parameter) else parameter.shape


def first_images(inputs: Sequence[object], count: int) -> tuple[object, ...]:
    """The first images of a batch; all of them if other tensors may come per image too."""
    images, *others = inputs
    if isinstance(images, Tensor) and not any(isinstance(x, Tensor) for x in others):
        return (images[:count], *others)
    return tuple(inputs)


def _make_lazy_parameters(model: nn.Module, inputs: Sequence[object]) -> None:
    """Runs a network whose lazy modules have not run yet, which gives them their parameters."""
    with torch.inference_mode(False), torch.no_grad(), evaluation_mode(model), eager():
        model(*outside_inference(inputs))
