"""What no protocol takes for a method's result."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_maps"]

_ROUNDING = 32
"""Units of rounding within which scaling up one value may scatter it."""


def check_maps(maps: Tensor, expected: tuple[int, ...]) -> Tensor:
    """Raises unless maps have the shape of their images, are finite, and tell pixels apart.

    A map that is the same everywhere ranks no pixel before another: its AUROC is ½ whatever the
    image shows, and compared with good faces it is rounding noise.

    Args:

        maps (Tensor): What a method returned.
        expected (tuple[int, ...]): (B, H, W), or the shape of attributions; (B,) for qualities.

    Returns:
        *Tensor*: the maps.

    Raises:
        ValueError: if they are of another shape, not finite, or one of them is constant.
    """
    if tuple(maps.shape) != tuple(expected):
        raise ValueError(f"returned shape {tuple(maps.shape)}, not {tuple(expected)}")
    flat = maps.detach().reshape(len(maps), -1)
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("returned NaN or infinite values")
    if flat.shape[1] > 1:
        spread = flat.amax(1) - flat.amin(1)
        constant = spread <= _ROUNDING * torch.finfo(flat.dtype).eps * flat.abs().amax(1)
        if bool(constant.any()):
            raise ValueError(
                f"constant: {int(constant.sum())} of {len(flat)} maps have one value at all pixels"
            )
    return maps
