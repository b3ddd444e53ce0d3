"""The length of the embedding as quality, and its division over the places of a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from captum_plq._base.late import look, reads_once
from captum_plq._base.precision import at_least_float32
from captum_plq._base.tracing import never_compiled
from captum_plq.network.independence import refuse_not_finite, refuse_zeros
from captum_plq.network.output import OutputSelector, embed
from captum_plq.network.spatial.tail import SpatialTail
from captum_plq.network.state import check_images
from captum_plq.quality.scores.base import Score, UnsuitableNetworkError

__all__ = ["EmbeddingNorm"]


class EmbeddingNorm(Score):
    r"""The L2 norm of the embedding before it is normalised.

    The quality of MagFace (Meng et al., CVPR 2021), whose loss makes the norm grow with it, and a
    common baseline on networks that were trained with other losses, where it need not. One forward.

    It decomposes exactly. With :math:`N_s`, the share of place s in :math:`\lVert e \rVert^2`, see
    :mod:`captum_plq.functional.local`,

    .. math:: Q = \lVert e \rVert = \sum_s N_s / \lVert e \rVert + e \cdot b / \lVert e \rVert.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        output (int, str, Callable or None): Likewise.

    Raises:
        UnsuitableNetworkError: if all embeddings have length 1.

    Examples::

        >>> norm = EmbeddingNorm(model)(images)  # (B, 3, 112, 112) -> (B,)
    """

    differentiable: bool = True
    needs: str = "an embedding that is not of unit length"

    def __init__(
        self, model: nn.Module | Callable[..., object], *, output: OutputSelector = None
    ) -> None:
        super().__init__(model, output=output)
        self.tail = SpatialTail(output)

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return norms (B,) and embeddings."""
        embedding = embed(network, inputs, self.output)
        norm = at_least_float32(embedding).flatten(1).norm(dim=1)
        look((norm,), _refuse_unit_length)
        return norm, embedding

    @never_compiled
    @reads_once
    def at_places(self, *inputs: object) -> tuple[Tensor, Tensor]:
        """Divide the norm over the places of the last spatial map.

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *tuple[Tensor, Tensor]*: (B, h, w), each place's share, of either sign, and (B,), what
            no place has. They add up to the norm. Where what follows the map is only nearly affine,
            the latter holds what its linearisation misses.

        Raises:
            ValueError: as :class:`~captum_plq.network.spatial.map.SpatialTailError` if the
                embedding is not, even nearly, an affine function of a spatial map; as
                :class:`~captum_plq.errors.UnusableImagesError`.

        Examples::

            >>> places, offset = EmbeddingNorm(model).at_places(images)
            >>> norm = places.sum((1, 2)) + offset
        """
        check_images(inputs[:1])
        run = self.tail.run(self.model, inputs)
        with torch.no_grad():
            refuse_not_finite(run.embedding)
            refuse_zeros(run.embedding)
            norm = run.embedding.norm(dim=1)
            return run.evidence / norm[:, None, None], run.offset / norm


def _refuse_unit_length(norms: list[float]) -> None:
    if all(abs(norm - 1) < 1e-3 for norm in norms):
        raise UnsuitableNetworkError(
            "The embeddings have length 1, which tells nothing: the network normalises them. "
            "Give it without that step."
        )
