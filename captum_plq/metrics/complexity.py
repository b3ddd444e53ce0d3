"""How concentrated an attribution is: on a few pixels, or spread over all of them.

Neither number knows whether the attribution is right.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32
from captum_plq.metrics.checks import require_finite

__all__ = ["complexity", "gini_index"]


def gini_index(attributions: Tensor) -> Tensor:
    r"""Sparseness: the Gini index of the absolute attributions.

    .. math:: G = 1 - 2 \sum_{k=1}^{N} \frac{c_{(k)}}{\lVert c \rVert_1}
        \cdot \frac{N - k + \tfrac12}{N}, \qquad c_{(1)} \le \dots \le c_{(N)},\; c = |a|

    Hurley and Rickard, "Comparing Measures of Sparsity", IEEE Trans. Inf. Theory 2009; of
    attributions by Chalasani et al., "Concise Explanations of Neural Networks using
    Adversarial Training", ICML 2020.

    Args:

        attributions (Tensor): (B, ...), any sign.

    Returns:
        *Tensor*: (B,), in [0, 1 − 1/N]: 0 if all N are equal in size, 1 − 1/N if all but one
        are 0.

    Raises:
        ValueError: if an attribution is not finite, empty, or all zero.

    Examples::

        >>> gini_index(torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 5.0]]))
        tensor([0.0000, 0.6667])
    """
    shares = _shares(attributions).sort(dim=1).values
    count = shares.shape[1]
    k = torch.arange(1, count + 1, device=shares.device, dtype=shares.dtype)
    # 1 - 2 (N - k + 1/2)/N, in a form in which equal shares cancel exactly
    return (shares * ((2 * k - 1 - count) / count)).sum(1)


def complexity(attributions: Tensor) -> Tensor:
    r"""Entropy of the distribution of the absolute attributions over the pixels.

    .. math:: -\sum_i P_i \ln P_i, \qquad P_i = \frac{|a_i|}{\sum_j |a_j|}

    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations",
    IJCAI 2020; 0 ln 0 is 0.

    Args:

        attributions (Tensor): (B, ...), any sign.

    Returns:
        *Tensor*: (B,), in nats, in [0, ln N]: 0 if all but one of N are 0, ln N if all are
        equal in size.

    Raises:
        ValueError: if an attribution is not finite, empty, or all zero.

    Examples::

        >>> complexity(torch.tensor([[1.0, -1.0], [0.0, 5.0]]))
        tensor([0.6931, 0.0000])
    """
    entropy: Tensor = torch.special.entr(_shares(attributions))
    return entropy.sum(1)


def _shares(attributions: Tensor) -> Tensor:
    """(B, N): the share of each entry in the sum of absolute values."""
    if attributions.ndim < 2 or attributions.numel() == 0:
        raise ValueError(
            f"attributions must be (B, ...), not empty, but got {tuple(attributions.shape)}."
        )
    require_finite("attributions", attributions)
    sizes = at_least_float32(attributions.detach()).flatten(1).abs()
    greatest = sizes.amax(1, keepdim=True)
    sizes = sizes / torch.where(greatest > 0, greatest, 1.0)  # the sum may not be infinite
    total = sizes.sum(1, keepdim=True)
    empty = (total == 0).flatten().nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"An attribution must not be zero everywhere, but nos. {empty} are.")
    return sizes / total
