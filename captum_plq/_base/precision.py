"""The precision of sums, products and squares, and numbers that are not finite."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["at_least_float32", "dot", "finite_or_nan", "require_finite"]


def at_least_float32(x: Tensor) -> Tensor:
    """Raise half precision to float32; leave float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def dot(x: Tensor, y: Tensor, dim: int = -1) -> Tensor:
    """Sum products along a dimension; autocast, which lowers ``vecdot``, leaves them alone."""
    return (x * y).sum(dim)


def finite_or_nan(x: Tensor) -> Tensor:
    """Replace infinite values by NaN."""
    return x + 0 * x


def require_finite(name: str, value: float) -> None:
    """Raise a ``ValueError`` that names the parameter unless its value is finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got {value}.")
