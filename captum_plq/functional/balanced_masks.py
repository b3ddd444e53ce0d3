"""Dropout patterns in balanced groups: a fraction of the products, less sampling error."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_plq.functional.masks import DropoutMasks

__all__ = ["BLOCKS", "BalancedMasks"]

BLOCKS = 8
"""Into how many blocks the features are split; the order of the Hadamard matrix."""

_GROUPS = 8
"""How many independent groups there are at least, if there are that many pairs."""


class BalancedMasks(DropoutMasks):
    r"""Dropout patterns in independent groups, balanced and antithetic within each.

    The half-samples of survey statistics (McCarthy, "Pseudo-replication: half samples",
    1969) for p = 0.5. A group draws one fair sign :math:`s_k` per feature; the features form
    8 blocks b(k), and row j of a Hadamard matrix H flips whole blocks:

    .. math:: z_{jk} = \tfrac12 \left(1 + s_k H_{j b(k)}\right)

    Every such pattern alone, and its complement, is a fair draw of Bernoulli dropout, and
    patterns of different groups are independent. So Eq. 1 over pairs of different groups
    estimates what it estimates from independent passes, without bias. Pairs within a group
    are left out.

    For an affine layer :math:`W x + b`, all rows of a group are sums and differences of the 8
    shares :math:`\sum_{b(k) = n} s_k f_k w_k`, which cost as much as a single pass. With up to
    8 patterns and their complements, a group of 16 passes costs one.

    Args:

        passes (int): m, even, ≥ 4. The patterns per group are the largest divisor of m/2
            up to 8 that leaves at least eight groups, for the sake of the standard error: 5
            for the 100 passes of the paper, and ten groups. Fewer than 32 passes are antithetic
            alone.
        dropout (float): Must be 0.5.
        seed (int): As for :class:`~captum_plq.functional.masks.DropoutMasks`.

    Raises:
        ValueError: for another ``dropout``, or ``passes`` that are odd or fewer than 4.
    """

    def __init__(self, passes: int = 100, dropout: float = 0.5, seed: int = 0) -> None:
        super().__init__(passes, dropout, seed)
        if dropout != 0.5 or passes % 2 or passes < 4:
            raise ValueError(
                "Balanced masks need dropout 0.5 and an even number of at least 4 passes, but "
                f"got {dropout!r} and {passes!r}."
            )
        half = passes // 2
        most = max(1, min(BLOCKS, half // _GROUPS))
        self.patterns = max(k for k in range(1, most + 1) if half % k == 0)
        self.group_size = 2 * self.patterns
        self.groups = half // self.patterns
        odd = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device="cpu")
        self._contrasts = torch.kron(odd, torch.kron(odd, odd))[: self.patterns]

    def signs(self, shape: torch.Size, device: torch.device) -> Tensor:
        """The sign of each feature in each group: (groups, ``*shape``), int8, ±1."""
        drawn = self._kept(self.groups, shape, device)
        return 2 * drawn.to(torch.int8) - 1

    def contrasts(self, device: torch.device) -> Tensor:
        """The rows of the Hadamard matrix: (patterns, 8), float32, ±1."""
        return self._contrasts.to(device)

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """As :meth:`DropoutMasks.for_features`; a group is its patterns, then complements."""
        signs = self.signs(shape, device).flatten(1)
        block = blocks_of(signs.shape[1], device)
        kept = signs.unsqueeze(1) * self.contrasts(device)[:, block] > 0
        return torch.stack([kept, ~kept], dim=1).reshape(self.passes, *shape)


def blocks_of(features: int, device: torch.device) -> Tensor:
    """The block of each feature: 8 of equal width, the last one takes what is left over."""
    width = max(1, features // BLOCKS)
    return (torch.arange(features, device=device) // width).clamp_max(BLOCKS - 1)
