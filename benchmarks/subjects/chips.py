"""Between the images that networks take and the crops that faces are drawn on."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.subjects.faces import aligned_chip
from captum_plq.faces import sample_face, template_landmarks
from captum_plq.models import ModelSpec

__all__ = ["as_chip", "as_image", "sample_image", "spec_landmarks"]


def as_chip(image: Tensor) -> NDArray[np.uint8]:
    """From (3, H, W), whole numbers 0–255, to (H, W, 3), uint8."""
    return np.ascontiguousarray(image.permute(1, 2, 0).byte().cpu().numpy())


def as_image(chip: NDArray[np.uint8], like: Tensor) -> Tensor:
    """From (H, W, 3), uint8, to (3, H, W) of another tensor's type and device."""
    return torch.from_numpy(np.ascontiguousarray(chip)).permute(2, 0, 1).to(like)


def spec_landmarks(spec: ModelSpec) -> NDArray[np.float64]:
    """Where a network's aligned faces have their landmarks, (5, 2), by its template alone."""
    return template_landmarks(spec.alignment, spec.input_size)


def sample_image(spec: ModelSpec, like: Tensor) -> Tensor:
    """The package's sample face as a network takes it, (3, H, W)."""
    return as_image(aligned_chip(sample_face().chip, spec), like)
