"""What good faces lose in each region of the face: how unusual a loss is, is read from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq._base.fields import require_field_types
from captum_plq.faces import REGIONS

__all__ = ["LOSS_LEVELS", "RegionLosses", "require_region_losses"]

LOSS_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The levels of the quantiles that are kept."""

_MIDDLE, _HIGH = LOSS_LEVELS.index(0.5), LOSS_LEVELS.index(0.95)
_NORMAL_95 = 1.6449
"""The 95th percentile of a normal distribution, in standard deviations."""

_SMALLEST = 1e-4
"""Spreads below this, in units of Q, are taken for it."""


@dataclass(frozen=True)
class RegionLosses:
    """The quality that high-quality faces lose in each region of the face.

    Args:

        quantiles (dict[str, tuple[float, ...]]): Region, of :data:`~captum_plq.faces.REGIONS` →
            quantiles at :data:`LOSS_LEVELS` of what these faces lose there, in units of Q, as of
            :func:`~captum_plq.quality.lost_by_region`.

    Examples::

        >>> losses = RegionLosses.of(lost)  # (n, 9), of n good faces
        >>> losses.unusual(lost)[0]  # of the first of them, region by region
    """

    quantiles: dict[str, tuple[float, ...]]

    @classmethod
    def of(cls, lost: ArrayLike) -> RegionLosses:
        """Take the quantiles of what n faces lose.

        Args:

            lost (array-like): (n, 9), in units of Q, in the order of
                :data:`~captum_plq.faces.REGIONS`; n ≥ 2.

        Raises:
            ValueError: if it is not of this shape, or not finite.

        Examples::

            >>> RegionLosses.of(lost_by_region(maps, "arcface", (112, 112))).quantiles["nose"]
        """
        values = np.asarray(lost, dtype=np.float64)
        if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] != len(REGIONS):
            raise ValueError(
                f"Losses must be (n, {len(REGIONS)}) with n ≥ 2, but got {values.shape}."
            )
        if not np.isfinite(values).all():
            raise ValueError("Losses must be finite, but some are NaN or infinite.")
        levels = np.quantile(values, LOSS_LEVELS, axis=0).T
        return cls(dict(zip(REGIONS, map(tuple, levels.tolist()), strict=True)))

    def unusual(self, lost: ArrayLike) -> NDArray[np.float64]:
        """Return how unusual losses are for a high-quality face.

        Args:

            lost (array-like): (n, 9), in units of Q, in the order of
                :data:`~captum_plq.faces.REGIONS`.

        Returns:
            *ndarray*: (n, 9), standard scores: 0 at the median of these faces, 1.64 at their 95th
            percentile, in proportion beyond.
        """
        levels = np.array([self.quantiles[region] for region in REGIONS])
        middle = levels[:, _MIDDLE]
        spread = np.maximum((levels[:, _HIGH] - middle) / _NORMAL_95, _SMALLEST)
        scores: NDArray[np.float64] = (np.asarray(lost, dtype=np.float64) - middle) / spread
        return scores

    def in_file(self) -> dict[str, list[float]]:
        """Return them as a file holds them."""
        return {region: list(levels) for region, levels in self.quantiles.items()}

    @classmethod
    def from_file(cls, found: object) -> RegionLosses:
        """Return what :meth:`in_file` gave.

        Raises:
            ValueError: if it is something else.
        """
        if not isinstance(found, Mapping) or not all(isinstance(x, list) for x in found.values()):
            raise ValueError("region_losses: expected lists by region")
        losses = cls({region: tuple(levels) for region, levels in found.items()})
        require_region_losses(losses)
        return losses


def require_region_losses(losses: RegionLosses) -> None:
    """Raise unless a measurement can have given them.

    Args:

        losses (RegionLosses): From a measurement, or a file.

    Raises:
        ValueError: for other regions, values of other types, or quantiles that fall.
    """
    require_field_types(losses)
    if tuple(losses.quantiles) != REGIONS:
        raise ValueError(f"region_losses: expected {', '.join(REGIONS)}")
    for region, levels in losses.quantiles.items():
        if len(levels) != len(LOSS_LEVELS) or list(levels) != sorted(levels):
            raise ValueError(
                f"region_losses: expected {len(LOSS_LEVELS)} quantiles in order for {region!r}"
            )
