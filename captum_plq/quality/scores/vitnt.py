"""ViTNT-style quality: how little the blocks of a vision transformer turn its patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from captum_plq.functional import unit_length
from captum_plq.network.output import OutputSelector
from captum_plq.quality.scores.base import Score, UnsuitableNetworkError
from captum_plq.quality.scores.vit_blocks import VIT, run_blocks

__all__ = ["ViTNTStyle"]


class ViTNTStyle(Score):
    r"""How little patches move from block to block, after ViTNT-FIQA.

    Ozgur et al., "ViTNT-FIQA: Training-Free Face Image Quality Assessment with Vision
    Transformers", arXiv:2601.05741, 2026. With :math:`u_{\ell p}` the token of patch p behind block
    ℓ at length 1, over the first blocks, of which the paper reports the strongest signal,

    .. math:: Q = 1 - \operatorname{mean}_{\ell, p} \lVert u_{\ell+1,p} - u_{\ell p} \rVert_2 / 2.

    Written from the paper's abstract and summaries; not checked against its text: how distances
    become a bounded score (here linearly) and are weighted (here equally; the paper also weights
    by attention), and which blocks it takes by default. One forward.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        blocks (int): How many blocks, from the first on, are compared, ≥ 2; all of them, if there
            are fewer. Default: 6.
        output (int, str, Callable or None): Which part of the output is the embedding.

    Raises:
        ValueError: if ``blocks`` is below 2.
        UnsuitableNetworkError: if the network is no vision transformer of two or more blocks.

    Examples::

        >>> quality = ViTNTStyle(vit)(images)  # (B, 3, 112, 112) -> (B,), in [0, 1]
    """

    differentiable: bool = True
    needs: str = VIT

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        *,
        blocks: int = 6,
        output: OutputSelector = None,
    ) -> None:
        super().__init__(model, output=output)
        if blocks < 2:
            raise ValueError(f"blocks must be at least 2, but is {blocks}.")
        self.blocks = blocks

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings."""
        run = run_blocks(network, inputs, self.output)
        units = [unit_length(x) for x in run.tokens[: self.blocks]]
        if len(units) < 2:
            raise UnsuitableNetworkError("ViTNT compares blocks, and this network has only one.")
        steps = torch.stack([(b - a).norm(dim=-1) for a, b in pairwise(units)])
        return 1 - steps.mean((0, 2)) / 2, run.embedding
