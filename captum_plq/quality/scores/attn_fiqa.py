"""ATTN-FIQA-style quality: how strongly the patches of a vision transformer attend."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_plq.quality.scores.base import Score
from captum_plq.quality.scores.vit_blocks import VIT, run_blocks

__all__ = ["AttnFIQAStyle"]


class AttnFIQAStyle(Score):
    r"""The mean attention score of the last block before its softmax, after ATTN-FIQA.

    Ozgur et al., "ATTN-FIQA: Interpretable Attention-based Face Image Quality Assessment with
    Vision Transformers", arXiv:2604.22841, 2026. With queries and keys of the last block, over its
    heads h and the patches i, j,

    .. math:: Q = \operatorname{mean}_{h, i, j} \, q_{hi} \cdot k_{hj} / \sqrt{c}.

    Written from the paper's abstract; not checked against its text: whether scores are scaled, or
    their magnitudes taken, and whether a class token counts (here only patches do). One forward.

    Args:

        model (nn.Module or Callable): As for :class:`~captum_plq.quality.scores.base.Score`.
        output (int, str, Callable or None): Likewise.

    Raises:
        UnsuitableNetworkError: if the network is no vision transformer.

    Examples::

        >>> quality = AttnFIQAStyle(vit)(images)  # (B, 3, 112, 112) -> (B,)
    """

    differentiable: bool = True
    needs: str = VIT

    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings."""
        run = run_blocks(network, inputs, self.output)
        # The mean of all products is the product of the means.
        products = (run.queries.mean(2) * run.keys.mean(2)).sum(-1)
        return products.mean(1), run.embedding
