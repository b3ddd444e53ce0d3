"""The quality of an image from its stochastic embeddings (Eq. 1), and its scaling (Eq. 2)."""

from __future__ import annotations

import functools
import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from captum_plq._base.choices import require_choice
from captum_plq._base.precision import at_least_float32, finite_or_nan, require_finite

__all__ = [
    "PairAverage",
    "QualityScaling",
    "mean_pairwise_distance",
    "quality_from_distance",
    "quality_from_embeddings",
    "quality_with_standard_error",
    "scale_quality",
    "unit_length",
]

PairAverage = Literal["paper", "pairs"]
"""How Eq. 1 averages over pairs: see :func:`mean_pairwise_distance`."""

_DISTANCES_AT_A_TIME = 2**19
"""Distances held at once: 2 MiB in float32, and a few times that on the way to them."""


class QualityScaling(NamedTuple):
    r"""α and r of Eq. 2.

    The paper's values, for its two networks: ``QualityScaling(130.0, 0.88)`` (ArcFace,
    ResNet-100) and ``QualityScaling(450.0, 0.93)`` (FaceNet). Both belong to the network
    they were measured on; r is near the mean quality of a development set.
    """

    alpha: float
    r: float


def mean_pairwise_distance(
    embeddings: Tensor, average: PairAverage = "paper", *, group_size: int = 1
) -> Tensor:
    r"""Average the Euclidean distance over pairs of an image's stochastic embeddings (Eq. 1).

    .. math:: \bar d = \frac{2}{m^2} \sum_{i<j} \lVert x_i - x_j \rVert_2

    Distances come from one matrix product of the *centred* rows, so near-equal rows lose
    no digits; two equal rows have distance 0 and gradient 0. Many rows are processed in blocks,
    and again in the backward pass, so that memory stays linear in m.

    Examples::

        >>> mean_pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "pairs")
        tensor(5.)

    Args:

        embeddings (Tensor): (..., m, d): m ≥ 2 stochastic embeddings per image.
        average (str): ``"paper"`` divides the sum over the m(m−1)/2 pairs by m²/2, as
            Eq. 1 is printed. ``"pairs"`` divides by the number of pairs, as the released
            code does; it estimates the expected distance without bias and is the paper's
            value times m/(m−1), 1 % more at m = 100. Default: the paper's.
        group_size (int): Rows come in groups of this many, one after another, that were
            not drawn independently (see
            :class:`~captum_plq.functional.masks.BalancedMasks`). Pairs within a group are left
            out; the expected value of either average stays the same. Default: 1, the paper's.

    Returns:
        *Tensor*: (...,), in the units of the embedding; [0, 2] for unit vectors. NaN where rows
        are not finite.

    Raises:
        ValueError: if ``average`` is unknown, or m is not two or more groups.
    """
    factor = _average_factor(embeddings, average)
    return factor * _distance_to_others(embeddings, group_size).mean(-1)


def quality_from_embeddings(
    embeddings: Tensor,
    *,
    average: PairAverage = "paper",
    normalize: bool = True,
    group_size: int = 1,
) -> Tensor:
    r"""Compute the quality of an image from its stochastic embeddings (Eq. 1; SER-FIQ, CVPR 2020).

    .. math:: Q = 2\,\sigma\!\left(-\bar d\right)

    Examples::

        >>> quality_from_embeddings(torch.ones(4, 100, 512))
        tensor([1., 1., 1., 1.])

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
    """
    x = unit_length(embeddings) if normalize else embeddings
    distance = mean_pairwise_distance(x, average, group_size=group_size)
    return quality_from_distance(distance.masked_fill(_is_empty(embeddings), torch.nan))


def quality_from_distance(distance: Tensor) -> Tensor:
    r"""Turn a mean distance into a quality, :math:`Q = 2\,\sigma(-\bar d)` (outer part of Eq. 1).

    Examples::

        >>> quality_from_distance(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.5379])

    Args:

        distance (Tensor): Mean pairwise distance, any shape, ≥ 0.

    Returns:
        *Tensor*: the shape of ``distance``, in (0, 1]; NaN where it is not finite.
    """
    return 2 * torch.sigmoid(-finite_or_nan(distance))


def quality_with_standard_error(
    embeddings: Tensor,
    *,
    average: PairAverage = "paper",
    normalize: bool = True,
    group_size: int = 1,
) -> tuple[Tensor, Tensor]:
    r"""Compute :func:`quality_from_embeddings` and its standard error from drawing only m passes.

    The delete-one jackknife (Efron & Stein, "The jackknife estimate of variance", 1981) of
    the mean pairwise distance over its n independent passes, or groups of them. Leaving one
    out takes away its mean distance :math:`h_i` to the others, so the variance is
    :math:`4\,\frac{(n-1)^2}{n (n-2)^2}\,\mathrm{Var}(h_i)`; it errs on the safe side. The
    slope of Eq. 1, :math:`-Q(1 - Q/2)`, carries it to Q. Not in the paper, which repeats the
    whole estimate ten times instead (Fig. 3).

    Examples::

        >>> quality, error = quality_with_standard_error(torch.rand(4, 100, 512))

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
        ValueError: if ``average`` is unknown, or there are fewer than 3 passes or groups.
    """
    factor, count = _average_factor(embeddings, average), embeddings.shape[-2] // group_size
    if count < 3:
        raise ValueError(
            f"A standard error needs at least 3 independent stochastic embeddings, or groups of "
            f"them, but got {count}."
        )
    x = unit_length(embeddings) if normalize else embeddings
    to_others = factor * _distance_to_others(x, group_size)
    to_others = to_others.masked_fill(_is_empty(embeddings).unsqueeze(-1), torch.nan)
    of_groups = to_others.unflatten(-1, (count, group_size)).mean(-1)
    q = quality_from_distance(of_groups.mean(-1))
    of_mean = 2 * (count - 1) / (count - 2) * of_groups.std(-1) / math.sqrt(count)
    return q, q * (1 - q / 2) * of_mean


def scale_quality(quality: Tensor, scaling: QualityScaling | None) -> Tensor:
    r"""Stretch qualities over [0, 1] (Eq. 2).

    .. math:: \hat Q = \sigma\!\left(\alpha\,(Q - r)\right)

    Examples::

        >>> scale_quality(torch.tensor([0.87, 0.88, 0.89]), QualityScaling(130.0, 0.88))
        tensor([0.2142, 0.5000, 0.7858])

    Args:

        quality (Tensor): Q, any shape.
        scaling (QualityScaling, optional): α and r. The paper calls the scaling optional:
            ``None`` returns ``quality`` as it is.

    Returns:
        *Tensor*: Q̂, the shape of ``quality``, in (0, 1); NaN where that is not finite. Strictly
        increasing in Q for α > 0, so no ranking changes.

    Raises:
        ValueError: if α or r is not finite.
    """
    if scaling is None:
        return quality
    require_finite("α", scaling.alpha)
    require_finite("r", scaling.r)
    q = finite_or_nan(at_least_float32(quality))
    return torch.sigmoid(scaling.alpha * (q - scaling.r))


def unit_length(embeddings: Tensor) -> Tensor:
    """Scale embeddings to L2 length 1.

    Examples::

        >>> unit_length(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])

    Args:

        embeddings (Tensor): (..., d).

    Returns:
        *Tensor*: (..., d), float32 or float64; 0 where a row is all zero, NaN where one is not
        finite.
    """
    x = at_least_float32(embeddings)
    with torch.no_grad():  # 1, but for lengths whose squares leave the range of the type
        largest = torch.linalg.vector_norm(x, math.inf, dim=-1, keepdim=True)
        limits = torch.finfo(x.dtype)
        within = largest.clamp(limits.tiny**0.25, limits.max**0.25)
        divisor = (largest / within).masked_fill(largest == 0, 1.0)
    return F.normalize(x / divisor, dim=-1)


def _is_empty(embeddings: Tensor) -> Tensor:
    """Whether all stochastic embeddings (..., m, d) of an image are zero: (...)."""
    largest: Tensor = torch.linalg.vector_norm(embeddings.detach(), math.inf, dim=(-2, -1))
    return largest == 0


def _average_factor(embeddings: Tensor, average: PairAverage) -> float:
    """From the mean over pairs to the chosen average of Eq. 1."""
    require_choice("average", average, PairAverage)
    m = embeddings.shape[-2]
    return (m - 1) / max(m, 1) if average == "paper" else 1.0


def _distance_to_others(embeddings: Tensor, group_size: int) -> Tensor:
    """Mean distance (..., m) from each row (..., m, d) to the rows of all other groups."""
    m = embeddings.shape[-2]
    if m % group_size or m < 2 * group_size:
        raise ValueError(
            f"Pairwise distances need at least 2 embeddings (or groups of them), but got {m} in "
            f"groups of {group_size}."
        )
    x = at_least_float32(embeddings)
    with torch.autocast(x.device.type, enabled=False):
        x = x - x.mean(dim=-2, keepdim=True)
        norms = x.square().sum(-1)
        group = torch.arange(m, device=x.device) // group_size

        def sums(rows: Tensor, rows_norms: Tensor, rows_group: Tensor) -> Tensor:
            norm_sums = rows_norms.unsqueeze(-1) + norms.unsqueeze(-2)
            squares = norm_sums - 2 * (rows @ x.transpose(-2, -1))
            # What rounding leaves between two equal rows is no distance, and has no direction.
            # (NaN is not equal: it is kept, and makes the sum NaN.)
            equal = squares <= 16 * torch.finfo(x.dtype).eps * norm_sums
            left_out = (rows_group.unsqueeze(1) == group) | equal
            # The inner fill keeps the infinite slope of the root at 0 out of the gradient.
            return squares.masked_fill(left_out, 1.0).sqrt().masked_fill(left_out, 0.0).sum(-1)

        count = max(1, _DISTANCES_AT_A_TIME // max(1, norms.numel()))
        if count >= m:
            return sums(x, norms, group) / (m - group_size)
        run = sums
        if torch.is_grad_enabled():
            run = functools.partial(checkpoint, sums, use_reentrant=False, preserve_rng_state=False)
        blocks = zip(x.split(count, -2), norms.split(count, -1), group.split(count), strict=True)
        return torch.cat([run(*block) for block in blocks], dim=-1) / (m - group_size)
