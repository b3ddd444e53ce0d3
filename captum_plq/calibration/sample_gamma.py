"""γ for a network without one, by a rule that depends on the network and the settings alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_plq.faces import resize_aligned, sample_face
from captum_plq.functional import gamma_for_median

__all__ = ["GAMMA_RULE", "gamma_of_sample", "sample_chip"]

GAMMA_RULE = "median pixel of the package's sample face at 0.5"
"""The rule in words, for captions and records."""


def sample_chip(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the package's sample face in the size that a network takes.

    It is scaled with the height and centred in the width, as
    :func:`~captum_plq.faces.align_face` does: what lies beyond it is black. It is aligned to the
    ArcFace template, whatever the network's alignment.

    Args:

        size (tuple[int, int]): Height and width in pixels.

    Returns:
        *ndarray*: (height, width, 3), uint8, RGB.

    Examples::

        >>> sample_chip((112, 96)).shape
        (112, 96, 3)
    """
    height, width = size
    square = resize_aligned(sample_face().chip, (height, height))
    chip = np.zeros((height, width, 3), np.uint8)
    taken = min(height, width)
    left, start = (width - taken) // 2, (height - taken) // 2
    chip[:, left : left + taken] = square[:, start : start + taken]
    return chip


def gamma_of_sample(name: str, size: tuple[int, int], merged: Callable[[Tensor], Tensor]) -> float:
    """Return the γ at which the median pixel of the package's sample face has quality ½.

    Args:

        name (str): Of the network, for the error.
        size (tuple[int, int]): Height and width that it takes.
        merged (Callable): Images (1, 3, H, W), float32, 0–255 → ĝ (1, H, W).

    Returns:
        *float*: γ.

    Raises:
        ValueError: if the network has no finite gradient above 0 at the median pixel of that face.

    Examples::

        >>> plq = PixelQualityAttribution(model)
        >>> gamma_of_sample("mine", (112, 112), lambda x: merge_channels(plq.attribute(x)))
    """
    chip = torch.from_numpy(sample_chip(size)).permute(2, 0, 1)[None].float()
    try:
        return gamma_for_median(merged(chip))
    except ValueError as error:
        raise ValueError(
            f"No γ is known for {name}, and the sample face of this package gives none ({error}) "
            "Give one: --gamma on the command line, gamma= of Settings."
        ) from error
