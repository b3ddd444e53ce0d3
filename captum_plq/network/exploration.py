"""The first look at a network: its embedding layer, and what the rest of it lets through."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from captum_plq.functional.masks import ProbeMasks
from captum_plq.network.borrowed import STRUCTURE, borrowed, hookable, modules_of, original_of
from captum_plq.network.embedding_layer import (
    check_embedding_layer,
    chosen_layer,
    close_rows,
    find_embedding_layer,
    named_layer,
)
from captum_plq.network.independence import check_independence, refuse_not_finite
from captum_plq.network.output import EmbeddingLayerError, Example, OutputSelector, embed
from captum_plq.network.rows import Site, run_in_turn, run_together
from captum_plq.network.state import outside_inference, undisturbed, unnoticed

__all__ = ["Found", "check_embeddings", "explore", "first_images", "structure_of"]


class Found(NamedTuple):
    """What was found out about a network, and about which one.

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
        """Tell whether it still holds, as far as modules and hooks show."""
        return self.key == _key(model, layer) and self.hooks == _hooks_on(model, self.layer)


def explore(
    model: nn.Module, inputs: Sequence[object], layer: str | None, output: OutputSelector
) -> Found:
    """Find and check the embedding layer of a network.

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
    original = original_of(model)
    if any(is_lazy(x) for x in (*model.parameters(), *model.buffers())):
        raise EmbeddingLayerError(
            "The model has lazy modules without parameters: run it on some images first, in "
            "evaluation mode, or load its weights."
        )
    if any(p.is_inference() for p in model.parameters()):
        raise EmbeddingLayerError(
            "The model's parameters were made in inference mode, where autograd cannot "
            "use them: build or load the model outside torch.inference_mode()."
        )
    with (
        undisturbed(model, inputs) as network,
        torch.enable_grad(),
        _originals_that_run(original) as ran,
    ):
        example = _example(network, inputs, output)
        try:
            name, more = _layer_and_rows(example, layer)
            if ran:
                _refuse_hidden_tail(example, name, ran)
        except EmbeddingLayerError as error:
            if ran:
                raise _hidden(ran) from error
            raise
    if not any(module.training for module in modules_of(original)):  # it can be run without a trace
        with unnoticed(example.inputs), torch.no_grad():
            same = close_rows(embed(original, example.inputs, output), example.embedding)
        if not same:
            raise EmbeddingLayerError(
                "The network gives another embedding than a copy of its modules: a hook or a "
                "function of its own writes to, or reads from, an object that cannot be seen in "
                "its attributes. Keep such state in attributes of its modules."
            )
    return Found(_key(model, layer), name, more, _hooks_on(model, name))


def check_embeddings(model: nn.Module, inputs: Sequence[object], output: OutputSelector) -> None:
    """Raise unless a network gives each image an embedding of its own, and the same each time.

    Args:

        model (nn.Module): The network; copies of it are run on two images.
        inputs (sequence): Its arguments, images first, (B, ...).
        output (int, str, Callable or None): Which part of the output is the embedding.

    Raises:
        EmbeddingLayerError: if something is random, or images depend on each other.
        UnusableImagesError: if the network gives NaN or infinite embeddings.
    """
    with undisturbed(model, inputs) as network, torch.no_grad():
        example = _example(network, inputs, output)
        refuse_not_finite(example.embedding)
        if not close_rows(example.again(), example.embedding):
            raise EmbeddingLayerError(
                "Two forwards of the same images gave different embeddings: some part of the "
                "model is random in evaluation mode (e.g. F.dropout without "
                "training=self.training)."
            )
        check_independence(example)


def structure_of(model: nn.Module) -> int:
    """Return a number that changes when modules are put in, taken out or made anew.

    Or given another ``forward``; not when weights change.
    """
    known = vars(model).get(STRUCTURE)
    if known is not None:  # a copy that is kept as long as its original stays the same
        return int(known)
    parts: list[object] = []
    for module in modules_of(original_of(model)):
        parts += [type(module), id(vars(module).get("forward")), *module._modules]
        for p in module._parameters.values():
            parts.append(None if p is None or is_lazy(p) else p.shape)
    return hash(tuple(parts))


def first_images(inputs: Sequence[object], count: int) -> tuple[object, ...]:
    """Return the first images of a batch; all if other tensors may come per image too."""
    images, *others = inputs
    if isinstance(images, Tensor) and not any(isinstance(x, Tensor) for x in others):
        return (images[:count], *others)
    return tuple(inputs)


def _key(model: nn.Module, layer: str | None) -> int:
    return hash((structure_of(model), chosen_layer(model, layer)))


def _hooks_on(model: nn.Module, name: str) -> tuple[int, ...]:
    layer = original_of(model).get_submodule(name)
    return tuple(map(id, (*layer._forward_hooks.values(), *layer._forward_pre_hooks.values())))


def _example(network: nn.Module, inputs: Sequence[object], output: OutputSelector) -> Example:
    """Two images and their embeddings, or as many as the caller has if it must be as many."""
    explained = [isinstance(x, Tensor) and x.requires_grad for x in inputs]
    explained[0] |= not any(explained)

    def run_on(given: Sequence[object]) -> Example:
        leaves: tuple[Any, ...] = tuple(
            x.detach().requires_grad_(wanted)
            if isinstance(x, Tensor) and x.is_floating_point()
            else x
            for x, wanted in zip(outside_inference(given), explained, strict=True)
        )
        return Example(network, leaves, output, embed(network, leaves, output))

    few = first_images(inputs, 2)
    with suppress(Exception):  # whatever the model's own code objects to
        example = run_on(few)
        if not isinstance(few[0], Tensor) or len(few[0]) == len(example.embedding):
            return example
    try:
        return run_on(inputs)
    except Exception as error:
        if isinstance(inputs[0], Tensor) and hasattr(error, "add_note"):  # Python 3.11
            error.add_note(
                f"The network raised this on images of shape {tuple(inputs[0].shape)}. It is "
                "run on batches, (B, C, H, W), of the size that it takes."
            )
        raise


def _layer_and_rows(example: Example, layer: str | None) -> tuple[str, bool]:
    """The layer's name, and whether what follows takes more rows than images."""
    refuse_not_finite(example.embedding)
    name = chosen_layer(example.network, layer)
    if name is None:
        name = find_embedding_layer(example)
    else:
        check_embedding_layer(example, name)
    check_independence(example)
    try:
        _check_rows(example, name, run_together)
    except EmbeddingLayerError as error:
        try:
            _check_rows(example, name, run_in_turn)
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


def _check_rows(example: Example, name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Raise unless stochastic rows come out right and leave the clean ones alone."""
    network = borrowed(original_of(example.network))
    try:
        clean, appended = run(Site(network, name, example.inputs, example.output), ProbeMasks())
    except EmbeddingLayerError:
        raise
    except Exception as error:  # whatever the model's own code objects to
        raise EmbeddingLayerError(
            f"Rows put in at {name!r} do not pass through the rest of the model: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not close_rows(clean, example.embedding):
        raise EmbeddingLayerError(
            f"Rows put in at {name!r} change the embeddings of the others: what follows "
            "the layer mixes the rows of a batch."
        )
    if not close_rows(appended[:, 0], example.embedding):
        raise EmbeddingLayerError(
            f"Run anew on its own input, {name!r} gives another embedding: it changes its "
            "input in place, or a hook of yours changes its output. Name another layer with "
            "embedding_layer=, or take the hook off."
        )


@contextmanager
def _originals_that_run(model: nn.Module) -> Iterator[list[str]]:
    """Record the names of modules that run in this thread in place of their copies.

    One in training mode is refused before it runs.
    """
    names = {
        id(module): name
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)
    }
    thread, ran = threading.get_ident(), list[str]()

    def look(module: nn.Module, _: object) -> None:
        if id(module) in names and threading.get_ident() == thread:
            ran.append(names[id(module)])
            if module.training:
                raise _hidden(ran)

    with register_module_forward_pre_hook(look):
        yield ran


def _refuse_hidden_tail(example: Example, name: str, ran: list[str]) -> None:
    """Raise if a module that is run in the place of its copy runs behind the layer.

    In front of the layer, or within it, it does no harm.
    """
    ran.clear()
    layer = hookable(named_layer(example.network, name))
    with layer.register_forward_hook(lambda *_: ran.clear()):
        example.again()
    if ran:
        raise _hidden(ran)


def _hidden(ran: list[str]) -> EmbeddingLayerError:
    return EmbeddingLayerError(
        f"The module {ran[-1]!r} is run by something that does not show in the attributes of the "
        "network's modules (a weak reference, a registry, a function elsewhere), so dropout cannot "
        "be put before a layer without touching other users of the network. Hold the module in an "
        "attribute, a list or a dictionary of the module that runs it."
    )
