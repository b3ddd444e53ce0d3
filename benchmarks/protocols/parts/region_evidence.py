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
from captum_plq.quality import SERFIQ, SpatialSERFIQ, lost_by_region

__all__ = ["MapEvidence", "RegionEvidence", "of_eigenfaces"]

_BATCH = 32


class RegionEvidence:
    """What regions lose, and what good faces lose there.

    Args:

        lost (Callable): Images (n, 3, H, W), 0–255 → (n, 9).
        reference (Tensor): (n, 3, H, W): good faces.
    """

    def __init__(self, lost: Callable[[Tensor], Tensor], reference: Tensor) -> None:
        self._lost = lost
        self.losses = RegionLosses.of(self(reference))

    def __call__(self, images: Tensor) -> NDArray[np.float64]:
        """Return what each region loses: (n, 9)."""
        parts = [self._lost(part).cpu() for part in images.split(_BATCH)]
        found: NDArray[np.float64] = torch.cat(parts).double().numpy()
        return found


class MapEvidence(RegionEvidence):
    """Local quality by region.

    Args:

        model (FaceModel): The network.
        reference (Tensor): (n, 3, H, W), 0–255: faces of other people, undisturbed, that are all
            taken to be good where there is no ``calibration``.
        calibration (Calibration, optional): Of the network; used if it says what good faces lose.
    """

    def __init__(
        self, model: FaceModel, reference: Tensor, calibration: Calibration | None = None
    ) -> None:
        self._serfiq = SERFIQ(model)
        self._spatial, self._spec = SpatialSERFIQ.of(self._serfiq), model.spec
        local = None if calibration is None else calibration.local
        if calibration is None or local is None or calibration.region_losses is None:
            self.calibrated = False
            parts = [self._spatial.shares(part) for part in reference.split(_BATCH)]
            shares = PlaceShares(*(torch.cat(own) for own in zip(*parts, strict=True)))
            self._snr, self._centres = local_reference(shares).snr, self._spatial.tail.centres
            super().__init__(lambda images: self._of(self._spatial.shares(images)), reference)
        else:
            self.calibrated = True
            self._lost = lambda images: self._of(self._spatial.shares(images))
            self._snr, self._centres = local.snr, local.centres
            self.losses = calibration.region_losses

    def with_quality(self, images: Tensor) -> tuple[NDArray[np.float64], Tensor]:
        """Return what each region loses, (n, 9), and Q, (n,), from one forward."""
        lost, quality = [], []
        for part in images.split(_BATCH):
            assessed, shares = self._spatial.assess_with(self._serfiq, part)
            lost.append(self._of(shares).cpu())
            quality.append(assessed.quality.detach().cpu())
        return torch.cat(lost).double().numpy(), torch.cat(quality)

    def _of(self, shares: PlaceShares) -> Tensor:
        with torch.no_grad():
            maps, _ = local_quality(shares, self._snr)
        return lost_by_region(maps, self._spec.alignment, self._spec.input_size, self._centres)


def of_eigenfaces(reference: Tensor, spec: ModelSpec) -> RegionEvidence:
    """Return the distance from a reconstruction by other people's eigenfaces, by region.

    No network is asked. What counts as lost is the distance above its median in that half of the
    reference which the components do not know.
    """
    half = len(reference) // 2
    faces = Eigenfaces.of(reference[:half])

    def distance(images: Tensor) -> Tensor:
        rest = (images - faces.reconstructed(images)).abs().mean(1)
        return lost_by_region(-rest / rest[0].numel(), spec.alignment, spec.input_size)

    usual = distance(reference[half:]).median(0).values
    return RegionEvidence(lambda images: distance(images) - usual, reference[half:])
