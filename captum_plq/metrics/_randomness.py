"""The global random state, lent to methods that draw from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from captum_plq._state import untouched_rng

__all__ = ["seeded"]


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
