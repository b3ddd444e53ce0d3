"""SER-FIQ's expected distance in closed form: what sampling tends to, without sampling."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_plq.functional import at_least_float32

__all__ = ["AffineMap", "affine_map", "expected_pairwise_distance"]


class AffineMap(NamedTuple):
    r"""An affine embedding layer :math:`y = W x + b`, and what is known of it beforehand.

    Args:

        weight (Tensor): (d, D), W, float32 or float64.
        bias (Tensor): (d,), b.
        squared_norms (Tensor): (D,), the squared length of each column of W.
        spread (Tensor or None): (K, D), the rows :math:`v^\top W` of K probes v.
    """

    weight: Tensor
    bias: Tensor
    squared_norms: Tensor
    spread: Tensor | None


def affine_map(
    weight: Tensor, bias: Tensor | None = None, probes: Tensor | None = None
) -> AffineMap:
    r"""Prepares an affine embedding layer for :func:`expected_pairwise_distance`.

    Args:

        weight (Tensor): (d, D), W.
        bias (Tensor, optional): (d,), b.
        probes (Tensor, optional): (d, K) of ±1. The term :math:`t_2 = \mathrm{tr}\,\Sigma^2`
            is then estimated as the mean of :math:`\lVert \Sigma v \rVert^2` over the columns
            v (Hutchinson), at the cost of K stochastic passes per image; exactly, it costs
            d. ``None``: exactly.

    Returns:
        *AffineMap*: in float32, or float64 if ``weight`` is.
    """
    w = at_least_float32(weight)
    b = w.new_zeros(len(w)) if bias is None else bias.to(w.dtype)
    spread = None if probes is None else probes.to(w).T @ w
    return AffineMap(w, b, w.square().sum(0), spread)


def expected_pairwise_distance(features: Tensor, head: AffineMap, dropout: float = 0.5) -> Tensor:
    r"""Expected distance between two stochastic embeddings of unit length, without sampling.

    What :func:`~captum_plq.functional.mean_pairwise_distance` with ``"pairs"`` tends to as m
    grows, for an affine embedding layer, to second order in the noise. Not in the paper. With
    :math:`y = W (f \circ z) + b`, :math:`z_k` independent, 1/(1-p) with probability 1-p and 0
    otherwise, write :math:`\mu = W f + b`, :math:`\zeta_k = z_k - 1`, :math:`c = p/(1-p)`,
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
        head (AffineMap): W and b, with whatever affine follows (BatchNorm) folded in.
        dropout (float): p in (0, 1).

    Returns:
        *Tensor*: (B,), in [0, 2]. Differentiable with respect to ``features``.

    Examples::

        >>> head = affine_map(torch.eye(1000))
        >>> expected_pairwise_distance(torch.ones(1, 1000), head)  # half the features shared
        tensor([0.9999])
    """
    c = dropout / (1 - dropout)
    kappa_3 = dropout**3 / (1 - dropout) ** 2 - dropout
    kappa_4 = dropout**4 / (1 - dropout) ** 3 + dropout - 3 * c**2
    w = head.weight
    with torch.autocast(features.device.type, enabled=False):
        f = features.to(w.dtype)
        mu = f @ w.T + head.bias
        a, h = f * (mu @ w), f.square() * head.squared_norms
        rows = w if head.spread is None else head.spread
        sigma = c * (f.square().unsqueeze(1) * rows) @ w.T  # (B, d or K, d)
    t_2 = sigma.square().sum((1, 2)) if head.spread is None else sigma.square().sum(2).mean(1)
    length, noise = mu.square().sum(1), c * h.sum(1)
    s = length + noise
    s = torch.where(s > 0, s, 1.0)
    q, skew = c * a.square().sum(1), kappa_3 * (a * h).sum(1)
    v_a, cov = 2 * q + t_2, 2 * q + skew
    v_b = 4 * q + 4 * skew + 2 * t_2 + kappa_4 * h.square().sum(1)
    r_0 = length / s
    gap = noise / s + (cov - 0.75 * r_0 * v_b) / s.square()  # 1 - E R, without cancellation
    variance = (v_a + 0.5 * r_0.square() * v_b - 2 * r_0 * cov) / s.square()
    moves = gap > 0
    d_0 = torch.where(moves, 2 * gap, 1.0).sqrt()
    distance = d_0 - variance.clamp_min(0) / (2 * d_0**3)
    return torch.where(moves, distance, 0.0).clamp(0.0, 2.0)
