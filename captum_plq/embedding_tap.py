"""One forward of a network gives the clean embedding and the m stochastic ones.

A forward hook on the embedding layer keeps its clean output under autograd, runs the layer
itself on m randomly masked copies of its detached input, and returns all rows together,
(B, m + 1, ...) flattened. Whatever follows (BatchNorm, normalisation) is then applied by
the model's own code. The network in front of the layer runs once, without copies.

Where what follows the layer insists on one row per image, it takes m full passes in place of that.

Hooks are set on a copy of the network's modules that shares its weights (see
:mod:`captum_plq._borrowed`), so no other call of the network ever meets them.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_plq._borrowed import (
    borrowed,
    hooked,
    modules_of,
    original_of,
    originals_that_run,
    own_copy,
)
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
    chosen_layer,
    close_rows,
    find_embedding_layer,
    named_layer,
)
from captum_plq.embedding_output import embed
from captum_plq.independence import check_independence, refuse_not_finite
from captum_plq.stochastic_rows import layer_features, masked_rows, rows_appended

__all__ = ["EmbeddingTap", "first_images", "structure_of"]

Answer = TypeVar("Answer")


class _Found(NamedTuple):
    """What was found out about a network, and of what network."""

    structure: int
    layer: str
    takes_more_rows: bool
    hooks: tuple[int, ...]
    """Of the caller's, on the layer: they decide whether it can be run anew."""


class EmbeddingTap:
    """Taps the input of a network's embedding layer.

    Args:

        layer (str, optional): Qualified name of the embedding layer. ``None``: the one that the
            network states in an attribute ``embedding_layer``, or the one found at the first
            call, and again when the modules of the network have changed; see
            :func:`~captum_plq.embedding_layer.find_embedding_layer`.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, see :func:`~captum_plq.embedding_layer.select_embedding`.
    """

    def __init__(self, layer: str | None = None, output: OutputSelector = None) -> None:
        self.layer = layer
        self.output = output
        self._found: _Found | None = None

    @property
    def layer_name(self) -> str | None:
        """Name of the embedding layer, once it has been located."""
        return None if self._found is None else self._found.layer

    @never_compiled
    def locate(self, model: nn.Module, inputs: Sequence[object]) -> str:
        """Name of the embedding layer, found and checked at the first call.

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
        """The clean embedding alone, (B, ...), under the caller's autograd mode."""
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
        """Clean and stochastic embeddings in one forward of the network.

        Args:

            model (nn.Module): The network, which is left as it is. A copy made by
                :func:`~captum_plq._borrowed.borrowed` keeps the hooks.
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
        network = own_copy(model)
        with eager():
            if found.takes_more_rows:
                return self._run(network, found.layer, inputs, masks, differentiable, chunk_size)
            return self._run_in_turn(network, found.layer, inputs, masks, differentiable)

    @never_compiled
    def features(self, model: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor, Tensor]:
        """The clean embedding, and what went into and came out of the embedding layer.

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
            return self._features(own_copy(model), name, inputs)

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
            question (Callable): Of a copy of the model in evaluation mode, the layer's name, the
                inputs and the selector of the embedding.

        Returns:
            *Answer*: what ``question`` returned.
        """
        name = self.locate(model, inputs)
        with undisturbed(model, inputs) as network, torch.no_grad():
            return question(network, name, outside_inference(inputs), self.output)

    def _locate(self, model: nn.Module, inputs: Sequence[object]) -> _Found:
        structure = self._key(model)
        found = self._found
        if (
            found is None
            or found.structure != structure
            or found.hooks != _hooks_on(original_of(model).get_submodule(found.layer))
        ):
            if any(is_lazy(x) for x in (*model.parameters(), *model.buffers())):
                _make_lazy_parameters(original_of(model), inputs)
                structure = self._key(model)
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
                example, embedding = self._example(network, inputs)
                try:
                    name, takes_more_rows = self._explore(network, example, embedding)
                except EmbeddingLayerError as error:
                    if ran:
                        raise _hidden(ran[-1]) from error
                    raise
                self._refuse_hidden_tail(network, name, example, ran)
            self._compare(original, example, embedding)
            hooks = _hooks_on(original.get_submodule(name))
            found = self._found = _Found(structure, name, takes_more_rows, hooks)
        return found

    def _key(self, model: nn.Module) -> int:
        return hash((structure_of(model), chosen_layer(model, self.layer)))

    def _refuse_hidden_tail(
        self, network: nn.Module, name: str, example: Sequence[object], ran: list[str]
    ) -> None:
        """Raises if a module that is run in the place of its copy runs behind the layer.

        In front of the layer, or within it, it does no harm.
        """
        if not ran:
            return
        ran.clear()
        until: list[int] = []
        with hooked(named_layer(network, name), lambda *_: until.append(len(ran))):
            embed(network, example, self.output)
        if ran[until[-1] :]:
            raise _hidden(ran[-1])

    def _compare(self, model: nn.Module, example: Sequence[object], embedding: Tensor) -> None:
        """Checks that the network gives what its copy gave, if it can be run without a trace."""
        if any(module.training for module in modules_of(model)):
            return
        with undisturbed(model, example), torch.no_grad():
            same = close_rows(embed(model, example, self.output), embedding)
        if not same:
            raise EmbeddingLayerError(
                "The network gives another embedding than a copy of its modules: a hook or a "
                "function of its own writes to, or reads from, an object that cannot be seen in "
                "its attributes. Keep such state in attributes of its modules."
            )

    def _explore(
        self, network: nn.Module, example: Sequence[object], embedding: Tensor
    ) -> tuple[str, bool]:
        """The layer's name, and whether what follows takes more rows than images."""
        refuse_not_finite(embedding)
        name = chosen_layer(network, self.layer)
        if name is None:
            name = find_embedding_layer(network, example, self.output)
        else:
            check_embedding_layer(network, name, example, self.output, embedding)
        check_independence(network, example, embedding, self.output)
        try:
            self._check_rows(network, name, example, embedding, self._run)
        except EmbeddingLayerError as error:
            try:
                self._check_rows(network, name, example, embedding, self._run_in_turn)
            except EmbeddingLayerError:
                raise error from None
            warnings.warn(
                f"What follows the layer {name!r} takes one row per image only, so each of the "
                "stochastic passes runs through the whole network, which is slow. "
                f"{error}",
                stacklevel=6,
            )
            return name, False
        return name, True

    def _example(
        self, network: nn.Module, inputs: Sequence[object]
    ) -> tuple[tuple[object, ...], Tensor]:
        """Two images and their embeddings, or as many as the caller has if it must be as many."""
        few = _leaves(first_images(inputs, 2))
        all_of_them = _leaves(inputs)
        try:
            embedding = embed(network, few, self.output)
            if _one_each(few, embedding):
                return few, embedding
        except Exception:  # whatever the model's own code objects to
            few = all_of_them
        try:
            embeddings = embed(network, all_of_them, self.output)
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

    def _features(
        self, network: nn.Module, name: str, inputs: Sequence[object]
    ) -> tuple[Tensor, Tensor, Tensor]:
        seen: list[tuple[Tensor, Tensor]] = []

        def see(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], y: Any) -> None:
            # a copy: what follows the layer may write into its output
            seen.append((layer_features(layer, (*args, *kwargs.values())), y.clone()))

        with hooked(named_layer(network, name), see, with_kwargs=True, in_turn=True):
            embedding = embed(network, inputs, self.output)
        if len(seen) != 1 or seen[0][0].shape[0] != embedding.shape[0]:
            raise EmbeddingLayerError(
                f"The embedding layer {name!r} must run exactly once, on one row per image."
            )
        return embedding, *seen[0]

    def _run(
        self,
        network: nn.Module,
        name: str,
        inputs: Sequence[object],
        masks: DropoutMasks,
        differentiable: bool,
        chunk_size: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """All rows in one forward."""
        calls = rows_appended(named_layer(network, name), masks, differentiable, chunk_size)
        embeddings = embed(network, inputs, self.output)
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

    def _run_in_turn(
        self,
        network: nn.Module,
        name: str,
        inputs: Sequence[object],
        masks: DropoutMasks,
        differentiable: bool,
    ) -> tuple[Tensor, Tensor]:
        """The clean row in one forward, and each stochastic one in one more."""
        clean, features, _ = self._features(network, name, inputs)
        kept = masks.for_features(features.shape[1:], features.device)
        detached = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
        rows = []
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            for mask in kept:
                passing = borrowed(original_of(network))  # a copy each, for the backward's sake
                masked = features * masks.scale * mask
                with masked_rows(named_layer(passing, name), masked):
                    rows.append(embed(passing, detached, self.output))
        if any(row.shape != clean.shape for row in rows):
            raise EmbeddingLayerError(
                f"Embeddings have shape {tuple(clean.shape)} without dropout before {name!r}, but "
                "another one with it."
            )
        return clean, torch.stack(rows, dim=1)

    def _check_rows(
        self,
        network: nn.Module,
        name: str,
        example: Sequence[object],
        embedding: Tensor,
        run: Callable[..., tuple[Tensor, Tensor]],
    ) -> None:
        """Checks that stochastic rows come out right and leave the clean ones alone."""
        try:
            clean, appended = run(network, name, example, ProbeMasks(), False)
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
