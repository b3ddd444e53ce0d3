"""What score maps are built from: a network, reference faces, and what methods share on a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from benchmarks.subjects.subject import Subject
from captum_plq.metrics.random_weights import with_random_weights

__all__ = ["MapSubject"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class MapSubject(Subject):
    """A network to explain, with faces of people who are not among those explained.

    Args:

        reference (Tensor, optional): (n, 3, H, W), 0–255, on any device, any number type: what
            reference-relative maps are relative to. ``None``: there are none.
        batch (int): Reference faces at a time.
    """

    reference: Tensor | None = None
    batch: int = 16
    _shared: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, images: Tensor, compute: Callable[[], _T]) -> _T:
        """What ``compute`` gives for these images, kept until other images come.

        The quality node and the maps that several methods start from are so made once. Other
        images are another tensor, or the same one written to since.

        Args:

            key (str): Of what is computed.
            images (Tensor): What it is computed of.
            compute (Callable): Makes it.

        Returns:
            *whatever compute returns*
        """
        last = self._shared.get("images")
        if last is None or last[0] is not images or last[1] != images._version:
            self._shared.clear()
            self._shared["images"] = (images, images._version)
        if key not in self._shared:
            self._shared[key] = compute()
        return cast("_T", self._shared[key])

    def node(self, images: Tensor) -> Tensor:
        """Weights (B, d) of the quality node of each image, made once per batch."""
        return self.once("node", images, lambda: super(MapSubject, self).node(images))

    def quality(self, images: Tensor) -> Tensor:
        """Q (B,) of each image (Eq. 1), by sampled passes; the same masks for all images."""
        with torch.no_grad():
            quality: Tensor = self.quality_model.serfiq(images)
        return quality.detach()

    def reference_batches(self) -> list[Tensor]:
        """The reference faces as the network takes them, some at a time.

        Raises:
            ValueError: if there are none.
        """
        if self.reference is None:
            raise ValueError("needs reference faces, but there are none")
        parameter = next(self.model.parameters())
        return [part.to(parameter) for part in self.reference.split(self.batch)]

    @cached_property
    def good_reference(self) -> Tensor:
        """(n,) bool: reference faces whose Q is at least the median, as in ``calibrate``."""
        quality = torch.cat([self.quality(part) for part in self.reference_batches()]).double()
        return quality >= quality.quantile(0.5)

    @cached_property
    def random(self) -> MapSubject:
        """The same with random weights, BatchNorm statistics those of the reference faces."""
        images = None if self.reference is None else torch.cat(self.reference_batches())
        return self.of(with_random_weights(self.model, self.seed, images=images))

    def of(self, model: nn.Module, reference: Tensor | None = None) -> MapSubject:
        """The same of another network, or reference; nothing made for this one is taken over.

        Args:

            model (nn.Module): The network.
            reference (Tensor, optional): Reference faces. ``None``: the same.
        """
        return MapSubject(
            model,
            self.low,
            self.high,
            self.passes,
            self.dropout,
            self.seed,
            self.rows,
            self.reference if reference is None else reference,
            self.batch,
        )
