"""The dropout patterns of SER-FIQ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_plq._base.tracing import untraced

__all__ = ["DropoutMasks", "MasksOfRates", "ProbeMasks"]


class DropoutMasks:
    """The m dropout patterns of SER-FIQ: drawn once from a seed, shared by all images.

    Sharing them makes an image's quality independent of its batch, and lets much of the
    sampling noise cancel when images are compared.

    Args:

        passes (int): m ≥ 2.
        dropout (float): p, the probability that a feature is dropped, in (0, 1).
        seed (int): Same seed, same masks, on every device. The global random state is
            neither used nor moved.

    What is kept is multiplied by ``scale``, 1/(1 - p), as dropout does.

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
        """Masks for one layer input.

        Args:

            shape (torch.Size): Shape of one image's features.
            device (torch.device): Where they are needed.

        Returns:
            *Tensor*: (m, *shape), bool, true where a feature is kept.
        """
        return self._kept(self.passes, shape, device)

    def _kept(self, count: int, shape: torch.Size, device: torch.device) -> Tensor:
        """``count`` patterns, drawn at the first call for this shape and device."""
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


class ProbeMasks(DropoutMasks):
    """Two masks to check a network with: one keeps everything, the other drops half.

    Without the usual scaling, so that the first leaves the features exactly as they were.
    """

    def __init__(self) -> None:
        super().__init__(passes=2)
        self.scale = 1.0

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """As :meth:`DropoutMasks.for_features`: (2, *shape), the first all true."""
        kept = super().for_features(shape, device).clone()
        kept[0] = True
        return kept


class MasksOfRates(DropoutMasks):
    """The m masks of each of several dropout rates, one rate after another.

    So one forward of a network serves all rates. Each rate has the very masks that
    :class:`DropoutMasks` draws for it; the scale is part of them, so they are float32.

    Args:

        passes (int): m ≥ 2, for each rate.
        dropouts (sequence of float): The rates, each in (0, 1).
        seed (int): As for :class:`DropoutMasks`.

    Raises:
        ValueError: as :class:`DropoutMasks`, or if there are no rates.
    """

    def __init__(self, passes: int, dropouts: Sequence[float], seed: int = 0) -> None:
        if not dropouts:
            raise ValueError("There must be at least one dropout rate.")
        self._of_rates = [DropoutMasks(passes, dropout, seed) for dropout in dropouts]
        super().__init__(passes * len(dropouts), dropouts[0], seed)
        self.scale = 1.0
        self._last: tuple[torch.Size, torch.device, Tensor] | None = None

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        """As :meth:`DropoutMasks.for_features`: (rates · m, *shape), float32, 0 or 1/(1 - p)."""
        if self._last is None or self._last[:2] != (shape, device):
            scaled = [x.for_features(shape, device) * x.scale for x in self._of_rates]
            self._last = (shape, device, torch.cat(scaled))
        return self._last[2]
