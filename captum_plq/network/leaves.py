"""Cuts a network's graph at a layer, so that a backward ends there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_plq.network.borrowed import hookable

__all__ = ["LayerError", "LayerLeaves"]


class LayerError(ValueError):
    """There is no gradient at that layer; the message says why, and what to do."""


@dataclass(frozen=True)
class _Run:
    """One call of the layer: its tensors, and the embedding layer's rows if that ran before."""

    leaves: list[Tensor]
    is_tuple: bool
    embedded: int | None

    @property
    def device(self) -> torch.device:
        return self.leaves[0].device


class LayerLeaves:
    """What a layer takes or gives in one forward, as leaves of the graph behind it.

    Nothing in front of the layer is kept for the backward, and the backward ends there. Calls
    under ``no_grad`` do not count. The hooks stay, on modules that are nobody else's: a backward
    through a checkpointed block runs it again, and must meet the same operations.

    Args:

        layer (nn.Module): The layer, of a copy that is run once.
        embedding_layer (nn.Module): From which on, stochastic rows may follow each image's.
        passes (int): How many, if any do.
        of_input (bool): Its input in place of its output.
        in_front (bool): Refuse a layer whose values come after the dropout.
        device_ids (sequence of int, optional): Order of the devices of a ``DataParallel`` model.
    """

    def __init__(
        self,
        layer: nn.Module,
        embedding_layer: nn.Module,
        passes: int,
        *,
        of_input: bool = False,
        in_front: bool = False,
        device_ids: Sequence[int] | None = None,
    ) -> None:
        self._passes = passes
        self._of_input = of_input
        self._in_front = in_front
        self._order = {index: place for place, index in enumerate(device_ids or ())}
        self._shown = f"The layer {type(layer).__name__}"
        self._is_last = layer is embedding_layer and not of_input
        self._recording = True
        self._runs: list[_Run] = []
        self._embedded: dict[torch.device, int] = {}
        if of_input:
            hookable(layer).register_forward_pre_hook(self._enter, with_kwargs=True)
        else:
            hookable(layer).register_forward_hook(self._leave)
        # This hook comes after: the embedding layer's own output is not behind it.
        hookable(embedding_layer).register_forward_hook(self._note)

    def gradients(
        self, scalars: Tensor, selection: Tensor, retain_graph: bool = False
    ) -> tuple[Tensor, ...]:
        """Differentiate ``(selection * scalars).sum()`` at the layer, on the images' own rows.

        Args:

            scalars (Tensor): (B, ...), what the forward came to, under autograd.
            selection (Tensor): the shape of ``scalars``.
            retain_graph (bool): Another backward follows.

        Returns:
            *tuple[Tensor, ...]*: one gradient per tensor of the layer, (k B, ...), k rows for
            each image in turn.

        Raises:
            LayerError: if the layer did not run exactly once, has no part in the scalars, or
                its rows do not belong to single images.
        """
        self._recording = False
        runs = self._one_run_per_device()
        leaves = [leaf for run in runs for leaf in run.leaves]
        found: Sequence[Tensor | None] = [None] * len(leaves)
        if scalars.requires_grad:
            found = torch.autograd.grad(scalars, leaves, selection, retain_graph, allow_unused=True)
        if all(gradient is None for gradient in found):
            raise LayerError(
                f"{self._shown} has no part in the quality: its values do not reach the "
                "embedding, or the model cuts the gradient on the way."
            )
        slopes = iter(
            torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)
        )
        by_run = [[self._own_rows(next(slopes), run) for _ in run.leaves] for run in runs]
        together = tuple(
            torch.cat([part.to(scalars.device) for part in parts])
            for parts in zip(*by_run, strict=True)
        )
        for gradient in together:
            if gradient.ndim == 0 or gradient.shape[0] % len(scalars):
                raise LayerError(
                    f"{self._shown} has values of shape {tuple(gradient.shape)} for "
                    f"{len(scalars)} images: they do not belong to single images."
                )
        return together

    @property
    def in_tuple(self) -> bool:
        """Whether the layer has its tensors in a tuple."""
        return self._one_run_per_device()[0].is_tuple

    def _enter(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if not torch.is_grad_enabled():
            return None
        replaced = self._replace([*args, *kwargs.values()], is_tuple=False)
        return tuple(replaced[: len(args)]), dict(zip(kwargs, replaced[len(args) :], strict=True))

    def _leave(self, _: nn.Module, __: object, output: object) -> object:
        if not torch.is_grad_enabled():
            return None
        if isinstance(output, tuple) and not hasattr(output, "_fields"):
            return tuple(self._replace(output, is_tuple=True))
        return self._replace([output], is_tuple=False)[0]

    def _note(self, _: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor) and self._recording:
            self._embedded[output.device] = output.shape[0]

    def _replace(self, values: Sequence[object], is_tuple: bool) -> list[object]:
        """Replace floating-point tensors by copies of new leaves."""
        leaves: list[Tensor] = []
        replaced: list[object] = []
        for value in values:
            if isinstance(value, Tensor) and value.is_floating_point():
                leaves.append(value.detach().requires_grad_())
                replaced.append(leaves[-1].clone())  # what follows may write into it
            else:
                replaced.append(value)
        if not leaves:
            kinds = ", ".join(type(value).__name__ for value in values) or "nothing"
            raise LayerError(
                f"{self._shown} {'takes' if self._of_input else 'returns'} {kinds}, not "
                "floating-point tensors: name a layer that does."
            )
        if self._recording:
            embedded = self._embedded.get(leaves[0].device)
            if self._in_front and (self._is_last or embedded is not None):
                raise LayerError(
                    f"{self._shown} comes after the dropout, where the score looks at the "
                    "stochastic rows and not at the image's own: name a layer in front of the "
                    "embedding layer, or take target_scalar='node'."
                )
            self._runs.append(_Run(leaves, is_tuple or len(leaves) > 1, embedded))
        return replaced

    def _one_run_per_device(self) -> list[_Run]:
        if not self._runs:
            raise LayerError(
                f"{self._shown} was not run, or ran where hooks do not fire: name a module of "
                "this model that its forward calls."
            )
        if len({run.device for run in self._runs}) < len(self._runs):  # a DataParallel replica each
            raise LayerError(
                f"{self._shown} ran {len(self._runs)} times in one forward, so there is no one "
                "value to attribute to: name a layer that runs once."
            )

        def place(run: _Run) -> tuple[int, int]:
            index = run.device.index or 0
            return self._order.get(index, len(self._order)), index

        return sorted(self._runs, key=place)

    def _own_rows(self, gradient: Tensor, run: _Run) -> Tensor:
        if run.embedded is None or gradient.shape[0] != run.embedded * (self._passes + 1):
            return gradient
        own: Tensor = gradient.unflatten(0, (run.embedded, self._passes + 1))[:, 0]
        return own
