r"""Pixel quality relative to high-quality faces, place by place of the aligned face.

The gradients of every face are large at its centre and small at its border, so the map of
Eq. 6 tells more of where a pixel lies than of what it shows. Aligned faces lie alike: this
module compares each place with the same place of high-quality faces. It is not in the paper.

With :math:`\mu` and :math:`s` the mean and standard deviation of :math:`\ln \hat g` (Eq. 5) over
the high-quality faces, place by place,

.. math:: z_{ij} = \frac{\ln \hat g_{ij} - \mu_{ij}}{s_{ij}}, \qquad
          p_{ij} = \sigma\!\left(1.702\,\frac{\bar z_{ij}}{t}\right)

where :math:`\bar z` is the mean of z over a k×k box (``pool_size``), and t its root mean square
over the high-quality faces. On request ĝ is itself averaged over a box first (``blur_size``).
Eq. 6 is :math:`\sigma(2 \ln \hat g + \gamma \ln 10)`: the same form, with γ and the slope fitted
at each place.

**It compares places, not images.** A gradient is sensitivity, and that rises where contrast falls.
Of 80 LFW faces (fold 5; ``mobilefacenet-dropout``) the map's mean rose in 99 % when they were
blurred (σ = 3 px), in 99 % at 16 px, and in all when they were darkened to a quarter, while Q fell
in at least 95 %. So did the mean of Eq. 6's map without α and r. To compare images take Q, or
:class:`~captum_plq.LocalQuality`, which adds up to it.

The gradients are those of Q, not of Q̂: Eq. 2, which the paper calls optional, would multiply all
gradients of an image by one factor, which says nothing about its pixels and, α being large,
outweighs everything else: a face of Q̂ = 0.01 would be red all over. Measured over 60 faces with a
square (black, mean colour, noise), the AUROC of the square's pixels against all others of all
images is 0.91, 0.82, 0.98 with Q and 0.69, 0.65, 0.78 with Q̂; within single images it is the same.
Over clean faces the map's mean correlates with Q at -0.1.

The logistic function with slope 1.702 is within 0.01 of the normal distribution function (Camilli,
"Origin of the scaling constant d = 1.7 in item response theory", 1994), so p reads as the share
of high-quality faces with a smaller gradient there. Measured on 71 high-quality faces outside the
reference (75 others; MobileFaceNet): 4 % of the pooled pixels lie below p = 0.05, 23 % below 0.25,
46 % below 0.5, 71 % below 0.75 and 94 % below 0.95. The normal distribution function fits no better
(5, 22, 46, 72, 94 %) and underflows at z = -14 in float32, and with it the order of poor pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
"""Bound of the z-scores, so that a zero gradient stays a number among its neighbours."""

_NORMAL = 1.702
"""Slope at which the logistic function comes closest to the normal distribution function."""


class GradientReference(NamedTuple):
    r"""Reference statistics of high-quality faces at each place, from :func:`gradient_reference`.

    Args:

        mean (Tensor): (H, W), of ln ĝ; NaN where high-quality faces have no gradient.
        spread (Tensor): (H, W), standard deviation of ln ĝ, ≥ 0; NaN likewise.
        pool_size (int): k, side of the box over which z-scores are averaged, odd.
        pooled_spread (float): t, root mean square of the pooled z-scores over places and faces;
            below 1, as neighbours differ.
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
    r"""Compute the mean and spread of the log merged gradients of high-quality faces.

    Sums are taken in float64, one face at a time. Zero gradients are left out of both. A place
    where fewer than half of the faces have a gradient, or fewer than two, gets NaN: such are
    the last three rows and columns of dlib's network, which never reads them.

    Examples::

        >>> reference = gradient_reference(merge_channels(attributions).log())

    Args:

        log_merged (Tensor): (n, H, W), ln ĝ of n ≥ 2 aligned faces, without α and r; -inf where ĝ
            is 0.
        pool_size (int): k, side in pixels of the box over which z-scores will be averaged; odd.
            1 pools nothing. Default: 5, with which the measurements were made.
        blur_size (int): Side in pixels of a box over which ĝ itself is averaged, of these faces
            and of those that will be compared; odd. 1 averages nothing. With
            ``pool_size=7, blur_size=7`` squares of 10 px and more are found more often, and the
            map is coarser. Default: 1.

    Returns:
        *GradientReference*: float32.

    Raises:
        ValueError: if there are fewer than two faces, gradients are NaN or infinite,
            ``pool_size`` or ``blur_size`` is not odd, or there is no place where two faces have
            different gradients.
    """
    for name, side in (("pool_size", pool_size), ("blur_size", blur_size)):
        if isinstance(side, bool) or not isinstance(side, int) or side < 1 or side % 2 == 0:
            raise ValueError(
                f"{name} must be an odd number of pixels, 1 or more, but got {side!r}."
            )
    if log_merged.ndim != 3 or len(log_merged) < 2:
        raise ValueError(
            "A reference needs the gradients (n, H, W) of at least two faces, but got "
            f"{tuple(log_merged.shape)}."
        )
    if bool((log_merged.isnan() | (log_merged == torch.inf)).any()):
        raise ValueError("A face has NaN or infinite gradients: leave it out of the reference.")
    logs = log_merged
    if blur_size > 1:
        logs = _box_mean(log_merged.double().exp(), blur_size).log()
    count = torch.isfinite(logs).sum(0)
    known = (count >= 2) & (2 * count >= len(logs))

    def total(of: Callable[[Tensor], Tensor]) -> Tensor:
        each = (torch.where(torch.isfinite(face), of(face.double()), 0.0) for face in logs)
        return functools.reduce(torch.add, each)

    mean = torch.where(known, total(lambda x: x) / count, torch.nan)
    squares = total(lambda x: (x - mean).square())
    spread = torch.where(known, (squares / (count - 1)).sqrt(), torch.nan)
    if not bool((spread > 0).any()):
        raise ValueError(
            "The gradients of the faces are equal, or zero, at every place: there is no spread. "
            "Give different images of faces."
        )
    reference = GradientReference(mean.float(), spread.float(), pool_size, 1.0, blur_size)
    pooled = [gradient_zscore(face.double().exp(), reference)[known] for face in log_merged]
    mean_square = torch.stack([z.square().mean() for z in pooled]).mean()
    return reference._replace(pooled_spread=float(mean_square.sqrt()))


def gradient_zscore(merged: Tensor, reference: GradientReference, *, pooled: bool = True) -> Tensor:
    r"""Compute by how many spreads gradients lie above (+) or below (-) the reference.

    Examples::

        >>> z = gradient_zscore(merge_channels(attributions), calibration.reference)  # (B, H, W)

    Args:

        merged (Tensor): (..., H, W), ĝ ≥ 0 of aligned faces (Eq. 5), without α and r,
            from :func:`~captum_plq.functional.merge_channels`.
        reference (GradientReference): of the same network and node weights.
        pooled (bool): Average over the reference's k×k box. At the edges, the part of the box
            inside the image counts; places without a reference never count.

    Returns:
        *Tensor*: (..., H, W), z or z̄, within ±20 (a zero gradient has -20); 0 at places without a
        reference, NaN where gradients are not finite.

    Raises:
        ValueError: if the size of the images is not that of the reference.
    """
    if merged.shape[-2:] != reference.mean.shape:
        raise ValueError(
            f"The reference is of images of size {tuple(reference.mean.shape)}, but these "
            f"gradients are of size {tuple(merged.shape[-2:])}."
        )
    g = at_least_float32(merged.masked_fill(merged.isinf(), torch.nan))
    g = _box_mean(g, reference.blur_size)
    mean, spread = reference.mean.to(g), reference.spread.to(g)
    known = mean.isfinite()
    smallest = torch.finfo(g.dtype).tiny
    z = ((g.log() - mean) / spread.clamp_min(smallest)).clamp(-_FARTHEST, _FARTHEST)
    z = torch.where(known, z, 0.0)
    if not pooled:
        return z
    weight = _box_mean(known.to(g), reference.pool_size).clamp_min(smallest)
    return torch.where(known, _box_mean(z, reference.pool_size) / weight, 0.0)


def relative_pixel_quality(
    merged: Tensor, reference: GradientReference, *, pooled: bool = True
) -> Tensor:
    r"""Compute pixel quality relative to high-quality faces, in [0, 1].

    Examples::

        >>> merged = merge_channels(plq.attribute(images))
        >>> maps = relative_pixel_quality(merged, calibration.reference)  # (B, H, W)

    Args:

        merged (Tensor): (..., H, W), ĝ ≥ 0 of aligned faces (Eq. 5), without α and r,
            from :func:`~captum_plq.functional.merge_channels`.
        reference (GradientReference): of the same network and node weights.
        pooled (bool): Average the z-score over the reference's k×k box before it is put on
            the scale. Default: ``True``.

    Returns:
        *Tensor*: (..., H, W). ½: the (geometric) average of high-quality faces there; 0.05: about
        5 % of them have as small a gradient. ½ also at places without a reference, and 0
        where a gradient is zero that should not be.

    Raises:
        ValueError: if the size of the images is not that of the reference.
    """
    z = gradient_zscore(merged, reference, pooled=pooled)
    return torch.sigmoid(_NORMAL * z / (reference.pooled_spread if pooled else 1.0))


def _box_mean(x: Tensor, side: int) -> Tensor:
    """Mean over the part of a box that lies within the image."""
    if side == 1:
        return x
    planes = x.reshape(-1, 1, *x.shape[-2:])
    return F.avg_pool2d(planes, side, 1, side // 2, count_include_pad=False).view(x.shape)
