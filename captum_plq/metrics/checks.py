"""Checks of score maps, and the environment that the metrics run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from captum_plq.network.state import untouched_rng

__all__ = ["require_finite", "require_maps", "seeded"]


def require_finite(name: str, values: Tensor | float) -> None:
    """Refuses NaN and infinity, which comparisons and sorting would let through as numbers.

    Args:

        name (str): What to call the values in an error.
        values (Tensor or float): Of any shape.

    Raises:
        ValueError: if one is not finite.
    """
    given = torch.as_tensor(values)
    if not bool(torch.isfinite(given).all()):
        wrong = int((~torch.isfinite(given)).sum())
        raise ValueError(
            f"{name} must be finite, but {wrong} of {given.numel()} values are NaN or infinite."
        )


def require_maps(maps: object, name: str = "maps") -> Tensor:
    """Checks that these are score maps, one per image.

    Args:

        maps (object): To be checked.
        name (str): What to call them in an error.

    Returns:
        *Tensor*: the same maps, (B, H, W), detached.

    Raises:
        TypeError: if they are not a floating-point tensor.
        ValueError: if they are not (B, H, W), or have no pixels, NaN or infinite values.
    """
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        kind = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise TypeError(f"{name} must be a floating-point tensor, but got {kind}.")
    if maps.ndim != 3 or maps.numel() == 0:
        raise ValueError(
            f"{name} must be score maps (B, H, W), channels merged, but got {tuple(maps.shape)}."
        )
    require_finite(name, maps)
    return maps.detach()


@contextmanager
def seeded(images: Tensor, seed: int) -> Iterator[None]:
    """Seeds the global random state, of the CPU and of the images' device; restores it after.

    Args:

        images (Tensor): On the device where the method runs.
        seed (int): Of the state inside.
    """
    with untouched_rng((images,)):
        torch.default_generator.manual_seed(seed)
        if images.is_cuda:
            with torch.cuda.device(images.device):
                torch.cuda.manual_seed(seed)
        yield
