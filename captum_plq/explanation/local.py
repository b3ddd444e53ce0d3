"""Local quality of aligned faces, or why there is none."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.calibration.file import Calibration
from captum_plq.faces import REGION_WORDS, REGIONS
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.functional.local import (
    LocalReference,
    local_quality,
    local_zscore,
    quality_from_snr,
    signal_to_noise,
)
from captum_plq.models import ModelSpec
from captum_plq.quality import SERFIQ, SpatialSERFIQ, lost_by_region, worst_region
from captum_plq.visualization import quality_in_words

__all__ = ["LocalExplainer", "LocalMaps"]


class LocalMaps(NamedTuple):
    """Where n faces lose their quality, and how much of it.

    Args:

        maps (ndarray): (n, h, w), float32, at the places of the last spatial map: what each adds to
            Q, or takes from it, against high-quality faces. With ``offset`` they add up to
            ``quality`` - ``reference_quality``.
        zscores (ndarray): (n, h, w), float32, how unusual that is for high-quality faces there, in
            standard deviations; negative: worse.
        quality (list[float]): Q of :class:`~captum_plq.SpatialSERFIQ`.
        offset (list[float]): The part of Q - Q₀ that no place has.
        reference_quality (float): Q₀, of the median high-quality face.
        layer (str): The module that gives, or takes, the last spatial map.
        gap (float): By how much the noise of a tail that is not affine is off, relative to it; 0
            where it is affine.
        lost (ndarray): (n, 9), float64, what each of
            :data:`~captum_plq.faces.REGIONS` takes from Q: minus the sum of the map over it.
            Negative where it adds. Minus ``offset``, they add up to ``reference_quality`` -
            ``quality``.
        centres (PlaceCentres, optional): Where the places lie in the image. ``None``: they share
            it out in equal cells.
    """

    maps: NDArray[np.float32]
    zscores: NDArray[np.float32]
    quality: list[float]
    offset: list[float]
    reference_quality: float
    layer: str
    gap: float
    lost: NDArray[np.float64]
    centres: PlaceCentres | None = None

    def part(self, faces: slice) -> LocalMaps:
        """Return those of some of the faces."""
        return self._replace(
            maps=self.maps[faces],
            zscores=self.zscores[faces],
            quality=self.quality[faces],
            offset=self.offset[faces],
            lost=self.lost[faces],
        )

    def worst_regions(self) -> list[str | None]:
        """Return :func:`~captum_plq.quality.worst_region` of each face."""
        return [worst_region(lost) for lost in self.lost]

    def words(self) -> list[str]:
        """Return in words, for each face, Q against Q₀, and the region that takes most from it."""
        return [
            quality_in_words(q, self.reference_quality) + _loss_in_words(region, lost)
            for q, region, lost in zip(self.quality, self.worst_regions(), self.lost, strict=True)
        ]

    def records(self) -> list[dict[str, Any]]:
        """Return what the record says of each face."""
        centres = None if self.centres is None else self.centres._asdict()
        common = {
            "layer": self.layer,
            "grid": list(self.maps.shape[1:]),
            "place_centres": centres and {name: list(pair) for name, pair in centres.items()},
            "linearisation_gap": self.gap or None,
        }
        return [
            {
                "quality": quality,
                "reference_quality": self.reference_quality,
                "gained": quality - self.reference_quality,
                "offset": offset,
                "lost": dict(zip(REGIONS, lost.tolist(), strict=True)),
                **common,
            }
            for quality, offset, lost in zip(self.quality, self.offset, self.lost, strict=True)
        ]


class LocalExplainer:
    """Divides the quality of faces over places, against the faces of a calibration.

    Args:

        serfiq (SERFIQ): Whose network, rate of dropout and output are taken.
        spec (ModelSpec): How the network's faces are aligned, and of what size.
        calibration (Calibration, optional): Of that network and rate.
    """

    def __init__(self, serfiq: SERFIQ, spec: ModelSpec, calibration: Calibration | None) -> None:
        self._spatial = SpatialSERFIQ.of(serfiq)
        self._spec = spec
        self._calibration = calibration

    def __call__(self, images: Tensor) -> tuple[LocalMaps | None, str]:
        """Return the maps of images (n, C, H, W), or ``None`` and why there are none."""
        calibration = self._calibration
        if calibration is None:
            return None, "It needs a calibration of this network."
        if calibration.local is None:
            return None, calibration.without_local or "The calibration has no local reference."
        try:
            return self._explain(images, calibration.local, calibration.local_layer), ""
        except (ValueError, RuntimeError) as error:  # PyTorch's own errors among them
            return None, str(error)

    def _explain(self, images: Tensor, reference: LocalReference, layer: str | None) -> LocalMaps:
        shares, tail = self._spatial.shares(images), self._spatial.tail
        if layer is None or tail.layer_name != layer:
            raise ValueError(
                f"The reference is of the map at {layer!r}, but this one is at {tail.layer_name!r}."
            )
        with torch.no_grad():
            maps, offset = local_quality(shares, reference.snr)
            zscores = local_zscore(shares, reference)
            quality = quality_from_snr(signal_to_noise(shares))
        if not bool(maps.isfinite().all() and zscores.isfinite().all()):
            raise ValueError("A face has a place whose contribution is not finite.")
        return LocalMaps(
            maps.float().cpu().numpy(),
            zscores.float().cpu().numpy(),
            quality.tolist(),
            offset.tolist(),
            reference.quality,
            layer,
            tail.gap or 0.0,
            lost_by_region(maps, self._spec.alignment, self._spec.input_size, reference.centres)
            .cpu()
            .numpy(),
            reference.centres,
        )


def _loss_in_words(region: str | None, lost: NDArray[np.float64]) -> str:
    if region is None:
        return ""
    loss = f"{lost[REGIONS.index(region)]:.2f}".removeprefix("0")
    return f", largest loss: {REGION_WORDS[region]} ({loss})"
