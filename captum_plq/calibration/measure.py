r"""Calibrates a network: α, r, γ and reference statistics of high-quality faces.

- r is the mean of Q, and α puts the 5th and the 95th percentile of Q as far apart as 0.05 and 0.95
  are in log-odds, :math:`\alpha = 2 \ln 19 / (Q_{95} - Q_5)`: these are the Q̂ they get if r lies
  halfway between them.
- High-quality faces are those whose Q is at least the median.
- The reference map is the mean and spread of :math:`\ln \hat g` over them, without the scaling
  of Eq. 2; see :mod:`captum_plq.functional.relative`.
- γ puts quality ½ halfway, in the logarithm, between the typical scaled gradients of the face's
  middle and of the border, in the manner of the paper's footnote 4. The middle is the central third
  of the aligned image each way, the border a frame of an eighth of its sides; typical is the median
  over the places of the mean over the high-quality faces.
- The local reference is ρ₀ and, place by place of the last spatial map, the median and spread of
  the contributions to the quality over the same faces; see :mod:`captum_plq.functional.local`.
- Of a :class:`~captum_plq.models.FaceModel`, whose spec tells where the parts of the face lie, the
  quantiles of what these faces lose in each region are kept too.
- So are the percentiles of their Q: what a Q means among good faces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from captum_plq._base.versions import package_versions
from captum_plq.attribution import PixelQualityAttribution, scaling_factor
from captum_plq.calibration.file import Calibration
from captum_plq.calibration.local import LocalMeasurement
from captum_plq.calibration.settings import MethodSettings, network_digest, network_name
from captum_plq.calibration.thresholds import QualityThresholds
from captum_plq.functional import QualityScaling, merge_channels, pixel_quality
from captum_plq.functional.local import PlaceShares
from captum_plq.functional.relative import gradient_reference
from captum_plq.models import FaceModel
from captum_plq.network.state import check_images

__all__ = ["calibrate"]

_LEAST = 10
"""Faces below which a 5th and a 95th percentile mean nothing."""


def calibrate(
    model: nn.Module | PixelQualityAttribution,
    images: Iterable[Tensor],
    *,
    pool_size: int = 5,
    blur_size: int = 1,
    keep: int = 256,
    source: str = "",
    left_out: dict[int, str] | None = None,
) -> Calibration:
    """Measure a network's α, r, γ and references on a development set.

    One pass over the images, as ``attribute`` takes them. The gradients of the ``keep`` best faces
    so far are kept (50 kB each at 112×112); of the others, Q alone. The result does not
    depend on how the images are batched, up to rounding.

    The local reference needs a network that is affine, or nearly, from its last spatial map on. Of
    others all else is measured, and ``without_local`` says why it is missing.

    Examples::

        >>> calibration = calibrate(model, batches, source="LFW, 300 people")
        >>> calibration.save("mine.npz")
        >>> attributions, quality = PixelQualityAttribution(model).attribute(
        ...     images, return_quality=True
        ... )
        >>> maps = relative_pixel_quality(merge_channels(attributions), calibration.reference)
        >>> factor = scaling_factor(quality, calibration.scaling).view(-1, 1, 1, 1)
        >>> maps = quality_map(attributions * factor, calibration.gamma)  # the paper's
        >>> local = LocalQuality(model, reference=calibration.local).attribute(images)

    Args:

        model (nn.Module or PixelQualityAttribution): The network, or the attribution whose
            parameters the calibration shall hold for; its own α and r are not used.
        images (iterable of Tensor): Batches (B, C, H, W) of aligned faces, all of one size, as
            ``model`` takes them. Some hundred faces of different people, of the range of
            qualities that will be met; 10 at least. On one network the reference map was as
            good from 40 high-quality faces as from 75, and worse from 10.
        pool_size (int): k of the reference, odd; see
            :func:`~captum_plq.functional.relative.gradient_reference`.
        blur_size (int): Box over which its gradients are averaged first, odd; likewise.
        keep (int): How many high-quality faces to keep at most: with more than twice as many faces,
            they are the best ``keep``.
        source (str): Where the images came from, for the record.
        left_out (dict, optional): Takes, for each image that this network cannot explain, its
            place in the order of the images → the reason, and the rest goes on. ``None``: such an
            image ends the calibration.

    Returns:
        *Calibration*: of this network under these settings.

    Raises:
        TypeError: for images that are no floating-point tensors.
        ValueError: for fewer than 10 faces, images of different sizes, qualities that are all
            equal, gradients that vanish, or an argument that is not as above.
    """
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < _LEAST // 2:
        raise ValueError(f"keep must be an integer of at least {_LEAST // 2}, but got {keep!r}.")
    method = _unscaled(model)
    places = LocalMeasurement(method.quality_model.serfiq)
    qualities, best = _measure(method, places, images, keep, left_out)
    network = method.quality_model.serfiq.model
    low, high = (float(q) for q in np.percentile(qualities, [5, 95]))
    if not high > low:
        raise ValueError(f"All faces have quality {low:g}: no α fits. Is this network trained?")
    scaling = QualityScaling(2 * math.log(19) / (high - low), float(np.mean(qualities)))
    good = [face for face in best if face.quality >= np.median(qualities)]
    logs = torch.stack([face.log_merged for face in good])
    reference = gradient_reference(logs, pool_size, blur_size)
    plain = reference if blur_size == 1 else gradient_reference(logs, pool_size)
    shares = [face.shares for face in good]
    local = places.reference(shares)
    spec = network.spec if isinstance(network, FaceModel) else None
    q_good = torch.tensor([face.quality for face in good], dtype=torch.float64)
    factors = scaling_factor(q_good, scaling, method.target_scalar).log()
    centre, border = _regions(plain.mean)
    levels = [float(plain.mean[place].median() + factors.mean()) for place in (centre, border)]
    gamma = -sum(levels) / math.log(10)
    maps = pixel_quality((logs + factors.view(-1, 1, 1)).exp(), gamma)
    in_centre, at_border = (maps[:, place].median(1).values for place in (centre, border))
    return Calibration(
        network=network_name(network),
        input_size=(reference.mean.shape[0], reference.mean.shape[1]),
        conditions=MethodSettings.of(method),
        scaling=scaling,
        gamma=gamma,
        reference=reference,
        network_digest=network_digest(network),
        faces=len(qualities),
        left_out=len(left_out or ()),
        good_faces=len(good),
        low_quality=low,
        high_quality=high,
        centre_quality=float(in_centre.median()),
        border_quality=float(at_border.median()),
        gamma_holds=float(((in_centre > 0.5) & (at_border < 0.5)).double().mean()),
        estimator=method.quality_model.serfiq.estimator,
        source=source,
        date=datetime.now(timezone.utc).date().isoformat(),
        versions=package_versions(),
        local=local,
        local_layer=None if local is None else places.layer,
        without_local=places.missing,
        region_losses=None if local is None or spec is None else places.losses(shares, local, spec),
        thresholds=QualityThresholds(QualityThresholds.percentiles(q_good.numpy())),
    )


def _unscaled(model: nn.Module | PixelQualityAttribution) -> PixelQualityAttribution:
    """The attribution without Eq. 2, whose α and r are yet to be found."""
    if isinstance(model, PixelQualityAttribution):
        MethodSettings.of(model)  # refuses other scores
        node = model.quality_model
        return PixelQualityAttribution(
            node.serfiq,
            weights=node.weights,
            target_scalar=model.target_scalar,
            normalize=node.normalize,
            directions=model.directions,
        )
    return PixelQualityAttribution(model)


class _Face(NamedTuple):
    """What is kept of a face: Q, ln ĝ (H, W), and its places' shares."""

    quality: float
    log_merged: Tensor
    shares: PlaceShares | None


def _measure(
    method: PixelQualityAttribution,
    places: LocalMeasurement,
    images: Iterable[Tensor],
    keep: int,
    left_out: dict[int, str] | None,
) -> tuple[list[float], list[_Face]]:
    """Q of all faces in turn, and the best faces, best first."""
    qualities: list[float] = []
    best: list[_Face] = []
    size: torch.Size | None = None
    seen = 0
    for batch in images:
        check_images((batch,))
        size = size or batch.shape[1:]
        if batch.ndim != 4 or batch.shape[1:] != size:
            raise ValueError(
                f"Batches must be (B, C, H, W), all of one size, but got {tuple(batch.shape)} "
                f"where the first was (B, {', '.join(map(str, size))}): align the faces first."
            )
        for some, merged, quality in _explained(method, batch, seen, left_out):
            qualities += quality.tolist()
            logs = [face.float().cpu().clone() for face in merged.log()]
            best += map(_Face, quality.tolist(), logs, places.shares(some))
            best = sorted(best, key=lambda face: -face.quality)[:keep]  # earlier faces win ties
        seen += len(batch)
    if len(qualities) < _LEAST:
        first = next(iter((left_out or {}).values()), None)
        why = "" if first is None else f" {len(left_out or ())} were left out; the first: {first}"
        raise ValueError(
            f"A calibration needs at least {_LEAST} faces, better some hundred, but got "
            f"{len(qualities)}.{why}"
        )
    return qualities, best


def _explained(
    method: PixelQualityAttribution, batch: Tensor, first: int, left_out: dict[int, str] | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A batch, its ĝ (n, H, W) and Q (n,); if that fails, of its images one by one."""
    try:
        attributions, quality = method.attribute(batch, return_quality=True)
    except ValueError as error:
        if left_out is None:
            raise
        if len(batch) == 1:
            left_out[first] = str(error)
            return
        for i in range(len(batch)):
            yield from _explained(method, batch[i : i + 1], first + i, left_out)
    else:
        yield batch, merge_channels(attributions), quality


def _regions(mean: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (H, W) of the face's middle and of the border, where there is a reference."""
    height, width = mean.shape
    centre = torch.zeros_like(mean, dtype=torch.bool)
    centre[height // 3 : height - height // 3, width // 3 : width - width // 3] = True
    border = torch.ones_like(centre)
    rows, columns = max(1, height // 8), max(1, width // 8)
    border[rows : height - rows, columns : width - columns] = False
    known = mean.isfinite()
    for name, place in (("middle", centre), ("border", border)):
        if not bool((place & known).any()):
            raise ValueError(
                f"The {name} of the image has no gradient in high-quality faces: no γ fits."
            )
    return centre & known, border & known
