"""SER-FIQ's quality with its dropout on the last spatial map, divided over the places of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from captum_plq._base.late import reads_once
from captum_plq._base.tracing import never_compiled
from captum_plq.functional.local import (
    PlaceShares,
    place_noise,
    quality_from_snr,
    signal_to_noise,
)
from captum_plq.network.forward_function import as_module
from captum_plq.network.independence import refuse_uninformative
from captum_plq.network.output import OutputSelector
from captum_plq.network.spatial.map import Forward
from captum_plq.network.spatial.tail import SpatialTail
from captum_plq.network.state import check_images
from captum_plq.quality.serfiq import SERFIQ, Assessment

__all__ = ["SpatialSERFIQ"]


class SpatialSERFIQ(nn.Module):
    r"""SER-FIQ's quality, with dropout on the last spatial map, to leading order.

    Where the embedding layer takes the flattened map, as in ArcFace's ResNets, that is SER-FIQ's
    own place. Where a pooling or a global convolution lies between, dropout is moved in front of
    it, and this is another number: judge with
    :func:`~captum_plq.suitability.assess_suitability` whether it tells good from degraded images.

    Args:

        model (nn.Module or Callable): Embedding network, (B, C, H, W) → (B, d), affine from its
            last spatial map on, see :class:`~captum_plq.network.spatial.tail.SpatialTail`.
        dropout (float): p in (0, 1). Default: 0.5, the paper's.
        output (int, str, Callable or None): Which part of the model's output is the embedding.

    Shape:

        - Input: what ``model`` takes; the images first, (B, ...), floating point.
        - Output: (B,), in (0, 1), without a gradient.

    Examples::

        >>> quality = SpatialSERFIQ(model)(images)
    """

    differentiable: bool = False
    needs: str = "a last spatial map, and what is affine, or nearly, behind it"

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        dropout: float = 0.5,
        output: OutputSelector = None,
    ) -> None:
        super().__init__()
        if not 0 < dropout < 1:
            raise ValueError(f"dropout must lie between 0 and 1, but is {dropout}.")
        self.model = as_module(model)
        self.dropout = dropout
        self.tail = SpatialTail(output)

    @classmethod
    def of(cls, serfiq: SERFIQ) -> SpatialSERFIQ:
        """Return that of a SERFIQ's model, dropout rate and output."""
        return cls(serfiq.model, dropout=serfiq.masks.dropout, output=serfiq.tap.output)

    @never_compiled
    @reads_once
    def forward(self, *inputs: object) -> Tensor:
        """Return the quality of each image, (B,)."""
        return quality_from_snr(self.shares_with_snr(*inputs)[1])

    @never_compiled
    @reads_once
    def shares(self, *inputs: object) -> PlaceShares:
        """Return each place's share of the embedding's signal and noise.

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *PlaceShares*: (B, H, W) and (B,), from one forward.

        Raises:
            ValueError: as :class:`~captum_plq.network.spatial.map.SpatialTailError`, or as
                :class:`~captum_plq.errors.UnusableImagesError` for NaN pixels and embeddings that
                are not finite or all zero.
        """
        return self._shares(inputs)[0]

    @never_compiled
    @reads_once
    def shares_with_snr(self, *inputs: object) -> tuple[PlaceShares, Tensor]:
        """Return :meth:`shares` and their signal-to-noise ratio.

        Args:

            inputs: As for :meth:`shares`.

        Returns:
            *tuple[PlaceShares, Tensor]*: the latter (B,), of which the quality is a function.

        Raises:
            ValueError: as :meth:`shares`.

        Examples::

            >>> shares, snr = SpatialSERFIQ(model).shares_with_snr(images)
        """
        return self._shares(inputs)

    def _shares(
        self, inputs: tuple[object, ...], forward: Forward | None = None
    ) -> tuple[PlaceShares, Tensor]:
        check_images(inputs[:1])
        run = self.tail.run(self.model, inputs, self.dropout, forward)
        with torch.no_grad():
            noise = place_noise(run.features, run.squared_norms, self.dropout)
            shares = PlaceShares(run.evidence, noise, run.offset)
            snr = signal_to_noise(shares)
        refuse_uninformative(inputs[0], run.embedding, snr, unmoved=math.inf)
        return shares, snr

    @never_compiled
    @reads_once
    def assess_with(
        self, serfiq: SERFIQ, *inputs: object, standard_error: bool = False
    ) -> tuple[Assessment, PlaceShares]:
        """Return what a SERFIQ of the same model assesses, and :meth:`shares`, from one forward.

        Args:

            serfiq (SERFIQ): The one of :meth:`of`.
            inputs: What the model takes, the images first, (B, ...).
            standard_error (bool): As for :meth:`SERFIQ.assess <captum_plq.SERFIQ.assess>`.

        Returns:
            *tuple[Assessment, PlaceShares]*: the embedding detached.

        Raises:
            ValueError: as :meth:`shares` and :meth:`SERFIQ.assess <captum_plq.SERFIQ.assess>`; or
                if the two need a forward each on this network, as where dropout of the embedding
                layer's input lies before the last spatial map.

        Examples::

            >>> spatial = SpatialSERFIQ.of(serfiq)
            >>> (_, quality, _), shares = spatial.assess_with(serfiq, images)
        """
        told: list[Assessment] = []

        def forward(network: nn.Module, given: Sequence[object]) -> Tensor:
            told.append(serfiq.assess_through(network, *given, standard_error=standard_error))
            return told[-1].embedding

        shares, _ = self._shares(inputs, forward)
        return told[-1]._replace(embedding=told[-1].embedding.detach()), shares

    def extra_repr(self) -> str:
        """Return the parameters, for ``print``."""
        return f"dropout={self.dropout}"
