"""Measures and checks the local reference, or finds why a network has none."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_plq._base.fields import require_field_types
from captum_plq.calibration.archive import LARGEST_GRID
from captum_plq.calibration.regions import RegionLosses
from captum_plq.functional.local import (
    LocalReference,
    PlaceShares,
    local_quality,
    local_reference,
)
from captum_plq.models import ModelSpec
from captum_plq.quality import SERFIQ, SpatialSERFIQ, lost_by_region

__all__ = ["LocalMeasurement", "require_local_reference"]


class LocalMeasurement:
    """Takes the shares of places of one batch after another.

    Where they cannot be had, nothing is raised: :attr:`missing` then says why, and there is no
    reference.

    Args:

        serfiq (SERFIQ): Whose network, rate of dropout and output are taken.
    """

    def __init__(self, serfiq: SERFIQ) -> None:
        self.missing = ""
        self._spatial = SpatialSERFIQ.of(serfiq)

    @property
    def layer(self) -> str | None:
        """Name of the module that gives, or takes, the last spatial map, once it was found."""
        return self._spatial.tail.layer_name

    def shares(self, images: Tensor) -> list[PlaceShares | None]:
        """Return the shares of each image.

        Args:

            images (Tensor): (B, C, H, W).

        Returns:
            *list*: B, each of one image, on the CPU; all ``None`` once something was missing.
        """
        if not self.missing:
            try:
                parts = [part.cpu().split(1) for part in self._spatial.shares(images)]
            except (ValueError, RuntimeError) as error:  # PyTorch's own errors among them
                self.missing = str(error)
            else:
                return [PlaceShares(*one) for one in zip(*parts, strict=True)]
        return [None] * len(images)

    def reference(self, shares: Sequence[PlaceShares | None]) -> LocalReference | None:
        """Return the statistics of high-quality faces, from :meth:`shares`.

        Args:

            shares (sequence of PlaceShares or None): One per face.

        Returns:
            *LocalReference or None*: ``None`` if something was missing.
        """
        if self.missing:
            return None
        try:
            found = local_reference(_together(shares))
            found = found._replace(centres=self._spatial.tail.centres)
            require_local_reference(found)
        except (ValueError, RuntimeError) as error:
            self.missing = str(error)
            return None
        return found

    @staticmethod
    def losses(
        shares: Sequence[PlaceShares | None], reference: LocalReference, spec: ModelSpec
    ) -> RegionLosses:
        """Return what high-quality faces lose in each region, from :meth:`shares`.

        Args:

            shares (sequence of PlaceShares): One per face.
            reference (LocalReference): Of them.
            spec (ModelSpec): Tells where the regions lie.

        Returns:
            *RegionLosses*: of these faces.
        """
        maps, _ = local_quality(_together(shares), reference.snr)
        lost = lost_by_region(maps, spec.alignment, spec.input_size, reference.centres)
        return RegionLosses.of(lost.numpy())


def _together(shares: Sequence[PlaceShares | None]) -> PlaceShares:
    known = [one for one in shares if one is not None]
    return PlaceShares(*map(torch.cat, zip(*known, strict=True)))


def require_local_reference(reference: LocalReference) -> None:
    """Raise unless a measurement can have given it.

    Args:

        reference (LocalReference): From a measurement, or a file.

    Raises:
        ValueError: for values of other types, a ρ₀ that is not above 0, or arrays that are not
            (H, W), too large, not finite, or a spread that is not above 0.
    """
    require_field_types(reference)
    if not reference.snr > 0:
        raise ValueError(f"a local reference cannot have a ρ₀ of {reference.snr:g}")
    medians, spreads = [reference.center], [reference.spread]
    if reference.smoothed is not None:
        if len(reference.smoothed) != 2:
            raise ValueError("a local reference needs a median and a spread of smoothed scores")
        for known, x in zip((medians, spreads), reference.smoothed, strict=True):
            known.append(x)
    if reference.centres is not None:
        require_field_types(reference.centres)
        first, step = reference.centres
        if not all(abs(x) <= 1 for x in first) or not all(0 < x <= 1 for x in step):
            raise ValueError(
                "a local reference cannot have places far outside the image, or in one"
            )
    shapes = {tuple(x.shape) for x in (*medians, *spreads)}
    if reference.center.ndim != 2 or len(shapes) > 1 or not 0 < medians[0].numel() <= LARGEST_GRID:
        raise ValueError(
            f"a local reference cannot have maps of {' and '.join(map(str, sorted(shapes)))} places"
        )
    if not all(bool(x.isfinite().all()) for x in (*medians, *spreads)) or not all(
        bool((x > 0).all()) for x in spreads
    ):
        raise ValueError("a local reference cannot have places without a median or spread")
