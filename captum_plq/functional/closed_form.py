"""SER-FIQ's expected distance in closed form: the limit of sampling, without sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32

__all__ = ["NoiseMap", "expected_pairwise_distance", "noise_map"]


class NoiseMap(NamedTuple):
    r"""Statistics of a matrix W from which the noise of dropout follows, see :func:`noise_map`.

    Args:

        squared_norms (Tensor): (D,), the squared length of each column of W.
        sample (Tensor or None): (K,), the columns that stand for all of them. ``None``: all do.
        columns (Tensor): (d, K), these columns.
        spread (Tensor or None): (P, K), the rows :math:`v^\top W` of P probes v.
    """

    squared_norms: Tensor
    sample: Tensor | None
    columns: Tensor
    spread: Tensor | None


def noise_map(
    weight: Tensor, *, probes: Tensor | None = None, sample: Tensor | None = None
) -> NoiseMap:
    r"""Prepare a matrix for :func:`expected_pairwise_distance`.

    Examples::

        >>> noise = noise_map(torch.eye(64), sample=torch.arange(0, 64, 2))
        >>> noise.columns.shape
        torch.Size([64, 32])

    Args:

        weight (Tensor): (d, D), W, with whatever affine follows (BatchNorm) folded in.
        probes (Tensor, optional): (d, P) of ±1. The term :math:`t_2 = \mathrm{tr}\,\Sigma^2`
            is then estimated as the mean of :math:`\lVert \Sigma v \rVert^2` over the columns
            v (Hutchinson), at the cost of P stochastic passes per image; exactly, it costs
            d. ``None``: exactly.
        sample (Tensor, optional): (K,), columns drawn at random, from which the small
            terms q, S and t₂ are extrapolated. ``None``: all columns.

    Returns:
        *NoiseMap*: in float32, or float64 if ``weight`` is.
    """
    w = at_least_float32(weight)
    columns = w if sample is None else w[:, sample].contiguous()
    spread = None if probes is None else probes.to(w).T @ columns
    return NoiseMap(w.square().sum(0), sample, columns, spread)


def expected_pairwise_distance(
    features: Tensor, mean: Tensor, noise: NoiseMap, dropout: float = 0.5
) -> Tensor:
    r"""Compute the expected distance between two stochastic embeddings of unit length.

    The limit of :func:`~captum_plq.functional.mean_pairwise_distance` with ``"pairs"`` as m
    grows, for an affine embedding layer, to second order in the noise. Not in the paper;
    derived in docs/estimators.md.

    Examples::

        >>> f = torch.ones(1, 1000)
        >>> expected_pairwise_distance(f, f, noise_map(torch.eye(1000)))  # half is shared
        tensor([0.9999])

    With :math:`y = W (f \circ z) + b`, :math:`z_k`
    independent, 1/(1-p) with probability 1-p and 0 otherwise, write :math:`\mu = W f + b`,
    :math:`\zeta_k = z_k - 1`, :math:`c = p/(1-p)`,
    :math:`h_k = f_k^2 \lVert w_k \rVert^2`, :math:`a_k = f_k\, w_k \cdot \mu`, and

    .. math::
        T = c \sum_k h_k,\quad q = c \sum_k a_k^2,\quad
        t_2 = c^2 \lVert W \mathrm{diag}(f^2) W^\top \rVert_F^2,\quad
        S = \kappa_3 \sum_k a_k h_k,\quad H = \kappa_4 \sum_k h_k^2,

    with :math:`\kappa_3 = E\zeta^3 = p^3/(1-p)^2 - p` and
    :math:`\kappa_4 = E\zeta^4 - 3c^2 = p^4/(1-p)^3 + p - 3c^2`. The cosine of two draws,
    :math:`R = y_1 \cdot y_2 / (\lVert y_1 \rVert \lVert y_2 \rVert)`, is expanded around
    :math:`E[y_1 \cdot y_2] = \lVert\mu\rVert^2` and
    :math:`E\lVert y_i \rVert^2 = s = \lVert\mu\rVert^2 + T`. The variances of the product and
    of a squared length, and their covariance, are :math:`V_A = 2q + t_2`,
    :math:`V_B = 4q + 4S + 2t_2 + H`, :math:`C = 2q + S`; so, with
    :math:`R_0 = \lVert\mu\rVert^2/s`,

    .. math::
        E R \approx R_0 - C/s^2 + \tfrac34 R_0 V_B/s^2,\qquad
        \mathrm{Var} R \approx (V_A + \tfrac12 R_0^2 V_B - 2 R_0 C)/s^2,

    and as :math:`\lVert u_1 - u_2 \rVert = \sqrt{2(1-R)}`, with
    :math:`D_0 = \sqrt{2(1 - E R)}`,

    .. math:: E \lVert u_1 - u_2 \rVert \approx D_0 - \frac{\mathrm{Var} R}{2 D_0^3}.

    It assumes that many features share the noise. Heads of very low rank, or whose embeddings
    all but align, can be off by several percent: compare with sampling once per network.

    Args:

        features (Tensor): (B, D), f, the input of the embedding layer without dropout.
        mean (Tensor): (B, d), μ, the embedding without dropout, before any normalisation.
        noise (NoiseMap): of W, with whatever affine follows (BatchNorm) folded in.
        dropout (float): p in (0, 1).

    Returns:
        *Tensor*: (B,), in [0, 2]; NaN where ``features`` or ``mean`` are not finite, or the
        embedding is all zero. Differentiable with respect to ``features`` and ``mean``.
    """
    c = dropout / (1 - dropout)
    kappa_3 = dropout**3 / (1 - dropout) ** 2 - dropout
    kappa_4 = dropout**4 / (1 - dropout) ** 3 + dropout - 3 * c**2
    w, total = noise.columns, noise.squared_norms.shape[0]
    each = total / w.shape[1]  # how many columns one of the sample stands for
    with torch.autocast(features.device.type, enabled=False):
        f, mu = features.to(w.dtype), mean.to(w.dtype)
        squares = f.square()
        h = squares * noise.squared_norms
        f_k, h_k, squares_k = f, h, squares
        if noise.sample is not None:
            f_k, h_k, squares_k = (x[:, noise.sample] for x in (f, h, squares))
        a = f_k * (mu @ w)
        rows = w if noise.spread is None else noise.spread
        sigma = (squares_k.unsqueeze(1) * rows) @ w.T  # (B, d or P, d)
        scale = (c * each) ** 2 / (1 if noise.spread is None else len(rows))
        t_2 = scale * sigma.square().sum((1, 2))
        of_h = h.square().sum(1)
        if noise.sample is not None:  # pairs of columns are found more rarely than columns
            pairs = (total - 1) / (each * (w.shape[1] - 1))
            t_2 = pairs * t_2 - pairs * (c * each) ** 2 * h_k.square().sum(1) + c**2 * of_h
        q, skew = c * each * a.square().sum(1), kappa_3 * each * (a * h_k).sum(1)
        length, trace = mu.square().sum(1), c * h.sum(1)
    s = length + trace
    # A length of 0 has no direction, and fourth powers must stay within the range of the type.
    limits = torch.finfo(s.dtype)
    s = s.masked_fill((s <= limits.tiny**0.4) | (s >= limits.max**0.4), torch.nan)
    cov, v_a = 2 * q + skew, 2 * q + t_2
    v_b = 2 * (v_a + 2 * skew) + kappa_4 * of_h
    r_0, squared = length / s, s.square()
    gap = trace / s + (cov - 0.75 * r_0 * v_b) / squared  # 1 - E R, without cancellation
    variance = (v_a + r_0 * (0.5 * r_0 * v_b - 2 * cov)) / squared
    still = gap <= 0  # NaN stays NaN
    d_0 = (2 * gap).masked_fill(still, 1.0).sqrt()
    distance = d_0 - variance.clamp_min(0) / (2 * d_0**3)
    return distance.masked_fill(still, 0.0).clamp(0.0, 2.0)
