"""The regression node that is put on the embedding layer (Eq. 3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq._base.precision import at_least_float32

__all__ = ["NodeWeights", "node_direction", "node_scale", "node_weights"]

NodeWeights = Literal["l1", "sum", "signed", "l2"]
"""How Eq. 3 weights the embedding: see :func:`node_weights`."""


def node_direction(embedding: Tensor, weights: NodeWeights = "l1") -> Tensor:
    r"""Return the direction of the quality node's weights, before :func:`node_scale`.

    Examples::

        >>> node_direction(torch.tensor([[2.0, -3.0]]), "signed")
        tensor([[ 1., -1.]])

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
    r"""Return the factor that turns :func:`node_direction` into the weights of Eq. 3.

    It is one number per image, so the gradient of Eq. 4 may be taken through the direction
    alone and multiplied by it afterwards: the same in exact arithmetic, and free of
    underflow in half precision.

    Examples::

        >>> node_scale(torch.tensor([[1.0, -3.0]]), torch.tensor([0.8]))
        tensor([0.2000])

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
    divisor: Tensor
    if weights in ("l1", "signed"):
        divisor = torch.linalg.vector_norm(e, 1, dim=1)
    elif weights == "sum":
        divisor = e.sum(1)
    else:
        divisor = e.square().sum(1)
    scale: Tensor = quality / divisor.masked_fill((divisor == 0) | torch.isinf(divisor), torch.nan)
    return scale


def node_weights(embedding: Tensor, quality: Tensor, weights: NodeWeights = "l1") -> Tensor:
    r"""Return the weights of the quality node that is put on the embedding layer (Eq. 3).

    The node's output is :math:`M_Q(I) = \sum_k w_k e_k(I)`. Four choices of :math:`w`:

    - ``"l1"``: Q̂ / ‖e‖₁, for every feature. Eq. 3 as printed: the default.
    - ``"sum"``: Q̂ / Σe, for every feature. The released code.
    - ``"signed"``: Q̂ · sign(e) / ‖e‖₁. Eq. 3 with the signs that make its claim true.
    - ``"l2"``: Q̂ · e / ‖e‖². Along the embedding itself.

    Examples::

        >>> e = torch.tensor([[1.0, -3.0]])
        >>> node_weights(e, torch.tensor([0.8]), "l1")
        tensor([[0.2000, 0.2000]])
        >>> (node_weights(e, torch.tensor([0.8]), "signed") * e).sum()
        tensor(0.8000)

    The paper states that Eq. 3 makes the node output Q̂. With embeddings of both signs this
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
    """
    scale = node_scale(embedding, quality, weights)
    direction = node_direction(at_least_float32(embedding), weights)
    return scale.view(-1, *[1] * (embedding.ndim - 1)) * direction
