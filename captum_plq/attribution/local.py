"""Local quality as a Captum attribution method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_plq._base.late import reads_once
from captum_plq._base.tracing import never_compiled
from captum_plq.attribution.place_attribution import PlaceAttribution, only_images
from captum_plq.attribution.quality_gradient import Inputs, extra_arguments
from captum_plq.functional.local import (
    LocalReference,
    PlaceShares,
    local_quality,
    quality_from_snr,
)
from captum_plq.quality.serfiq import SERFIQ
from captum_plq.quality.spatial import SpatialSERFIQ

__all__ = ["LocalQuality"]


class LocalQuality(PlaceAttribution):
    r"""Where an image loses its quality, and how much of it: a map that adds up to it.

    SER-FIQ's quality, with dropout on the last spatial map, is to leading order a function of one
    ratio, which is exactly a sum over the places of that map; see
    :mod:`captum_plq.functional.local`. So each place has a share of Q - Q₀, the difference to a
    reference: negative where the place takes quality away. One forward of the network; no
    gradient of the pixels, no training. Not in the paper.

    It needs a network that is affine from its last spatial map on, as ArcFace's ResNets and
    MobileFaceNets are: flattening, pooling, linear layers, BatchNorm. That is checked. The map's
    resolution is that of the last spatial map, 7×7 places in most face networks.

    Args:

        model (nn.Module, SERFIQ, SpatialSERFIQ or Callable): Embedding network,
            (B, C, H, W) → (B, d), or a function around one. Of a :class:`~captum_plq.SERFIQ`, its
            model, dropout rate and output are taken.
        reference (float or LocalReference, optional): ρ₀, the signal-to-noise ratio that images
            are compared with: the median of high-quality faces, see
            :func:`~captum_plq.functional.local.local_reference`. ``None``: each image's own, so
            that places are compared within the image, and the map adds up to about 0.
        guided (bool): Let the map at pixels follow the image's edges, its sum kept, see
            :func:`~captum_plq.functional.guided.guided_by_image`; for pictures, as it takes longer
            than the network. Default: ``False``, bilinear.

    Raises:
        TypeError: for a model that is neither.
        ValueError: if ρ₀ is not a positive number.

    Examples::

        >>> local = LocalQuality(model, reference=5.0)
        >>> attributions, quality = local.attribute(images, return_quality=True)
        >>> attributions.sum((1, 2, 3))  # Q - Q₀, but for the offset that no place has
        >>> places = local.attribute(images, at_places=True)  # (B, 7, 7)
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        reference: float | LocalReference | None = None,
        guided: bool = False,
    ) -> None:
        if isinstance(model, SERFIQ):
            model = SpatialSERFIQ.of(model)
        self.spatial = model if isinstance(model, SpatialSERFIQ) else SpatialSERFIQ(model)
        snr = reference.snr if isinstance(reference, LocalReference) else reference
        if snr is not None and not 0 < snr < float("inf"):
            raise ValueError(f"The reference must be a positive number, but is {snr!r}.")
        self.reference = None if snr is None else float(snr)
        self.guided = guided
        Attribution.__init__(self, self.spatial)

    @log_usage()  # type: ignore[untyped-decorator]
    @never_compiled
    @reads_once
    def attribute(
        self,
        inputs: Inputs,
        target: None = None,
        additional_forward_args: object = None,
        at_places: bool = False,
        return_quality: bool = False,
        return_convergence_delta: bool = False,
    ) -> Any:
        r"""Divide the quality of each image over its places.

        Args:

            inputs (Tensor or tuple[Tensor]): Images (B, C, H, W), floating point, in the unit the
                model takes.
            target (None): There is none to choose; here for Captum's tools.
            additional_forward_args (Any, optional): As in Captum, further arguments of the model.
            at_places (bool): Return the places themselves, (B, h, w). Default: ``False``, each
                place's value spread bilinearly over the pixels around it, evenly over channels.
            return_quality (bool): Also return Q. Default: ``False``.
            return_convergence_delta (bool): Also return by how far the sum is off, last.

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or these followed by
            **quality**, **delta**, or both:

            - **attributions**: shape and dtype of ``inputs``, or (B, h, w) float32; in units of
              Q, of either sign; their sum over an image is Q - Q₀, less the offset; a tuple if
              ``inputs`` was one.
            - **quality** (*Tensor*): Q (B,) of :class:`~captum_plq.SpatialSERFIQ`.
            - **delta** (*Tensor*): (B,), see :meth:`compute_convergence_delta`.

        Raises:
            TypeError: for integer images.
            ValueError: for a target, more than one tensor of images, and as
                :meth:`SpatialSERFIQ.shares <captum_plq.SpatialSERFIQ.shares>`.
        """
        images = only_images(inputs, target)
        shares, snr = self._shares(images, additional_forward_args)
        with torch.no_grad():
            maps, offset = local_quality(shares, self.reference, snr=snr)
            told: list[Tensor] = []
            if return_quality:
                told.append(quality_from_snr(snr))
            if return_convergence_delta:
                told.append(self._delta(maps, offset, snr))
            centres = self.spatial.tail.centres
            return self._answer(maps, told, inputs, at_places, centres, self.guided)

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: object = None,
    ) -> Tensor:
        """Return the sum of attributions and offset less Q - Q₀: 0 but for rounding.

        Args:

            attributions (Tensor or tuple[Tensor]): From :meth:`attribute`, at pixels or places.
            inputs (Tensor or tuple[Tensor]): The images.
            additional_forward_args (Any, optional): As for :meth:`attribute`.

        Returns:
            *Tensor*: (B,), in units of Q.
        """
        shares, snr = self._shares(only_images(inputs, None), additional_forward_args)
        maps = attributions[0] if isinstance(attributions, tuple) else attributions
        with torch.no_grad():
            _, offset = local_quality(shares, self.reference, snr=snr)
            return self._delta(maps.to(offset.dtype), offset, snr)

    def _shares(self, images: Tensor, further: object) -> tuple[PlaceShares, Tensor]:
        return self.spatial.shares_with_snr(images, *extra_arguments(further))

    def _delta(self, maps: Tensor, offset: Tensor, snr: Tensor) -> Tensor:
        gained = quality_from_snr(snr)
        against = snr if self.reference is None else torch.full_like(snr, self.reference)
        return maps.flatten(1).sum(1) + offset - (gained - quality_from_snr(against))
