"""What every method is built from: one network, and the parameters all share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from captum_plq import SERFIQ, QualityModel

__all__ = ["Attribute", "Build", "Subject"]

Attribute = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) and their quality nodes (B, d) → the shape of the images, or (B,)."""


@dataclass(frozen=True)
class Subject:
    """What every method is built from: a network and the parameters they share.

    Args:

        model (nn.Module): Embedding network, (B, C, H, W) → (B, d), in evaluation mode.
        low (float): The value of a black pixel: the baseline of those that need one.
        high (float): The value of a white pixel.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Seed of the dropout masks.
        rows (int): Images that methods with many forwards put through at a time.
    """

    model: nn.Module
    low: float = 0.0
    high: float = 255.0
    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    rows: int = 32

    def serfiq(self, **options: Any) -> SERFIQ:
        """A new SER-FIQ of this network; ``options`` go to :class:`captum_plq.SERFIQ`."""
        return SERFIQ(
            self.model, passes=self.passes, dropout=self.dropout, seed=self.seed, **options
        )

    @cached_property
    def quality_model(self) -> QualityModel:
        """M_Q, the target of all methods."""
        return QualityModel(self.serfiq())

    def node(self, images: Tensor) -> Tensor:
        """Weights (B, d) of the quality node of each image."""
        return self.quality_model.node(images)

    def at_once(self, images: Tensor) -> int:
        """How many altered copies of a whole batch fit into ``rows``, at least one."""
        return max(1, self.rows // images.shape[0])


Build = Callable[[Subject], Attribute]
"""Makes a method for a network; raises whatever speaks against it."""
