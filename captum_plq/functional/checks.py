"""What is not finite becomes NaN in a tensor, and an error in a parameter."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["finite_or_nan", "require_finite"]


def finite_or_nan(x: Tensor) -> Tensor:
    """Replaces infinite values by NaN."""
    return x.masked_fill(torch.isinf(x), torch.nan)


def require_finite(name: str, value: float) -> None:
    """Raises a ``ValueError`` that names the parameter unless it is finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, but got {value}.")
