"""What each region of a face loses: by a network's local quality, or by no network at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.eigenfaces import Eigenfaces
from captum_plq.calibration.file import Calibration
from captum_plq.calibration.regions import RegionLosses
from captum_plq.functional.local import PlaceShares, local_quality, local_reference
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.quality import SpatialSERFIQ, lost_by_region

__all__ = ["RegionEvidence", "of_calibration", "of_eigenfaces", "of_network"]

_BATCH = 32


class RegionEvidence:
    """What regions lose, and what good faces lose there.

    Args:

        lost (Callable): Images (n, 3, H, W), 0–255 → (n, 9).
        losses (RegionLosses): Of good faces.
    """

    def __init__(self, lost: Callable[[Tensor], Tensor], losses: RegionLosses) -> None:
        self._lost, self.losses = lost, losses

    def __call__(self, images: Tensor) -> NDArray[np.float64]:
        """Return what each region loses: (n, 9)."""
        parts = [self._lost(part).cpu() for part in images.split(_BATCH)]
        found: NDArray[np.float64] = torch.cat(parts).double().numpy()
        return found


def of_network(model: FaceModel, reference: Tensor) -> RegionEvidence:
    """Return local quality by region, against faces that are all taken to be good.

    Args:

        model (FaceModel): The network.
        reference (Tensor): (n, 3, H, W), 0–255, of other people, undisturbed.
    """
    spatial = SpatialSERFIQ(model)
    parts = [spatial.shares(part) for part in reference.split(_BATCH)]
    shares = PlaceShares(*(torch.cat(own) for own in zip(*parts, strict=True)))
    snr = local_reference(shares).snr
    lost = _by_region(spatial, model.spec, snr)
    return _with_losses(lost, reference)


def of_calibration(model: FaceModel, calibration: Calibration) -> RegionEvidence | None:
    """Return local quality by region, as a calibration has it; ``None`` if it has not."""
    if calibration.local is None or calibration.region_losses is None:
        return None
    lost = _by_region(SpatialSERFIQ(model), model.spec, calibration.local.snr)
    return RegionEvidence(lost, calibration.region_losses)


def of_eigenfaces(reference: Tensor, spec: ModelSpec) -> RegionEvidence:
    """Return the distance from a reconstruction by other people's eigenfaces, by region.

    No network is asked. What counts as lost is the distance above its median in the reference.
    """

    def distance(images: Tensor) -> Tensor:
        rest = (images - faces.reconstructed(images)).abs().mean(1)
        return lost_by_region(-rest / rest[0].numel(), spec.alignment, spec.input_size)

    half = len(reference) // 2  # the other half is of faces that the components do not know
    faces = Eigenfaces.of(reference[:half])
    usual = distance(reference[half:]).median(0).values
    return _with_losses(lambda images: distance(images) - usual, reference[half:])


def _by_region(spatial: SpatialSERFIQ, spec: ModelSpec, snr: float) -> Callable[[Tensor], Tensor]:
    def lost(images: Tensor) -> Tensor:
        with torch.no_grad():
            maps, _ = local_quality(spatial.shares(images), snr)
        return lost_by_region(maps, spec.alignment, spec.input_size)

    return lost


def _with_losses(lost: Callable[[Tensor], Tensor], reference: Tensor) -> RegionEvidence:
    found = torch.cat([lost(part).cpu() for part in reference.split(_BATCH)])
    return RegionEvidence(lost, RegionLosses.of(found.double().numpy()))
