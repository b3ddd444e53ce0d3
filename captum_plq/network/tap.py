"""Taps the input of a network's embedding layer.

Hooks are set on a copy of the network's modules that shares its weights (see
:mod:`captum_plq.network.borrowed`), so no other call of the network ever meets them.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_plq._base.tracing import never_compiled
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.borrowed import borrowed, modules_of, own_copy
from captum_plq.network.exploration import Found, explore
from captum_plq.network.output import OutputSelector, embed
from captum_plq.network.rows import Site, run_in_turn, run_once, run_together
from captum_plq.network.state import eager

__all__ = ["EmbeddingTap"]


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
        run = run_together if found.takes_more_rows else run_in_turn
        with eager():
            return run(self._site(found, model, inputs), masks, differentiable, chunk_size)

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
        found = self._locate(model, inputs)
        with eager():
            return run_once(self._site(found, model, inputs))

    def _locate(self, model: nn.Module, inputs: Sequence[object]) -> Found:
        found = self._found
        if found is None or not found.holds_for(model, self.layer):
            found = self._found = explore(model, inputs, self.layer, self.output)
        return found

    def _site(self, found: Found, model: nn.Module, inputs: Sequence[object]) -> Site:
        return Site(own_copy(model), found.layer, tuple(inputs), self.output)
