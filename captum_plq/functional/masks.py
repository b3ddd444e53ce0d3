"""The dropout patterns of SER-FIQ: independent ones, balanced groups of them, and two to probe."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_plq._base.tracing import untraced

__all__ = ["BLOCKS", "BalancedMasks", "DropoutMasks", "ProbeMasks"]

BLOCKS = 8
"""Into how many blocks balanced masks split the features; the order of the Hadamard matrix."""

_GROUPS = 8
"""How many independent groups of balanced masks there are at least, if there are enough pairs."""


class DropoutMasks:
    """The m dropout patterns of SER-FIQ: drawn once from a seed, shared by all images.

    Sharing them makes an image's quality independent of its batch, and cancels much of the
    sampling noise when images are compared. Kept features are to be multiplied by ``scale``,
    1/(1 - p), as dropout does.

    Examples::

        >>> masks = DropoutMasks(passes=4, dropout=0.5)
        >>> masks.for_features(torch.Size([512]), torch.device("cpu")).shape
        torch.Size([4, 512])

    Args:

        passes (int): m ≥ 2.
        dropout (float): p, the probability that a feature is dropped, in (0, 1).
        seed (int): Same seed, same masks, on every device. The global random state is
            neither used nor moved.

    Raises:
        ValueError: if ``passes`` < 2, ``dropout`` is not inside (0, 1), or ``seed`` no integer.
    """

    group_size = 1
    """How many passes, one after another, depend on each other."""

    def __init__(self, passes: int = 100, dropout: float = 0.5, seed: int = 0) -> None:
        if isinstance(passes, bool) or not isinstance(passes, int) or passes < 2:
            raise ValueError(
                f"passes must be an integer of at least 2 (a distance needs two embeddings), "
                f"but got {passes!r}."
            )
        if not 0.0 < dropout < 1.0:
            raise ValueError(f"dropout must lie strictly between 0 and 1, but got {dropout!r}.")
        if isinstance(seed, bool) or not isinstance(seed, int) or not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed must be an integer of at most 64 bits, but got {seed!r}.")
        self.passes = passes
        self.dropout = float(dropout)
        self.scale = 1 / (1 - self.dropout)
        self.seed = seed
        self._drawn: dict[tuple[torch.Size, torch.device], Tensor] = {}

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return the masks for one layer input.

        Args:

            shape (torch.Size): Shape of one image's features.
            device (torch.device): Where they are needed.

        Returns:
            *Tensor*: (m, ``*shape``), bool, true where a feature is kept.
        """
        return self._kept(self.passes, shape, device)

    def _kept(self, count: int, shape: torch.Size, device: torch.device) -> Tensor:
        """Return ``count`` patterns, drawn at the first call for this shape and device."""
        with torch.inference_mode(False), untraced():
            key = (torch.Size(map(int, shape)), device)
            if any(shape != key[0] for shape, _ in tuple(self._drawn)):
                self._drawn.clear()
            drawn = self._drawn.get(key)  # once: another thread may clear it
            if drawn is None:
                # On the CPU and in float32 whatever the defaults: a seed means one set of masks.
                generator = torch.Generator("cpu").manual_seed(self.seed)
                uniform = torch.rand(
                    (count, *key[0]), generator=generator, dtype=torch.float32, device="cpu"
                )
                drawn = (uniform >= self.dropout).to(device)
                self._drawn[key] = drawn
        return drawn


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

    Examples::

        >>> masks = BalancedMasks(passes=100)
        >>> masks.groups, masks.group_size
        (10, 10)

    Args:

        passes (int): m, even, ≥ 4. The patterns per group are the largest divisor of m/2
            up to 8 that leaves at least eight groups, for the sake of the standard error: 5
            for the 100 passes of the paper, and ten groups. Fewer than 32 passes are antithetic
            alone.
        dropout (float): Must be 0.5.
        seed (int): As for :class:`DropoutMasks`.

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
        two = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device="cpu")
        self._hadamard = torch.kron(two, torch.kron(two, two))[: self.patterns]
        self._there: dict[torch.device, Tensor] = {}

    def signs(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return the sign of each feature in each group: (groups, ``*shape``), int8, ±1."""
        return 2 * self._kept(self.groups, shape, device).to(torch.int8) - 1

    def contrasts(self, device: torch.device) -> Tensor:
        """Return the rows of the Hadamard matrix: (patterns, 8), float32, ±1."""
        if device not in self._there:
            with torch.inference_mode(False), untraced():
                self._there[device] = self._hadamard.to(device)
        return self._there[device]

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return as :meth:`DropoutMasks.for_features`; a group is patterns, then complements."""
        signs = self.signs(shape, device).flatten(1)
        features = signs.shape[1]  # in blocks of equal width; the last one takes what is left over
        block = torch.arange(features, device=device) // max(1, features // BLOCKS)
        contrasts = self.contrasts(device)[:, block.clamp_max(BLOCKS - 1)]
        kept = signs.unsqueeze(1) * contrasts > 0
        return torch.stack([kept, ~kept], dim=1).reshape(self.passes, *shape)


class ProbeMasks(DropoutMasks):
    """Two masks to check a network with: one keeps everything, the other drops half.

    Without the usual scaling, so that the first leaves the features exactly as they were.
    """

    def __init__(self) -> None:
        super().__init__(passes=2)
        self.scale = 1.0

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Return as :meth:`DropoutMasks.for_features`: (2, ``*shape``), the first all true."""
        kept = super().for_features(shape, device).clone()
        kept[0] = True
        return kept
