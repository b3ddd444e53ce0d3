"""A network to be explained, with the settings that all methods and maps share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from benchmarks.subjects.eigenfaces import Eigenfaces
from captum_plq import SERFIQ, QualityModel
from captum_plq.metrics.random_weights import with_random_weights

_T = TypeVar("_T")


def layers_that_ran(
    model: nn.Module, images: Tensor, kinds: type[nn.Module] | tuple[type[nn.Module], ...]
) -> list[tuple[nn.Module, Tensor]]:
    """Return the layers of some classes that run on images, with their outputs, in that order."""
    ran: list[tuple[nn.Module, Tensor]] = []
    handles = [
        layer.register_forward_hook(lambda own, _, output: ran.append((own, output)))
        for layer in model.modules()
        if isinstance(layer, kinds)
    ]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return ran


@dataclass(frozen=True)
class ExplainedNetwork:
    """What every method and every map is built from.

    Args:

        model (nn.Module): Embedding network, (B, C, H, W) → (B, d), in evaluation mode.
        low (float): The value of a black pixel: the baseline of methods that need one.
        high (float): The value of a white pixel.
        passes (int): m of SER-FIQ.
        dropout (float): p of SER-FIQ.
        seed (int): Seed of the dropout masks.
        rows (int): Images per forward in methods that take many forwards.
        reference (Tensor, optional): (n, 3, H, W), 0–255, on any device and of any number type:
            faces of other people than those explained, which relative maps compare with.
        batch (int): Reference faces per forward.
        judge (ExplainedNetwork, optional): Whose Q chooses the better half of the reference faces.
            ``None``: this one's.
    """

    model: nn.Module
    low: float = 0.0
    high: float = 255.0
    passes: int = 100
    dropout: float = 0.5
    seed: int = 0
    rows: int = 32
    reference: Tensor | None = None
    batch: int = 16
    judge: ExplainedNetwork | None = None
    _shared: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    _untrained: dict[int, ExplainedNetwork] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def serfiq(self, **options: Any) -> SERFIQ:
        """Return a new SER-FIQ of this network; ``options`` go to :class:`captum_plq.SERFIQ`."""
        return SERFIQ(
            self.model, passes=self.passes, dropout=self.dropout, seed=self.seed, **options
        )

    @cached_property
    def quality_model(self) -> QualityModel:
        """M_Q, the target of all methods."""
        return QualityModel(self.serfiq())

    def node(self, images: Tensor) -> Tensor:
        """Return the weights (B, d) of each image's quality node, computed once per batch."""
        return self.once("node", images, lambda: self.quality_model.node(images))

    def quality(self, images: Tensor) -> Tensor:
        """Return Q (B,) of each image (Eq. 1), sampled with the same masks for all images."""
        with torch.no_grad():
            quality: Tensor = self.quality_model.serfiq(images)
        return quality.detach()

    def once(self, key: str, images: Tensor, compute: Callable[[], _T]) -> _T:
        """Return ``compute()``, called only once for the same key and images.

        The quality node, and maps that several methods start from, are computed once per batch.
        Only the last batch is kept; a tensor that has been written to since is another batch.

        Args:

            key (str): Names what is computed.
            images (Tensor): What it is computed from.
            compute (Callable): Computes it.
        """
        last = self._shared.get("images")
        if last is None or last[0] is not images or last[1] != images._version:
            self._shared.clear()
            self._shared["images"] = (images, images._version)
        if key not in self._shared:
            self._shared[key] = compute()
        return cast("_T", self._shared[key])

    def kept(self, key: Hashable, compute: Callable[[], _T]) -> _T:
        """Return ``compute()``, called only once for the same key: what the reference faces show.

        Args:

            key (hashable): Names what is computed, for all who ask.
            compute (Callable): Computes it from this network and its reference.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        return cast("_T", self._kept[key])

    def at_once(self, images: Tensor) -> int:
        """Return how many altered copies of a whole batch fit into ``rows``, at least one."""
        return max(1, self.rows // images.shape[0])

    def reference_batches(self) -> list[Tensor]:
        """Return the reference faces on the network's device, in its dtype, batch by batch.

        Raises:
            ValueError: if there are none.
        """
        if self.reference is None:
            raise ValueError("needs reference faces, but there are none")
        parameter = next(self.model.parameters())
        return [part.to(parameter) for part in self.reference.split(self.batch)]

    @cached_property
    def better_reference(self) -> Tensor:
        """(n,) bool: reference faces whose Q is at least the median, as in ``calibrate``."""
        if self.judge is not None:
            return self.judge.better_reference
        quality = torch.cat([self.quality(part) for part in self.reference_batches()]).double()
        return quality >= quality.quantile(0.5)

    @cached_property
    def eigenfaces(self) -> Eigenfaces:
        """The principal components of the reference faces; the network plays no part."""
        return Eigenfaces.of(torch.cat(self.reference_batches()))

    def untrained(self, number: int = 0) -> ExplainedNetwork:
        """Return the same network with random weights, BatchNorm statistics of the reference faces.

        What it is compared with are the same reference faces: the trained network chooses them. An
        untrained one's Q follows an image's contrast, and among faces chosen by it, whatever has
        little contrast is unusual.

        Args:

            number (int): Which weights: their seed is ``seed + number``. Each is made once.
        """
        if number not in self._untrained:
            images = None if self.reference is None else torch.cat(self.reference_batches())
            random = with_random_weights(self.model, self.seed + number, images=images)
            self._untrained[number] = self._null(random)
        return self._untrained[number]

    def with_reference(self, reference: Tensor, nulls: Iterable[int] = ()) -> ExplainedNetwork:
        """Return the same network with other reference faces.

        Args:

            reference (Tensor): (n, 3, H, W), 0–255.
            nulls (iterable of int): Numbers of untrained networks that are to stay as they are,
                with the BatchNorm statistics of the present reference.
        """
        other = self.of(self.model, reference)
        for number in nulls:
            other._untrained[number] = other._null(self.untrained(number).model)
        return other

    def of(self, model: nn.Module, reference: Tensor | None = None) -> ExplainedNetwork:
        """Return the same settings for another network; nothing computed so far is taken over.

        Args:

            model (nn.Module): The network.
            reference (Tensor, optional): Reference faces. ``None``: the same ones.
        """
        kept = self.reference if reference is None else reference
        return replace(self, model=model, reference=kept)

    def _null(self, model: nn.Module) -> ExplainedNetwork:
        return replace(self.of(model), judge=self)
