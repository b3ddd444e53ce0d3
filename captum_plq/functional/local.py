r"""SER-FIQ's quality taken apart over the places of a spatial feature map.

Where a network is affine from its last spatial map :math:`a` to its embedding,
:math:`e = \sum_k J_k a_k + b` (k counts channels and places), dropout of :math:`a` at rate p moves
the embedding by noise whose trace is a sum over places s, and so is the embedding's squared length.
With :math:`\mu = e` and :math:`c = p / (1 - p)`,

.. math::
    N_s = \mu \cdot \sum_{k \in s} J_k a_k, \qquad
    T_s = c \sum_{k \in s} a_k^2 \lVert J_k \rVert^2, \qquad
    \rho = \frac{\lVert\mu\rVert^2}{T} = \frac{\sum_s N_s + \mu \cdot b}{\sum_s T_s}.

The expected distance of Eq. 1 is to leading order :math:`\sqrt{2 / (1 + \rho)}`, so the quality is
a function of this signal-to-noise ratio, :func:`quality_from_snr`, and against a reference
:math:`\rho_0`

.. math:: \rho - \rho_0 = \frac1T \Big( \sum_s (N_s - \rho_0 T_s) + \mu \cdot b \Big).

Each place's summand, times the slope of the chord from :math:`\rho_0` to :math:`\rho`, is what it
adds to the quality or takes from it. A place takes from it that holds noise without evidence, or
evidence against the rest of the face. Not in the paper; derived in docs/local_quality.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq._base.precision import at_least_float32, dot, finite_or_nan
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.functional.quality import quality_from_distance

__all__ = [
    "LocalReference",
    "PlaceShares",
    "local_quality",
    "local_reference",
    "local_zscore",
    "place_noise",
    "place_shares",
    "quality_from_snr",
    "signal_to_noise",
]


class PlaceShares(NamedTuple):
    """The shares of places in an embedding's signal and noise, from :func:`place_shares`.

    Args:

        evidence (Tensor): (B, H, W), N, of either sign.
        noise (Tensor): (B, H, W), T, ≥ 0.
        offset (Tensor): (B,), μ·b, the part of the squared length that no place has.
    """

    evidence: Tensor
    noise: Tensor
    offset: Tensor


class LocalReference(NamedTuple):
    """What high-quality faces show place by place, from :func:`local_reference`.

    Args:

        snr (float): ρ₀, their median signal-to-noise ratio.
        center (Tensor): (H, W), the median of their contributions to ρ - ρ₀.
        spread (Tensor): (H, W), the standard deviation of these, > 0.
        smoothed (Tensor, optional): (2, H, W), the median and the standard deviation, > 0, of
            standard scores that are averaged with those around them. ``None``: they are not
            averaged.
        centres (PlaceCentres, optional): Where the places lie in the image. ``None``: they share
            it out in equal cells.
    """

    snr: float
    center: Tensor
    spread: Tensor
    smoothed: Tensor | None = None
    centres: PlaceCentres | None = None

    @property
    def quality(self) -> float:
        """Q₀ = Q(ρ₀), of the median high-quality face."""
        return float(quality_from_snr(torch.tensor(self.snr, dtype=torch.float64)))


def place_shares(
    features: Tensor, slopes: Tensor, squared_norms: Tensor, offset: Tensor, dropout: float = 0.5
) -> PlaceShares:
    r"""Sum an embedding's signal and noise over the channels of each place.

    Examples::

        >>> shares = SpatialSERFIQ(model).shares(images)  # calls place_shares
        >>> shares.evidence.sum((1, 2)) + shares.offset  # ‖μ‖²

    Args:

        features (Tensor): (B, C, H, W), a, the last spatial map.
        slopes (Tensor): (B, C, H, W), :math:`J^\top \mu`.
        squared_norms (Tensor): (C, H, W), or (B, C, H, W) where they differ between images,
            :math:`\lVert J_k \rVert^2`.
        offset (Tensor): (B,), μ·b.
        dropout (float): p in (0, 1).

    Returns:
        *PlaceShares*: float32, or float64 if ``features`` are.
    """
    a = at_least_float32(features)
    noise = place_noise(a, squared_norms, dropout)
    return PlaceShares(dot(a, slopes.to(a), dim=1), noise, offset.to(a))


def place_noise(features: Tensor, squared_norms: Tensor, dropout: float = 0.5) -> Tensor:
    """Return T, the noise of :func:`place_shares` alone.

    Examples::

        >>> place_noise(torch.ones(1, 8, 2, 2), torch.ones(8, 2, 2))
        tensor([[[8., 8.],
                 [8., 8.]]])

    Args:

        features (Tensor): As for :func:`place_shares`.
        squared_norms (Tensor): Likewise.
        dropout (float): Likewise.

    Returns:
        *Tensor*: (B, H, W), float32, or float64 if ``features`` are.
    """
    a = at_least_float32(features)
    noise: Tensor = dot(a.square(), squared_norms.to(a), dim=-3) * (dropout / (1 - dropout))
    return noise


def signal_to_noise(shares: PlaceShares) -> Tensor:
    """Return ρ, the squared length of the embedding over the trace of its noise.

    Args:

        shares (PlaceShares): of B images.

    Returns:
        *Tensor*: (B,), ≥ 0 but for rounding; NaN where there is no noise, or shares are not finite.
    """
    total = shares.noise.sum((1, 2))
    return finite_or_nan((shares.evidence.sum((1, 2)) + shares.offset) / total)


def quality_from_snr(snr: Tensor) -> Tensor:
    r"""Return Eq. 1's quality for unit-length embeddings of signal-to-noise ratio ρ.

    To leading order, the expected distance of two stochastic embeddings is
    :math:`\sqrt{2 / (1 + \rho)}`.

    Examples::

        >>> quality_from_snr(torch.tensor([0.0, 1.0, 7.0]))
        tensor([0.3911, 0.5379, 0.7551])

    Args:

        snr (Tensor): ρ ≥ 0, any shape.

    Returns:
        *Tensor*: in (0, 1), the shape of ``snr``; rises with it.
    """
    return quality_from_distance(_distance(snr))


def local_quality(
    shares: PlaceShares, reference: float | Tensor | None = None, *, snr: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return what each place adds to the quality of an image, or takes from it.

    With :math:`\rho` of the image and :math:`Q(\rho)` of :func:`quality_from_snr`, the map and the
    offset add up to :math:`Q(\rho) - Q(\rho_0)`.

    Examples::

        >>> shares = SpatialSERFIQ(model).shares(images)
        >>> maps, offset = local_quality(shares, 5.0)
        >>> maps.sum((1, 2)) + offset  # how much better than the reference

    Args:

        shares (PlaceShares): of B images.
        reference (float or Tensor, optional): ρ₀ > 0, one for all images or (B,). ``None``: each
            image's own ρ, against which the image as a whole neither gains nor loses.
        snr (Tensor, optional): What :func:`signal_to_noise` gives for ``shares``, if that is known.

    Returns:
        *tuple[Tensor, Tensor]*: map (B, H, W) and offset (B,), in units of Q; NaN for an image
        whose ρ is.
    """
    snr = signal_to_noise(shares) if snr is None else snr
    slope = _chord(snr, reference) / shares.noise.sum((1, 2))
    if reference is None or isinstance(reference, Tensor):
        against = snr if reference is None else reference.to(snr).expand_as(snr)
        excess = shares.evidence - against.view(-1, 1, 1) * shares.noise
    else:
        excess = shares.evidence.sub(shares.noise, alpha=reference)
    return excess * slope.view(-1, 1, 1), shares.offset * slope


def local_reference(shares: PlaceShares, smooth: bool = True) -> LocalReference:
    """Measure the reference statistics of high-quality faces, place by place.

    Args:

        shares (PlaceShares): of n ≥ 2 aligned high-quality faces.
        smooth (bool): Whether standard scores are to be averaged with those around them, see
            :func:`local_zscore`.

    Returns:
        *LocalReference*: float32.

    Raises:
        ValueError: if there are fewer than two faces, one has no finite ρ, or all have the same
            contribution at some place.
    """
    snr = signal_to_noise(shares).double()
    if len(snr) < 2 or not bool(snr.isfinite().all()):
        raise ValueError(
            f"A reference needs two or more faces with a finite signal-to-noise ratio, but got "
            f"{int(snr.isfinite().sum())} of {len(snr)}."
        )
    reference = float(snr.median())
    contributions = _contributions(shares, reference).double()
    spread = contributions.std(0)
    if not bool((spread > 0).all()):
        raise ValueError(
            "The contributions of the faces are equal at some place: there is no spread. Give "
            "different images of faces."
        )
    center = contributions.median(0).values
    smoothed = None
    if smooth:
        scores = _around((contributions - center) / spread)
        smoothed = torch.stack([scores.median(0).values, scores.std(0)]).float()
    return LocalReference(reference, center.float(), spread.float(), smoothed)


def local_zscore(shares: PlaceShares, reference: LocalReference) -> Tensor:
    """Return how unusual each place's contribution is for a high-quality face.

    If the reference has ``smoothed``, scores are averaged with those of the eight places around
    them, with weights of 4, 2 and 1, and standardised once more.

    Args:

        shares (PlaceShares): of B images.
        reference (LocalReference): of the same network.

    Returns:
        *Tensor*: (B, H, W), in standard deviations; 0 is the median of high-quality faces, negative
        values take more quality away than theirs.

    Raises:
        ValueError: if the size of the map is not that of the reference.
    """
    if shares.evidence.shape[1:] != reference.center.shape:
        raise ValueError(
            f"The reference is of maps of size {tuple(reference.center.shape)}, but this one has "
            f"{tuple(shares.evidence.shape[1:])}."
        )
    contributions = _contributions(shares, reference.snr)
    center, spread = reference.center.to(contributions), reference.spread.to(contributions)
    scores = (contributions - center) / spread
    if reference.smoothed is None:
        return scores
    smoothed = reference.smoothed.to(scores)
    return (_around(scores) - smoothed[0]) / smoothed[1]


def _contributions(shares: PlaceShares, reference: float) -> Tensor:
    """(B, H, W), the summands of ρ - ρ₀."""
    total = shares.noise.sum((1, 2), keepdim=True)
    return finite_or_nan((shares.evidence - reference * shares.noise) / total)


def _around(scores: Tensor) -> Tensor:
    """Means over each place (weight 4) and those beside (2) and diagonal to it (1)."""
    line = scores.new_tensor([1.0, 2.0, 1.0])
    kernel = (line[:, None] * line)[None, None]

    def summed(x: Tensor) -> Tensor:
        return F.conv2d(x[:, None], kernel, padding=1)[:, 0]

    return summed(scores) / summed(torch.ones_like(scores[:1]))


def _distance(snr: Tensor) -> Tensor:
    return (0.5 * snr.clamp_min(0) + 0.5).rsqrt()


def _chord(snr: Tensor, reference: float | Tensor | None) -> Tensor:
    r"""Slope of Q(ρ) from ρ₀ to ρ, without cancellation; of the tangent where they are equal.

    With :math:`u = \sqrt{2/(1 + \rho)}`, :math:`Q = 1 - \tanh(u/2)`, so
    :math:`Q - Q_0 = \sinh(h) / (\cosh(u/2) \cosh(u_0/2))` with :math:`h = (u_0 - u)/2`, and
    :math:`\rho - \rho_0 = 4 h (u + u_0) / (u u_0)^2`.
    """
    u = _distance(snr)
    if reference is None:
        return u.pow(3) / (4 * u.cosh() + 4)
    u_0: Tensor | float
    factor: Tensor | float
    if isinstance(reference, Tensor):
        u_0 = _distance(reference.to(snr))
        factor = u_0.square() / (4 * (u_0 / 2).cosh())
    else:
        u_0 = math.sqrt(2 / (1 + reference))
        factor = u_0**2 / (4 * math.cosh(u_0 / 2))
    h = (u - u_0) / 2 + 1e-30  # sinh(h) / h is 1 at 0
    return factor * (h.sinh() / h) * u.square() / ((u + u_0) * (u / 2).cosh())
