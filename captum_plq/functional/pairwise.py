"""Distances between the stochastic embeddings of an image, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from captum_plq._base.precision import at_least_float32

__all__ = ["mean_distance_to_others"]

_DISTANCES_AT_A_TIME = 2**19
"""Distances held at once: 2 MiB in float32, and a few times that on the way to them."""


def mean_distance_to_others(embeddings: Tensor, group_size: int = 1) -> Tensor:
    r"""Mean Euclidean distance from each row to the rows of all other groups.

    From one matrix product of the *centred* rows, in float32 or float64, so near-equal rows
    lose no digits; two equal rows have distance 0 and gradient 0. Large numbers of rows are
    worked off in blocks, and again in the backward, so that memory stays linear in m.

    Args:

        embeddings (Tensor): (..., m, d).
        group_size (int): Rows come in groups of this many, one after another, that depend on
            each other; pairs within a group are left out. Default: 1.

    Returns:
        *Tensor*: (..., m), ≥ 0; its mean is that over all pairs of rows of different groups. NaN
        where rows are not finite.

    Raises:
        ValueError: if m is not a multiple of ``group_size``, at least two of them.

    Examples::

        >>> mean_distance_to_others(torch.tensor([[0.0], [1.0], [5.0]]))
        tensor([3.0000, 2.5000, 4.5000])
    """
    m = embeddings.shape[-2]
    if m % group_size or m < 2 * group_size:
        raise ValueError(
            f"Pairwise distances need at least 2 embeddings (or groups of them), but got {m} in "
            f"groups of {group_size}."
        )
    x = at_least_float32(embeddings)
    with torch.autocast(x.device.type, enabled=False):
        x = x - x.mean(dim=-2, keepdim=True)
        norms = x.square().sum(-1)
        group = torch.arange(m, device=x.device) // group_size
        rows = max(1, _DISTANCES_AT_A_TIME // max(1, norms.numel()))
        if rows >= m:
            return _sums(x, norms, group, x, norms, group) / (m - group_size)
        parts = zip(x.split(rows, -2), norms.split(rows, -1), group.split(rows), strict=True)
        sums = [
            checkpoint(_sums, *part, x, norms, group, use_reentrant=False, preserve_rng_state=False)
            if torch.is_grad_enabled()
            else _sums(*part, x, norms, group)
            for part in parts
        ]
        return torch.cat(sums, dim=-1) / (m - group_size)


def _sums(
    x: Tensor, x_norms: Tensor, x_group: Tensor, y: Tensor, y_norms: Tensor, y_group: Tensor
) -> Tensor:
    """Sum of the distances from each row of x to the rows of y of other groups."""
    sums = x_norms.unsqueeze(-1) + y_norms.unsqueeze(-2)
    squares = sums - 2 * (x @ y.transpose(-2, -1))
    # What rounding leaves between two equal rows is no distance, and has no direction.
    # (NaN is not equal: it is kept, and makes the sum NaN.)
    equal = squares <= 16 * torch.finfo(x.dtype).eps * sums
    apart = (x_group.unsqueeze(1) != y_group) & ~equal
    # The inner `where` keeps the infinite slope of the root at 0 out of the gradient.
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0).sum(-1)
