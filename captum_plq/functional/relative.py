r"""Pixel quality relative to what good faces show at the same place of an aligned face.

The gradients of every face are large at its centre and small at its border, so the map of
Eq. 6 tells more of where a pixel lies than of what it shows. Aligned faces lie alike; this
module compares each place with the same place of good faces. It is not in the paper.

With :math:`\mu` and :math:`s` the mean and the spread of :math:`\ln \hat g` (Eq. 5) over good
faces, place by place,

.. math:: z_{ij} = \frac{\ln \hat g_{ij} - \mu_{ij}}{s_{ij}}, \qquad
          p_{ij} = \sigma\!\left(1.702\,\frac{\bar z_{ij}}{t}\right)

where :math:`\bar z` is the mean of z over a k×k box, and t its spread over good faces. On request ĝ
is itself averaged over a box first (``blur_size``). Eq. 6 is
:math:`\sigma(2 \ln \hat g + \gamma \ln 10)`: this is its form, with a γ and a slope of each
place's own. Nothing is divided out per image, so maps of different images can be compared.

The gradients are those without Eq. 2, which the paper calls optional: with Q in place of Q̂. Q̂
would multiply all gradients of an image by one factor, which tells nothing of its pixels and, α
being large, outweighs everything else: a face of Q̂ = 0.01 would be red all over. Measured over 60
faces with a square (black, mean colour, noise), the AUROC of the square's pixels against all
others of all images is 0.91, 0.82, 0.98 without Q̂ and 0.69, 0.65, 0.78 with it; within single
images it is the same. How good the image is as a whole is what Q and Q̂ say, not this map: over
clean faces its mean correlates with Q at -0.1.

The logistic function with 1.702 is within 0.01 of the normal distribution function (Camilli,
"Origin of the scaling constant d = 1.7 in item response theory", 1994), so p reads as the share
of good faces that show less there. Measured on 71 good faces that were not in the reference (75
others; MobileFaceNet): 4 % of the pooled pixels lie below p = 0.05, 23 % below 0.25, 46 % below
0.5, 71 % below 0.75 and 94 % below 0.95. The normal distribution function fits no better (5, 22,
46, 72, 94 %) and falls to zero at z = -14 in float32, and with it the order of poor pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq._base.precision import at_least_float32

__all__ = [
    "GradientReference",
    "gradient_reference",
    "gradient_zscore",
    "relative_pixel_quality",
]

_FARTHEST = 20.0
"""Deviations are cut off here, so that a zero gradient stays a number among its neighbours."""

_NORMAL = 1.702
"""Slope at which the logistic function comes closest to the normal distribution function."""


class GradientReference(NamedTuple):
    r"""What good faces show at each place, from :func:`gradient_reference`.

    Args:

        mean (Tensor): (H, W), of ln ĝ; NaN where good faces show no gradient.
        spread (Tensor): (H, W), standard deviation of ln ĝ, ≥ 0; NaN likewise.
        pool_size (int): k, side of the box, odd.
        pooled_spread (float): t, root mean square over places and good faces of the deviation
            after pooling; below 1, as neighbours differ.
        blur_size (int): Side of the box over which ĝ is averaged before its logarithm, odd; 1:
            not at all.
    """

    mean: Tensor
    spread: Tensor
    pool_size: int
    pooled_spread: float
    blur_size: int = 1


def gradient_reference(
    log_merged: Tensor, pool_size: int = 5, blur_size: int = 1
) -> GradientReference:
    r"""Mean and spread of the logarithm of the merged gradients of good faces.

    Sums are taken in float64, one face at a time. Zero gradients are left out of both. A place
    where fewer than half of the faces have a gradient, or fewer than two, gets NaN: such are
    the last three rows and columns of dlib's network, which never reads them.

    Args:

        log_merged (Tensor): (n, H, W), ln ĝ of n ≥ 2 aligned faces, without α and r; -inf where ĝ
            is 0.
        pool_size (int): k, side in pixels of the box over which deviations will be averaged; odd.
            The default, 5, is what the measurements were made with; 1 pools nothing.
        blur_size (int): Side in pixels of a box over which ĝ itself is averaged, of these faces
            and of those that will be compared; odd. The default, 1, averages nothing. With
            ``pool_size=7, blur_size=7`` squares of 10 px and more are found more surely, and the
            map is coarser.

    Returns:
        *GradientReference*: float32.

    Raises:
        ValueError: if there are fewer than two faces, gradients are NaN or infinite,
            ``pool_size`` or ``blur_size`` is not odd, or no two faces have gradients, or different
            ones, at any one place.

    Examples::

        >>> reference = gradient_reference(merge_channels(attributions).log())
    """
    _require_odd("pool_size", pool_size)
    _require_odd("blur_size", blur_size)
    if log_merged.ndim != 3 or len(log_merged) < 2:
        raise ValueError(
            "A reference needs the gradients (n, H, W) of at least two faces, but got "
            f"{tuple(log_merged.shape)}."
        )
    if bool((log_merged.isnan() | (log_merged == torch.inf)).any()):
        raise ValueError("A face has NaN or infinite gradients: leave it out of the reference.")
    logs = _smoothed(log_merged.double().exp(), blur_size).log() if blur_size > 1 else log_merged
    count = torch.isfinite(logs).sum(0)
    known = (count >= 2) & (2 * count >= len(logs))
    total = torch.zeros(logs.shape[1:], dtype=torch.float64, device=logs.device)
    for face in logs:
        total += torch.where(torch.isfinite(face), face.double(), 0.0)
    mean = torch.where(known, total / count, torch.nan)
    squares = torch.zeros_like(total)
    for face in logs:
        squares += torch.where(torch.isfinite(face), (face.double() - mean).square(), 0.0)
    spread = torch.where(known, (squares / (count - 1)).sqrt(), torch.nan)
    if not bool((spread > 0).any()):
        raise ValueError(
            "The faces show the same gradients, or none, at every place: no spread can be told. "
            "Give different images of faces."
        )
    reference = GradientReference(mean.float(), spread.float(), pool_size, 1.0, blur_size)
    pooled = [gradient_zscore(face.double().exp(), reference)[known] for face in log_merged]
    mean_square = torch.stack([z.square().mean() for z in pooled]).mean()
    return reference._replace(pooled_spread=float(mean_square.sqrt()))


def gradient_zscore(merged: Tensor, reference: GradientReference, *, pooled: bool = True) -> Tensor:
    r"""How far the gradients lie above (+) or below (-) those of good faces at that place.

    Args:

        merged (Tensor): (..., H, W), ĝ ≥ 0 of aligned faces (Eq. 5), without α and r,
            from :func:`~captum_plq.functional.merge_channels`.
        reference (GradientReference): of the same network and node weights.
        pooled (bool): Average over the reference's k×k box. At the edges, the part of the box
            that lies within the image counts; places without a reference never count.

    Returns:
        *Tensor*: (..., H, W), z or z̄, in spreads of good faces, within ±20 (the value of a zero
        gradient is -20); 0 at places without a reference, NaN where gradients are not finite.

    Raises:
        ValueError: if the size of the images is not that of the reference.
    """
    if merged.shape[-2:] != reference.mean.shape:
        raise ValueError(
            f"The reference is of images of size {tuple(reference.mean.shape)}, but these "
            f"gradients are of size {tuple(merged.shape[-2:])}."
        )
    finite = merged.masked_fill(merged.isinf(), torch.nan)
    g = _smoothed(at_least_float32(finite), reference.blur_size)
    mean, spread = reference.mean.to(g), reference.spread.to(g)
    known = mean.isfinite()
    smallest = torch.finfo(g.dtype).tiny
    z = ((g.log() - mean) / spread.clamp_min(smallest)).clamp(-_FARTHEST, _FARTHEST)
    z = torch.where(known, z, 0.0)
    if not pooled or reference.pool_size == 1:
        return z
    weight = _box_mean(known.to(g), reference.pool_size)
    mean_z = _box_mean(z, reference.pool_size) / weight.clamp_min(smallest)
    return torch.where(known, mean_z, 0.0)


def relative_pixel_quality(
    merged: Tensor, reference: GradientReference, *, pooled: bool = True
) -> Tensor:
    r"""Pixel quality relative to good faces, in [0, 1].

    Args:

        merged (Tensor): (..., H, W), ĝ ≥ 0 of aligned faces (Eq. 5), without α and r,
            from :func:`~captum_plq.functional.merge_channels`.
        reference (GradientReference): of the same network and node weights.
        pooled (bool): Average the deviation over the reference's k×k box before it is put on
            the scale. Default: ``True``.

    Returns:
        *Tensor*: (..., H, W). ½: as good faces show there, on (geometric) average; 0.05: about
        5 % of good faces show as little there. ½ also at places without a reference, and 0
        where a gradient is zero that should not be.

    Raises:
        ValueError: if the size of the images is not that of the reference.

    Examples::

        >>> merged = merge_channels(plq.attribute(images))
        >>> maps = relative_pixel_quality(merged, calibration.reference)  # (B, H, W)
    """
    z = gradient_zscore(merged, reference, pooled=pooled)
    return torch.sigmoid(_NORMAL * z / (reference.pooled_spread if pooled else 1.0))


def _box_mean(x: Tensor, side: int) -> Tensor:
    """Mean over the part of a box that lies within the image."""
    height, width = x.shape[-2:]
    planes = x.reshape(-1, 1, height, width)
    means = F.avg_pool2d(planes, side, 1, side // 2, count_include_pad=False)
    return means.view(x.shape)


def _smoothed(merged: Tensor, side: int) -> Tensor:
    return merged if side == 1 else _box_mean(merged, side)


def _require_odd(name: str, side: int) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or side < 1 or side % 2 == 0:
        raise ValueError(f"{name} must be an odd number of pixels, 1 or more, but got {side!r}.")
