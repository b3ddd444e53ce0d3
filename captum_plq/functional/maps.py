"""From the node's gradient to the pixel-level quality map (Eqs. 4–6)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32, finite_or_nan, require_finite

__all__ = [
    "clip_gradient",
    "gamma_for_median",
    "merge_channels",
    "pixel_quality",
    "quality_map",
    "rescale_gamma",
    "saliency",
]


def saliency(output: Tensor, images: Tensor) -> Tensor:
    r"""Take the gradient of the node's output with respect to the pixels (Eq. 4).

    .. math:: S(I) = \frac{\partial M_Q(I)}{\partial I}

    Examples::

        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> saliency(x.square().sum(1), x)
        tensor([[2., 4.]])

    Args:

        output (Tensor): (B,), one scalar per image, computed from ``images``.
        images (Tensor): (B, ...), requiring grad.

    Returns:
        *Tensor*: the shape of ``images``, in units of ``output`` per unit of pixel value.
        ``images.grad`` and the parameters' are left alone.
    """
    (gradient,) = torch.autograd.grad(output.sum(), images)
    return gradient


def clip_gradient(gradient: Tensor, max_norm: float) -> Tensor:
    r"""Limit the L2 norm of each image's gradient (Sec. VI, after Zhang et al., 2020).

    .. math:: S \leftarrow S \cdot \min\!\left(1, \frac{c}{\lVert S \rVert_2}\right)

    The paper recommends clipping "to avoid exploding gradients" and gives neither a norm
    nor a threshold. Clipping the norm keeps each image's ranking of its pixels. It is off
    by default, because it makes maps of different images incomparable once it acts.

    Examples::

        >>> clip_gradient(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), max_norm=1.0)
        tensor([[0.6000, 0.8000],
                [0.3000, 0.4000]])

    Args:

        gradient (Tensor): (B, ...), S of each image.
        max_norm (float): c > 0, in the units of ``gradient``.

    Returns:
        *Tensor*: the shape of ``gradient``.

    Raises:
        ValueError: if ``max_norm`` is not positive.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, but got {max_norm}.")
    g = at_least_float32(gradient).flatten(1)
    largest = g.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
    norm = largest.squeeze(1) * (g / largest).norm(dim=1)  # its square may exceed the range
    factor = (max_norm / norm).clamp_max(1.0)
    clipped: Tensor = g * factor.unsqueeze(1)
    return clipped.view_as(gradient).to(gradient.dtype)


def merge_channels(gradient: Tensor, dim: int = -3) -> Tensor:
    r"""Average the absolute gradient over the colour channels (Eq. 5).

    .. math:: \hat S_{ij} = \frac{1}{3} \sum_{c=1}^{3} \lvert g_{ijc} \rvert

    Examples::

        >>> merge_channels(torch.tensor([1.0, -2.0, 6.0]).view(3, 1, 1))
        tensor([[3.]])

    Args:

        gradient (Tensor): (..., C, H, W), S; C is 3 in the paper.
        dim (int): The channel dimension. Default: -3.

    Returns:
        *Tensor*: (..., H, W), ≥ 0.
    """
    return at_least_float32(gradient).abs().mean(dim)


def pixel_quality(merged: Tensor, gamma: float) -> Tensor:
    r"""Project merged gradients to pixel qualities in [0, 1] (Eq. 6).

    .. math:: p_{ij} = 1 - \frac{1}{1 + 10^{\gamma}\, \hat g_{ij}^{\,2}}

    Computed as the logistic function of :math:`\gamma \ln 10 + 2 \ln \hat g`, which is the
    same and neither overflows nor loses the small values. (Eq. 6 carries a channel index;
    after Eq. 5 there is none.)

    Examples::

        >>> pixel_quality(torch.tensor([0.0, 1e-3, 1.0]), gamma=6.0)
        tensor([0.0000, 0.5000, 1.0000])

    Args:

        merged (Tensor): ĝ, any shape, ≥ 0, from :func:`merge_channels`.
        gamma (float): γ. A pixel with ĝ = 10^(−γ/2) has quality ½. It depends on the
            network and on the unit of the pixels: the paper's 7.5 (ArcFace) and 5.5
            (FaceNet) hold for gradients with respect to 0–255 values. See
            :func:`rescale_gamma`.

    Returns:
        *Tensor*: p, the shape of ``merged``, in [0, 1]; NaN where that is not finite.

    Raises:
        ValueError: if ``gamma`` is not finite.
    """
    require_finite("gamma", gamma)
    g = finite_or_nan(at_least_float32(merged))
    return torch.sigmoid(gamma * math.log(10) + 2 * g.log())


def quality_map(gradient: Tensor, gamma: float) -> Tensor:
    """Turn a saliency map S(I) into the pixel-level quality map P(I): Eq. 5, then Eq. 6.

    Examples::

        >>> quality_map(torch.full((1, 3, 2, 2), 1e-3), gamma=6.0)
        tensor([[[0.5000, 0.5000],
                 [0.5000, 0.5000]]])

    Args:

        gradient (Tensor): (B, C, H, W), what
            :meth:`PixelQualityAttribution.attribute` returns.
        gamma (float): γ, see :func:`pixel_quality`.

    Returns:
        *Tensor*: (B, H, W), in [0, 1]; high where the node is sensitive to a pixel. Never
        scaled per image; but sensitivity rises where contrast falls, so between images only the
        factor of Eq. 2 (α and r) orders the maps as Q does, and in the dark not even that.
    """
    return pixel_quality(merge_channels(gradient), gamma)


def gamma_for_median(merged: Tensor) -> float:
    r"""Return the γ at which the median pixel has quality ½: a start for a network without one.

    The paper recommends to choose γ on a good reference image, such that the centre of its
    face reads high and its background low (footnote 4). One γ then serves all images of a
    network: it must not be chosen anew for each.

    Examples::

        >>> gamma_for_median(torch.tensor([1e-4, 1e-3, 1e-2]))
        6.0

    Args:

        merged (Tensor): ĝ of one or more reference images, any shape, ≥ 0.

    Returns:
        *float*: γ = -2 log₁₀ of the median ĝ.

    Raises:
        ValueError: if the median is 0, so that no γ exists, or a gradient is not finite.
    """
    g = at_least_float32(merged)
    median = float(g.median()) if bool(torch.isfinite(g).all()) else math.nan
    if not 0 < median < math.inf:
        raise ValueError(f"No γ fits gradients whose median is {median}.")
    return round(-2 * math.log10(median), 6)


def rescale_gamma(gamma: float, pixel_scale: float) -> float:
    r"""Convert γ to another unit of the pixels, such that the map stays the same.

    With :math:`x' = k x` every gradient is divided by k, hence
    :math:`\gamma' = \gamma + 2 \log_{10} k`.

    Examples::

        >>> round(rescale_gamma(7.5, 1 / 255), 2)
        2.69

    Args:

        gamma (float): γ for gradients with respect to x.
        pixel_scale (float): k > 0: 1/255 from 0–255 to 0–1 pixels, 1/128 to
            (x − 127.5)/128.

    Returns:
        *float*: γ for gradients with respect to x'.

    Raises:
        ValueError: if ``gamma`` is not finite, or ``pixel_scale`` not a finite number above 0.
    """
    require_finite("gamma", gamma)
    if not 0 < pixel_scale < math.inf:
        raise ValueError(f"pixel_scale must be a finite number above 0, but got {pixel_scale}.")
    return gamma + 2 * math.log10(pixel_scale)
