"""Gradients along random directions of the embedding, and what they amount to together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32

__all__ = ["root_mean_square_gradients", "sign_directions"]


def sign_directions(count: int, features: Sequence[int], seed: int) -> Tensor:
    r"""Directions of the embedding that all point along its features' axes equally.

    For a direction :math:`s` of independent random signs, :math:`E[(s^\top j)^2] = \|j\|_2^2` for
    any vector :math:`j` (Hutchinson, "A stochastic estimator of the trace of the influence
    matrix", 1990).

    Args:

        count (int): How many, at least 1.
        features (sequence of int): Shape of one embedding.
        seed (int): The same seed gives the same directions, on every device; the first few
            are the same for every ``count``.

    Returns:
        *Tensor*: (count, \*features), float32 on the CPU, each entry -1 or 1.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, *features), generator=generator).float() * 2 - 1


def root_mean_square_gradients(
    contributions: Tensor, leaves: Sequence[Tensor], directions: Tensor
) -> tuple[Tensor, ...]:
    r"""Root mean square over directions of the gradients of one forward.

    .. math:: \sqrt{\tfrac{1}{K}\sum_k \left(\partial\, s_k^\top c / \partial x\right)^2}

    Its square estimates :math:`\sum_j (\partial c_j / \partial x)^2` without bias.

    Args:

        contributions (Tensor): (B, ...), under autograd: c.
        leaves (sequence of Tensor): What to differentiate with respect to, (B, ...) each.
        directions (Tensor): (K, ...): s, the same for all images.

    Returns:
        *tuple[Tensor, ...]*: as ``leaves`` in shape, ≥ 0, float32 or wider.
    """
    totals: list[Tensor] = []
    for k, direction in enumerate(directions.to(contributions)):
        gradients = torch.autograd.grad(
            contributions,
            list(leaves),
            grad_outputs=direction.expand_as(contributions),
            retain_graph=k + 1 < len(directions),
        )
        wide = [at_least_float32(gradient) for gradient in gradients]
        totals = [torch.hypot(a, b) for a, b in zip(totals, wide, strict=True)] if k else wide
    return tuple(total.abs() / len(directions) ** 0.5 for total in totals)
