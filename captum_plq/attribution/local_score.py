"""A quality score divided over the places of an image, as a Captum attribution method."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor

from captum_plq._base.late import reads_once
from captum_plq._base.tracing import never_compiled
from captum_plq.attribution.place_attribution import PlaceAttribution, only_images
from captum_plq.attribution.quality_gradient import Inputs, extra_arguments
from captum_plq.network.spatial.tail import SpatialTail
from captum_plq.quality.scores.base import QualityScore

__all__ = ["DivisibleScore", "LocalScore"]


@runtime_checkable
class DivisibleScore(QualityScore, Protocol):
    """A score that is a sum over the places of the last spatial map, and a rest."""

    def at_places(self, *inputs: object) -> tuple[Tensor, Tensor]:
        """Return the places' shares (B, h, w) and the rest (B,), which add up to the score."""


class LocalScore(PlaceAttribution):
    r"""Where an image gets its score from: a map that adds up to it.

    For scores that decompose, such as the embedding's norm, see
    :class:`~captum_plq.quality.scores.embedding_norm.EmbeddingNorm`. (SER-FIQ's quality is taken
    apart, against a reference, by :class:`~captum_plq.LocalQuality`.) One forward; no gradient of
    the pixels. Not in the paper.

    Args:

        score (DivisibleScore): Of a network that is affine, or nearly, behind its last spatial map.

    Raises:
        TypeError: for a score that does not decompose.

    Examples::

        >>> local = LocalScore(EmbeddingNorm(model))
        >>> attributions, norm = local.attribute(images, return_quality=True)
        >>> places = local.attribute(images, at_places=True)  # (B, 7, 7)
    """

    def __init__(self, score: DivisibleScore) -> None:
        if not isinstance(score, DivisibleScore):
            raise TypeError(
                f"{type(score).__name__} is no score that adds up over places: take EmbeddingNorm, "
                "or LocalQuality for SER-FIQ."
            )
        self.score = score
        Attribution.__init__(self, score)

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
        r"""Divide the score of each image over its places.

        Args:

            inputs (Tensor or tuple[Tensor]): Images (B, C, H, W), floating point, in the unit the
                model takes.
            target (None): There is none to choose; here for Captum's tools.
            additional_forward_args (Any, optional): As in Captum, further arguments of the model.
            at_places (bool): Return the places themselves, (B, h, w). Default: ``False``, each
                place's value spread bilinearly over the pixels around it, evenly over channels.
            return_quality (bool): Also return the score. Default: ``False``.
            return_convergence_delta (bool): Also return by how far the sum is off, last.

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or these followed by
            **quality**, **delta**, or both:

            - **attributions**: shape and dtype of ``inputs``, or (B, h, w); in units of the score,
              of either sign; their sum over an image is the score less what no place has; a tuple
              if ``inputs`` was one.
            - **quality** (*Tensor*): the score (B,).
            - **delta** (*Tensor*): (B,), see :meth:`compute_convergence_delta`.

        Raises:
            TypeError: for integer images.
            ValueError: for a target, more than one tensor of images, and as the score.
        """
        images = only_images(inputs, target)
        maps, rest = self._divided(images, additional_forward_args)
        told: list[Tensor] = []
        if return_quality:
            told.append(maps.sum((1, 2)) + rest)
        if return_convergence_delta:
            told.append(self._delta(maps, rest, images, additional_forward_args))
        tail = getattr(self.score, "tail", None)
        centres = tail.centres if isinstance(tail, SpatialTail) else None
        return self._answer(maps, told, inputs, at_places, centres)

    def compute_convergence_delta(
        self,
        attributions: Tensor | tuple[Tensor, ...],
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: object = None,
    ) -> Tensor:
        """Return the sum of attributions and rest less the score: 0 but for rounding.

        Args:

            attributions (Tensor or tuple[Tensor]): From :meth:`attribute`, at pixels or places.
            inputs (Tensor or tuple[Tensor]): The images.
            additional_forward_args (Any, optional): As for :meth:`attribute`.

        Returns:
            *Tensor*: (B,), in units of the score, computed by a forward of its own.
        """
        images = only_images(inputs, None)
        maps = attributions[0] if isinstance(attributions, tuple) else attributions
        _, rest = self._divided(images, additional_forward_args)
        return self._delta(maps.to(rest.dtype), rest, images, additional_forward_args)

    def _divided(self, images: Tensor, extra: object) -> tuple[Tensor, Tensor]:
        return self.score.at_places(images, *extra_arguments(extra))

    def _delta(self, maps: Tensor, rest: Tensor, images: Tensor, extra: object) -> Tensor:
        with torch.no_grad():
            return maps.flatten(1).sum(1) + rest - self.score(images, *extra_arguments(extra))
