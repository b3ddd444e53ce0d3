"""Maps at pixels whose outlines follow those of the image."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["guided_by_image"]

_CONTRAST, _FLOOR, _FIDELITY = 0.18, 1e-4, 1e-3
_TOLERANCE, _MOST_STEPS, _LOOK = 1e-4, 2000, 20

_Part = tuple[slice, slice, slice]
_Pair = tuple[_Part, _Part]
"""Pixels, and as many neighbours of theirs, each as an index of (B, H, W)."""


def guided_by_image(maps: Tensor, images: Tensor) -> Tensor:
    r"""Let a smooth map follow the edges of its image, keeping the map's sum.

    What comes from few places knows no outlines; the image does. The map returned is the
    minimum of

    .. math::

        \lambda \sum_i (u_i - z_i)^2 + \sum_{i \sim j} w_{ij} (u_i - u_j)^2 ,
        \qquad w_{ij} = \exp\left(-\frac{\lVert c_i - c_j \rVert^2}{2 \sigma^2}\right) + 10^{-4}

    over neighbouring pixels, also diagonal ones (:math:`w` is then divided by :math:`\sqrt 2`): it
    is near z on average, and changes where the colours c do (random walks, Grady, IEEE T-PAMI 2006;
    the quadratic form of Levin et al., Colorization, 2004). :math:`\lambda = 10^{-3}`; σ is .18 of
    the standard deviation of the image's values.

    Not in the paper. It adds no evidence: what is finer than the places was not measured. An image
    of one value guides nothing; its map stays as it is.

    Args:

        maps (Tensor): z, (B, H, W).
        images (Tensor): (B, C, H, W), in any unit.

    Returns:
        *Tensor*: u, (B, H, W), in the maps' unit and dtype. The sum over an image is that of its
        map. It does not depend on the rest of the batch.

    Raises:
        ValueError: if the sizes do not match.

    Examples::

        >>> places = LocalQuality(model, reference=5.0).attribute(images, at_places=True)
        >>> outlined = guided_by_image(enlarge(places, (112, 112)), images)
    """
    if images.ndim != 4 or maps.shape != (len(images), *images.shape[-2:]):
        raise ValueError(
            f"Maps {tuple(maps.shape)} do not match images {tuple(images.shape)}: (B, H, W) and "
            "(B, C, H, W) are needed."
        )
    with torch.no_grad():
        z, weights = maps.double(), _affinities(images.double())
        mean = z.mean((1, 2), keepdim=True)
        return (mean + _solved(z - mean, weights)).to(maps.dtype)


def _solved(z: Tensor, weights: list[tuple[Tensor, _Pair]]) -> Tensor:
    """Solve (λ + L) u = λ z by conjugate gradients, each image until it has converged."""

    def times(u: Tensor) -> Tensor:
        product = _FIDELITY * u
        for weight, (one, other) in weights:
            flow = weight * (u[one] - u[other])
            product[one] += flow
            product[other] -= flow
        return product

    diagonal = torch.full_like(z, _FIDELITY)
    for weight, (one, other) in weights:
        diagonal[one] += weight
        diagonal[other] += weight
    u, left = z.clone(), _FIDELITY * z - times(z)
    enough = (_TOLERANCE * _FIDELITY) ** 2 * _dot(z, z)
    step = scaled = left / diagonal
    energy = _dot(left, scaled)
    for count in range(_MOST_STEPS):
        going = _dot(left, left) > enough
        if count % _LOOK == 0 and not going.any():
            break
        ahead = times(step)
        length = torch.where(going, energy / _dot(step, ahead), 0)
        u, left = u + length * step, left - length * ahead
        scaled = left / diagonal
        before, energy = energy, _dot(left, scaled)
        step = torch.where(going, scaled + energy / before * step, step)
    return u - u.mean((1, 2), keepdim=True)


def _affinities(images: Tensor) -> list[tuple[Tensor, _Pair]]:
    """The weights w of all pairs of neighbours, direction by direction."""
    whole, most, rest = slice(None), slice(None, -1), slice(1, None)
    pairs = (
        ((whole, whole, most), (whole, whole, rest)),
        ((whole, most, whole), (whole, rest, whole)),
        ((whole, most, most), (whole, rest, rest)),
        ((whole, most, rest), (whole, rest, most)),
    )
    width = (_CONTRAST * images.std((1, 2, 3), correction=0)).view(-1, 1, 1)
    found = []
    for one, other in pairs:
        apart = sum((c[one] - c[other]) ** 2 for c in images.unbind(1))
        close = torch.exp(-apart / (2 * width**2)) / (1 if whole in one[1:] else 2**0.5)
        found.append((torch.where(width > 0, close + _FLOOR, 0), (one, other)))
    return found


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2), keepdim=True)
