"""Gradients along random directions of the embedding, and their root mean square."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32
from captum_plq._base.tracing import untraced

__all__ = ["root_mean_square", "sign_directions", "signs_on"]


def sign_directions(count: int, features: Sequence[int], seed: int) -> Tensor:
    r"""Draw directions of the embedding that have an equal share in each feature.

    For a direction :math:`s` of independent random signs, :math:`E[(s^\top j)^2] = \|j\|_2^2` for
    any vector :math:`j` (Hutchinson, "A stochastic estimator of the trace of the influence
    matrix", 1990).

    Examples::

        >>> sign_directions(4, (512,), seed=0).shape
        torch.Size([4, 512])

    Args:

        count (int): How many, at least 1.
        features (sequence of int): Shape of one embedding.
        seed (int): The same seed gives the same directions, on every device; the first few
            are the same for every ``count``.

    Returns:
        *Tensor*: (count, \*features), float32 on the CPU, each entry -1 or 1.
    """
    return signs_on(count, tuple(map(int, features)), seed, torch.device("cpu")).clone()


@lru_cache(maxsize=8)
def signs_on(count: int, features: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Return :func:`sign_directions` on a device, copied there once; not to be written to."""
    with torch.inference_mode(False), untraced():
        generator = torch.Generator("cpu").manual_seed(seed)
        coins = torch.randint(0, 2, (count, *features), generator=generator, device="cpu")
        return (coins.float() * 2 - 1).to(device)


def root_mean_square(gradients: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    r"""Take the root mean square of the gradients along several directions.

    .. math:: \sqrt{\tfrac{1}{K}\sum_k \left(\partial\, s_k^\top c / \partial x\right)^2}

    Its square estimates :math:`\sum_j (\partial c_j / \partial x)^2` without bias.

    Examples::

        >>> root_mean_square([[torch.tensor([7.0])], [torch.tensor([-1.0])]])
        (tensor([5.]),)

    Args:

        gradients (iterable of sequences of Tensor): For each direction the gradients with
            respect to the same tensors; taken one direction at a time.

    Returns:
        *tuple[Tensor, ...]*: of the shapes and dtypes of one direction's gradients, ≥ 0.
    """
    totals: list[Tensor] = []
    along: Sequence[Tensor] = ()
    count = 0
    for along in gradients:
        wide = [at_least_float32(gradient) for gradient in along]
        totals = [torch.hypot(a, b) for a, b in zip(totals, wide, strict=True)] if count else wide
        count += 1
    return tuple((t.abs() / count**0.5).to(g) for t, g in zip(totals, along, strict=True))
