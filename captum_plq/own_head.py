"""An embedding layer and what follows it, run apart from the network where that is the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from captum_plq.affine_head import NotAffineError, find_affine_head
from captum_plq.dropout_masks import DropoutMasks
from captum_plq.embedding_layer import close_rows
from captum_plq.embedding_tap import EmbeddingTap, first_images
from captum_plq.stochastic_rows import rows_through

__all__ = ["OwnHead"]


class OwnHead:
    """The modules from the embedding layer to the embedding, by their names.

    Stochastic rows that are run through them need not go through the network all at once, nor
    wait there for the backward.

    Args:

        names (sequence of str): Qualified names, the embedding layer first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._around = {
            ".".join(name.split(".")[:depth])
            for name in names
            for depth in range(name.count(".") + 2)
        }

    @classmethod
    def of(
        cls, model: nn.Module, tap: EmbeddingTap, inputs: Sequence[object], normalize: bool
    ) -> OwnHead | None:
        """Finds a network's head, and checks it against the network's own stochastic rows.

        Args:

            model (nn.Module): The network.
            tap (EmbeddingTap): Of its embedding layer.
            inputs (sequence): Arguments of the model to check with, images first, (B, ...).
            normalize (bool): Whether only the direction of embeddings matters, so that the
                model may scale them after the last module.

        Returns:
            *OwnHead*, or ``None`` if what follows the layer is not a chain of linear layers and
            BatchNorms, or the model does something else besides.
        """
        if any(isinstance(module, nn.DataParallel) for module in model.modules()):
            return None  # each replica has layers of its own
        inputs = first_images(inputs, 2)
        try:
            affine = tap.examine(model, inputs, find_affine_head)
        except NotAffineError:
            return None
        names = {module: name for name, module in model.named_modules()}
        head = cls([names[module] for module in (affine.layer, *affine.tail)])
        layers, masks = head.layers(model), DropoutMasks(4)
        if layers is None:
            return None
        with torch.no_grad():
            _, features, output = tap.features(model, inputs)
            _, expected = tap.run(model, inputs, masks)
            try:
                rows = rows_through(layers, features, output, masks, None)
            except (RuntimeError, ValueError):  # shapes that only the model's own code brings about
                return None
        rows, expected = rows.flatten(2), expected.flatten(2)
        if normalize:
            rows, expected = F.normalize(rows, dim=-1), F.normalize(expected, dim=-1)
        return head if close_rows(rows, expected) else None

    def layers(self, model: nn.Module) -> list[nn.Module] | None:
        """The modules; ``None`` if a hook that was set on or around one may change what they do."""
        around = [model.get_submodule(name) for name in self._around]
        if any(module._forward_hooks or module._forward_pre_hooks for module in around):
            return None
        return [model.get_submodule(name) for name in self.names]
