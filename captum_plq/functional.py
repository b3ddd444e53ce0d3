r"""The equations of pixel-level face image quality, as pure functions of tensors.

Numbers are those of Terhörst et al., "Pixel-Level Face Image Quality Assessment for
Explainable Face Recognition", IEEE T-BIOM 2023 ("the paper"). Where the authors' released
code computes something else than the paper prints, both forms are here, each by its name,
and the default is the paper's.

========================  =======================================  =====================
Equation                  Function                                 Range
========================  =======================================  =====================
1, inner sum              :func:`mean_pairwise_distance`           [0, 2] on unit vectors
1, quality :math:`Q`      :func:`quality_from_embeddings`          (0, 1]
2, :math:`\hat Q`         :func:`scale_quality`                    (0, 1)
3, node weights           :func:`node_weights`                     any
4, saliency :math:`S`     :func:`saliency`                         any
5, :math:`\hat S`         :func:`merge_channels`                   [0, inf)
6, pixel quality          :func:`pixel_quality`                    [0, 1]
7, change of quality      :func:`quality_change`                   [-1, 1]
8, change of pixels       :func:`pixel_quality_change`             [-1, 1]
Sec. VI, clipping         :func:`clip_gradient`                    any
========================  =======================================  =====================

Half-precision input is raised to float32 before anything is squared or summed; float64
stays float64.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq._choices import require_choice
from captum_plq._precision import at_least_float32
from captum_plq.pairwise import mean_distance_to_others

__all__ = [
    "NodeWeights",
    "PairAverage",
    "QualityScaling",
    "clip_gradient",
    "half_quality_gamma",
    "mean_pairwise_distance",
    "merge_channels",
    "node_direction",
    "node_scale",
    "node_weights",
    "pixel_quality",
    "pixel_quality_change",
    "quality_change",
    "quality_from_distance",
    "quality_from_embeddings",
    "quality_map",
    "quality_with_standard_error",
    "rescale_gamma",
    "saliency",
    "scale_quality",
    "unit_length",
]

PairAverage = Literal["paper", "pairs"]
"""How Eq. 1 averages over pairs: ``"paper"`` or ``"pairs"``."""

NodeWeights = Literal["l1", "sum", "signed", "l2"]
"""How Eq. 3 weights the embedding: see :func:`node_weights`."""


class QualityScaling(NamedTuple):
    r"""α and r of Eq. 2.

    The paper's values, for its two networks: ``QualityScaling(130.0, 0.88)`` (ArcFace,
    ResNet-100) and ``QualityScaling(450.0, 0.93)`` (FaceNet). Both belong to the network
    they were measured on; r is near the mean quality of a development set.
    """

    alpha: float
    r: float


# --- Eq. 1: model-specific quality ----------------------------------------------------


def mean_pairwise_distance(
    embeddings: Tensor, average: PairAverage = "paper", *, group_size: int = 1
) -> Tensor:
    r"""Mean Euclidean distance between the stochastic embeddings of an image (Eq. 1).

    .. math:: \bar d = \frac{2}{m^2} \sum_{i<j} \lVert x_i - x_j \rVert_2

    Distances come from one matrix product of the *centred* rows, so near-equal rows lose
    no digits; two equal rows have distance 0 and gradient 0.

    Args:

        embeddings (Tensor): (..., m, d): m ≥ 2 stochastic embeddings per image.
        average (str): ``"paper"`` divides the sum over the m(m−1)/2 pairs by m²/2, as
            Eq. 1 is printed. ``"pairs"`` divides by the number of pairs, as the released
            code does; it estimates the expected distance without bias and is the paper's
            value times m/(m−1), 1 % more at m = 100. The default is the paper's.
        group_size (int): Rows come in groups of this many, one after another, that were
            not drawn independently (see
            :class:`~captum_plq.dropout_masks.BalancedMasks`). Pairs within a group are left
            out, and what either average expects stays the same. Default: 1, the paper's.

    Returns:
        *Tensor*: (...,), in the units of the embedding; [0, 2] for unit vectors.

    Raises:
        ValueError: if m < 2, ``average`` is unknown, or m is not two or more groups.

    Examples::

        >>> mean_pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "pairs")
        tensor(5.)
    """
    factor = _average_factor(embeddings.shape[-2], average)
    return factor * mean_distance_to_others(embeddings, group_size).mean(-1)


def quality_from_embeddings(
    embeddings: Tensor,
    *,
    average: PairAverage = "paper",
    normalize: bool = True,
    group_size: int = 1,
) -> Tensor:
    r"""Quality of an image from its stochastic embeddings (Eq. 1; SER-FIQ, CVPR 2020).

    .. math:: Q = 2\,\sigma\!\left(-\bar d\right)

    Args:

        embeddings (Tensor): (..., m, d): m ≥ 2 stochastic embeddings per image.
        average (str): see :func:`mean_pairwise_distance`.
        normalize (bool): Scale each embedding to unit L2 length first. The paper does not
            say; SER-FIQ and the released code do, and without it Q depends on the
            arbitrary length of the embedding. Default: ``True``.
        group_size (int): see :func:`mean_pairwise_distance`.

    Returns:
        *Tensor*: (...,), in (0, 1]; 1 when dropout does not move the embedding. On unit
        vectors never below 2σ(−2) ≈ 0.238. NaN where embeddings are not finite, or all zero.

    Raises:
        ValueError: as :func:`mean_pairwise_distance`.

    Examples::

        >>> quality_from_embeddings(torch.ones(8, 100, 512))
        tensor([1., 1., 1., 1., 1., 1., 1., 1.])
    """
    x = _informative(embeddings, normalize)
    return quality_from_distance(mean_pairwise_distance(x, average, group_size=group_size))


def quality_from_distance(distance: Tensor) -> Tensor:
    r"""The outer part of Eq. 1: :math:`Q = 2\,\sigma(-\bar d)`.

    Args:

        distance (Tensor): Mean pairwise distance, any shape, ≥ 0.

    Returns:
        *Tensor*: the shape of ``distance``, in (0, 1]; NaN where it is not finite.
    """
    return 2 * torch.sigmoid(-_finite_or_nan(distance))


def quality_with_standard_error(
    embeddings: Tensor,
    *,
    average: PairAverage = "paper",
    normalize: bool = True,
    group_size: int = 1,
) -> tuple[Tensor, Tensor]:
    r""":func:`quality_from_embeddings` and its standard error from having drawn only m passes.

    The delete-one jackknife (Efron & Stein, "The jackknife estimate of variance", 1981) of
    the mean pairwise distance over its n independent passes, or groups of them: to leave one
    out is to take away its mean distance :math:`h_i` to the others, so its variance is
    :math:`4\,\frac{(n-1)^2}{n (n-2)^2}\,\mathrm{Var}(h_i)`. It errs on the safe side. The
    slope of Eq. 1, :math:`-Q(1 - Q/2)`, carries it to Q. Not in the paper, which repeats the
    whole estimate ten times instead (Fig. 3).

    Args:

        embeddings (Tensor): (..., m, d), at least 3 passes or groups of them.
        average (str): see :func:`mean_pairwise_distance`.
        normalize (bool): see :func:`quality_from_embeddings`.
        group_size (int): see :func:`mean_pairwise_distance`. The fewer groups, the less
            certain the standard error itself: ± 1/√(2(n−1)), 7 % for 100 and 24 % for 10.

    Returns:
        *tuple[Tensor, Tensor]*: Q and its standard error, each (...,), in units of Q, ≥ 0; NaN
        where embeddings are not finite, or all zero.

    Raises:
        ValueError: if there are fewer than 3 passes or groups.
    """
    factor = _average_factor(embeddings.shape[-2], average)
    count = embeddings.shape[-2] // group_size
    if count < 3:
        raise ValueError(
            f"A standard error needs at least 3 independent stochastic embeddings, or groups of "
            f"them, but got {count}."
        )
    x = _informative(embeddings, normalize)
    to_others = factor * mean_distance_to_others(x, group_size)
    of_groups = to_others.unflatten(-1, (count, group_size)).mean(-1)
    q = quality_from_distance(of_groups.mean(-1))
    of_mean = 2 * (count - 1) / (count - 2) * of_groups.std(-1) / math.sqrt(count)
    return q, q * (1 - q / 2) * of_mean


# --- Eq. 2: scaling -------------------------------------------------------------------


def scale_quality(quality: Tensor, scaling: QualityScaling | None) -> Tensor:
    r"""Stretches qualities over [0, 1] (Eq. 2).

    .. math:: \hat Q = \sigma\!\left(\alpha\,(Q - r)\right)

    Args:

        quality (Tensor): Q, any shape.
        scaling (QualityScaling, optional): α and r. The paper calls the scaling optional:
            ``None`` returns ``quality`` as it is.

    Returns:
        *Tensor*: Q̂, the shape of ``quality``, in (0, 1); NaN where that is not finite. Strictly
        increasing in Q for α > 0, so no ranking changes.

    Raises:
        ValueError: if α or r is not finite.

    Examples::

        >>> scale_quality(torch.tensor([0.87, 0.88, 0.89]), QualityScaling(130.0, 0.88))
        tensor([0.2142, 0.5000, 0.7858])
    """
    if scaling is None:
        return quality
    _require_finite("α", scaling.alpha)
    _require_finite("r", scaling.r)
    q = _finite_or_nan(at_least_float32(quality))
    return torch.sigmoid(scaling.alpha * (q - scaling.r))


# --- Eq. 3: the regression node -------------------------------------------------------


def node_direction(embedding: Tensor, weights: NodeWeights = "l1") -> Tensor:
    r"""Direction of the quality node's weights, before :func:`node_scale`.

    Args:

        embedding (Tensor): (B, ...), the clean embedding e.
        weights (str): see :func:`node_weights`.

    Returns:
        *Tensor*: the shape of ``embedding``: ones for ``"l1"`` and ``"sum"``, sign(e) for
        ``"signed"``, e for ``"l2"``.

    Raises:
        ValueError: if ``weights`` is unknown.
    """
    require_choice("weights", weights, NodeWeights)
    if weights == "signed":
        return torch.where(embedding.isnan(), embedding, embedding.sign())  # sign(NaN) is 0
    return embedding if weights == "l2" else torch.ones_like(embedding)


def node_scale(embedding: Tensor, quality: Tensor, weights: NodeWeights = "l1") -> Tensor:
    r"""Factor (B,) that turns :func:`node_direction` into the weights of Eq. 3.

    It is one number per image, so the gradient of Eq. 4 may be taken through the direction
    alone and multiplied by it afterwards: the same in exact arithmetic, and free of
    underflow in half precision.

    Args:

        embedding (Tensor): (B, ...), the clean embedding e.
        quality (Tensor): (B,), Q̂.
        weights (str): see :func:`node_weights`.

    Returns:
        *Tensor*: (B,): Q̂/‖e‖₁ for ``"l1"`` and ``"signed"``, Q̂/Σe for ``"sum"``, Q̂/‖e‖²
        for ``"l2"``. NaN where the divisor is 0 or not finite.

    Raises:
        ValueError: if ``weights`` is unknown.
    """
    require_choice("weights", weights, NodeWeights)
    e = at_least_float32(embedding).flatten(1)
    if weights in ("l1", "signed"):
        divisor = e.abs().sum(1)
    elif weights == "sum":
        divisor = e.sum(1)
    else:
        divisor = e.square().sum(1)
    usable = torch.isfinite(divisor) & (divisor != 0)
    return quality / divisor.masked_fill(~usable, torch.nan)


def node_weights(embedding: Tensor, quality: Tensor, weights: NodeWeights = "l1") -> Tensor:
    r"""Weights of the quality node that is put on the embedding layer (Eq. 3).

    The node's output is :math:`M_Q(I) = \sum_k w_k e_k(I)`. Four choices of :math:`w`:

    - ``"l1"``: Q̂ / ‖e‖₁, for every feature. Eq. 3 as printed: the default.
    - ``"sum"``: Q̂ / Σe, for every feature. The released code.
    - ``"signed"``: Q̂ · sign(e) / ‖e‖₁. Eq. 3 with the signs that make its claim true.
    - ``"l2"``: Q̂ · e / ‖e‖². Along the embedding itself.

    The paper states that Eq. 3 makes the node output Q̂. With embeddings of both signs that
    is false for ``"l1"``, whose output is Q̂ · Σe/‖e‖₁ (near 0 on trained networks); it is
    true for the other three. ``"l1"`` and ``"sum"`` rank the pixels of one image alike, and
    as the gradient of Σe does. But ``"sum"`` divides by a number that passes through zero,
    so its maps cannot be compared between images; the default is the paper's, which can.
    ``"l2"`` alone does not depend on the arbitrary basis of the embedding. Its gradient
    vanishes for an embedding that is normalised to unit length, since it then points
    across the sphere: use it on embeddings that are not.

    Args:

        embedding (Tensor): (B, ...), the clean embedding e of each image.
        quality (Tensor): (B,), Q̂ of each image (or Q, if no scaling is wanted).
        weights (str): ``"l1"``, ``"sum"``, ``"signed"`` or ``"l2"``. Default: ``"l1"``.

    Returns:
        *Tensor*: the shape of ``embedding``.

    Raises:
        ValueError: if ``weights`` is unknown.

    Examples::

        >>> e = torch.tensor([[1.0, -3.0]])
        >>> node_weights(e, torch.tensor([0.8]), "l1")
        tensor([[0.2000, 0.2000]])
        >>> (node_weights(e, torch.tensor([0.8]), "signed") * e).sum()
        tensor(0.8000)
    """
    scale = node_scale(embedding, quality, weights)
    direction = node_direction(at_least_float32(embedding), weights)
    return scale.view(-1, *[1] * (embedding.ndim - 1)) * direction


# --- Eqs. 4-6: from the node to the map -----------------------------------------------


def saliency(output: Tensor, images: Tensor) -> Tensor:
    r"""Gradient of the node's output with respect to the pixels (Eq. 4).

    .. math:: S(I) = \frac{\partial M_Q(I)}{\partial I}

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
    r"""Limits the L2 norm of each image's gradient (Sec. VI, after Zhang et al., 2020).

    .. math:: S \leftarrow S \cdot \min\!\left(1, \frac{c}{\lVert S \rVert_2}\right)

    The paper recommends clipping "to avoid exploding gradients" and gives neither a norm
    nor a threshold. Clipping the norm keeps each image's ranking of its pixels. It is off
    by default, because it makes maps of different images incomparable once it acts.

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
    r"""Mean absolute gradient over the colour channels (Eq. 5).

    .. math:: \hat S_{ij} = \frac{1}{3} \sum_{c=1}^{3} \lvert g_{ijc} \rvert

    Args:

        gradient (Tensor): (..., C, H, W), S; C is 3 in the paper.
        dim (int): The channel dimension. Default: -3.

    Returns:
        *Tensor*: (..., H, W), ≥ 0.
    """
    return at_least_float32(gradient).abs().mean(dim)


def pixel_quality(merged: Tensor, gamma: float) -> Tensor:
    r"""Projects merged gradients to pixel qualities in [0, 1] (Eq. 6).

    .. math:: p_{ij} = 1 - \frac{1}{1 + 10^{\gamma}\, \hat g_{ij}^{\,2}}

    Computed as the logistic function of :math:`\gamma \ln 10 + 2 \ln \hat g`, which is the
    same and neither overflows nor loses the small values. (Eq. 6 carries a channel index;
    after Eq. 5 there is none.)

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

    Examples::

        >>> pixel_quality(torch.tensor([0.0, 1e-3, 1.0]), gamma=6.0)
        tensor([0.0000, 0.5000, 1.0000])
    """
    _require_finite("gamma", gamma)
    g = _finite_or_nan(at_least_float32(merged))
    return torch.sigmoid(gamma * math.log(10) + 2 * g.log())


def quality_map(gradient: Tensor, gamma: float) -> Tensor:
    """Pixel-level quality map P(I) of a saliency map S(I): Eq. 5, then Eq. 6.

    Args:

        gradient (Tensor): (B, C, H, W), what
            :meth:`PixelQualityAttribution.attribute` returns.
        gamma (float): γ, see :func:`pixel_quality`.

    Returns:
        *Tensor*: (B, H, W), in [0, 1]; high where a pixel supports recognition. Never
        scaled per image, so maps of different images can be compared.
    """
    return pixel_quality(merge_channels(gradient), gamma)


def half_quality_gamma(merged: Tensor) -> float:
    r"""γ at which the median pixel has quality ½: a start for a network without one.

    The paper recommends to choose γ on a good reference image, such that the centre of its
    face reads high and its background low (footnote 4). One γ then serves all images of a
    network: it must not be chosen anew for each.

    Args:

        merged (Tensor): ĝ of one or more reference images, any shape, ≥ 0.

    Returns:
        *float*: γ = -2 log₁₀ of the median ĝ.

    Raises:
        ValueError: if the median is 0, so that no γ exists, or a gradient is not finite.

    Examples::

        >>> half_quality_gamma(torch.tensor([1e-4, 1e-3, 1e-2]))
        6.0
    """
    g = at_least_float32(merged)
    median = float(g.median()) if bool(torch.isfinite(g).all()) else math.nan
    if not 0 < median < math.inf:
        raise ValueError(f"No γ fits gradients whose median is {median}.")
    return round(-2 * math.log10(median), 6)


def rescale_gamma(gamma: float, pixel_scale: float) -> float:
    r"""γ for pixels in another unit, such that the map stays the same.

    With :math:`x' = k x` every gradient is divided by k, hence
    :math:`\gamma' = \gamma + 2 \log_{10} k`.

    Args:

        gamma (float): γ for gradients with respect to x.
        pixel_scale (float): k > 0: 1/255 from 0–255 to 0–1 pixels, 1/128 to
            (x − 127.5)/128.

    Returns:
        *float*: γ for gradients with respect to x'.

    Raises:
        ValueError: if ``gamma`` is not finite, or ``pixel_scale`` not a finite number above 0.

    Examples::

        >>> round(rescale_gamma(7.5, 1 / 255), 2)
        2.69
    """
    _require_finite("gamma", gamma)
    if not 0 < pixel_scale < math.inf:
        raise ValueError(f"pixel_scale must be a finite number above 0, but got {pixel_scale}.")
    return gamma + 2 * math.log10(pixel_scale)


# --- Eqs. 7, 8: what a disturbance changes --------------------------------------------


def quality_change(original: Tensor, disturbed: Tensor) -> Tensor:
    r"""Loss of image quality by a disturbance (Eq. 7).

    .. math:: \Delta_{\hat Q} = \hat Q_{I_{org}} - \hat Q_{I_{mask}}

    Args:

        original (Tensor): Q̂ of the unmodified images, any shape.
        disturbed (Tensor): Q̂ of the disturbed ones, the same shape.

    Returns:
        *Tensor*: the same shape, in [-1, 1]; positive where the disturbance lowered the
        quality.
    """
    return original - disturbed


def pixel_quality_change(original: Tensor, disturbed: Tensor, mask: Tensor) -> Tensor:
    r"""Mean loss of pixel quality inside a disturbed area (Eq. 8).

    .. math:: \Delta_p = \frac{1}{|P|} \sum_{(i,j) \in P} p^{org}_{ij} - p^{mask}_{ij}

    Part of it is global: a lower Q̂ dims the whole map. Compare with the change outside,
    ``pixel_quality_change(original, disturbed, ~mask)``.

    Args:

        original (Tensor): (..., H, W), pixel qualities of the unmodified image.
        disturbed (Tensor): (..., H, W), those of the disturbed one.
        mask (Tensor): (..., H, W), bool, true inside the disturbed area P.

    Returns:
        *Tensor*: (...,), in [-1, 1]; positive where the pixels lost quality, NaN for an
        empty area.
    """
    loss = at_least_float32(original) - at_least_float32(disturbed)
    inside = mask.to(loss.dtype)
    total = (loss * inside).sum(dim=(-2, -1))
    return total / inside.sum(dim=(-2, -1))


# --- shared ---------------------------------------------------------------------------


def unit_length(embeddings: Tensor) -> Tensor:
    """Embeddings scaled to L2 length 1.

    Args:

        embeddings (Tensor): (..., d).

    Returns:
        *Tensor*: (..., d), float32 or float64; 0 where a row is all zero, NaN where one is not
        finite.
    """
    x = at_least_float32(embeddings)
    with torch.no_grad():  # lengths whose squares leave the range of the type
        largest, limits = x.abs().amax(-1, keepdim=True), torch.finfo(x.dtype)
        odd = ((largest < limits.tiny**0.25) & (largest > 0)) | (largest > limits.max**0.25)
        divisor = torch.where(odd & torch.isfinite(largest), largest, 1.0)
    return F.normalize(x / divisor, dim=-1)


def _informative(embeddings: Tensor, normalize: bool) -> Tensor:
    """Stochastic embeddings (..., m, d), of unit length if asked for; NaN where all are zero."""
    x = unit_length(embeddings) if normalize else embeddings
    empty = (embeddings == 0).flatten(-2).all(-1)
    return x.masked_fill(empty[..., None, None], torch.nan)


def _finite_or_nan(x: Tensor) -> Tensor:
    return x.masked_fill(torch.isinf(x), torch.nan)


def _require_finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got {value}.")


def _average_factor(m: int, average: PairAverage) -> float:
    """From the mean over pairs to the chosen average of Eq. 1."""
    require_choice("average", average, PairAverage)
    return (m - 1) / max(m, 1) if average == "paper" else 1.0
