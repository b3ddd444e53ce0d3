"""How a region that a map has chosen is painted over."""

from __future__ import annotations

from typing import cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.study import StudyContext
from benchmarks.subjects.faces import as_chip, as_image
from captum_plq.faces import inpaint
from captum_plq.faces.inpaint import InpaintMethod

EIGENFACE = "eigenface"
FILLERS = (*get_args(InpaintMethod), EIGENFACE)
"""Those of :func:`captum_plq.faces.inpaint`, which carry on the surroundings, and the face that
the principal components of the reference people let expect."""


def painted_over(context: StudyContext, images: Tensor, regions: Tensor, filler: str) -> Tensor:
    """Return images with their regions filled in.

    Args:

        context (StudyContext): Has the reference people.
        images (Tensor): (B, 3, H, W), whole numbers 0–255.
        regions (Tensor): (B, H, W), bool.
        filler (str): Of :data:`FILLERS`.

    Returns:
        *Tensor*: (B, 3, H, W), as ``images`` outside the regions.
    """
    if filler == EIGENFACE:
        return context.subject.eigenfaces.filled(images, regions)
    painted = [
        inpaint(as_chip(image), region.cpu().numpy(), method=cast("InpaintMethod", filler))
        for image, region in zip(images, regions, strict=True)
    ]
    return torch.stack([as_image(chip, images) for chip in painted])


def widened(regions: Tensor, pixels: int) -> Tensor:
    """Return regions (B, H, W), bool, widened by some pixels to each side."""
    if not pixels:
        return regions
    return F.max_pool2d(regions[:, None].float(), 2 * pixels + 1, 1, pixels)[:, 0] > 0
