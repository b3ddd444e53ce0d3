"""Check the arguments of metrics; seed what runs inside them, and give it back as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = [
    "evaluation_mode",
    "pixel_range",
    "require_finite",
    "require_maps",
    "require_seeds",
    "seeded",
    "untouched_rng",
]


def require_finite(name: str, values: Tensor | float) -> None:
    """Raise if a value is NaN or infinite, since comparing and sorting would hide it.

    Args:

        name (str): What to call the values in an error.
        values (Tensor or float): Of any shape.

    Raises:
        ValueError: if a value is not finite.
    """
    given = torch.as_tensor(values)
    if not bool(torch.isfinite(given).all()):
        wrong = int((~torch.isfinite(given)).sum())
        raise ValueError(
            f"{name} must be finite, but {wrong} of {given.numel()} values are NaN or infinite."
        )


def require_maps(maps: object, name: str = "maps") -> Tensor:
    """Return score maps, detached, or raise if they are none.

    Args:

        maps (object): To be checked.
        name (str): What to call them in an error.

    Returns:
        *Tensor*: the same maps, (B, H, W).

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


def require_seeds(seeds: Sequence[int]) -> None:
    """Raise unless there are at least two seeds, all different.

    Raises:
        ValueError: if there are fewer, or two are the same.
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least two different numbers, but got {tuple(seeds)}.")


def pixel_range(images: Tensor) -> Tensor:
    """Return maximum − minimum of each image (B, ...), in a shape that broadcasts: (B, 1, ...)."""
    flat = images.flatten(1)
    return (flat.amax(1) - flat.amin(1)).view(-1, *[1] * (images.ndim - 1))


@contextmanager
def seeded(images: Tensor, seed: int) -> Iterator[None]:
    """Seed the global random state of the CPU and of the images' device; restore it afterwards.

    Args:

        images (Tensor): On the device where the method runs.
        seed (int): For the ``with`` block.
    """
    with untouched_rng((images,)):
        torch.default_generator.manual_seed(seed)
        if images.is_cuda:
            with torch.cuda.device(images.device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every submodule in evaluation mode, then each back into the mode it was in.

    Sets the flags themselves rather than calling ``model.train()``, which some converted
    networks answer with other weights.
    """
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def untouched_rng(tensors: Sequence[object]) -> Iterator[None]:
    """Restore the global random state of the CPU and of the devices of ``tensors``."""
    devices = {x.device for x in tensors if isinstance(x, Tensor) and x.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices), device_type="cuda"):
        yield
