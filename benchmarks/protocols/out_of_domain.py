"""Faces, or a reference, that do not fit.

A relative map asks what good faces show *at the same place*. Does it survive a face that is moved,
turned, enlarged, mirrored or recorded otherwise, or a reference that is small or from another kind
of camera? A square is put on, and found or not. The reference is always of other people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.protocols.mask_scores import auroc
from benchmarks.protocols.random_squares import spoil

__all__ = ["FACES", "FILLS", "METRICS", "REFERENCES", "Misfit", "moved"]

METRICS = {
    "auroc": "of low scores for the square",
    "auroc_clean": "the same face's map without a square, on the same place",
    "auroc_gain": "auroc − auroc_clean",
}
"""What each number of a row is."""

FILLS = ("black", "mean", "noise")


def moved(
    images: Tensor, *, right: float = 0.0, down: float = 0.0, degrees: float = 0.0, zoom: float = 1
) -> Tensor:
    """Faces moved, turned and enlarged about the image's middle; what is missing is mirrored.

    Args:

        images (Tensor): (B, 3, H, W), 0–255.
        right (float): Pixels to the right, at 112 columns.
        down (float): Pixels down, at 112 rows.
        degrees (float): Counter-clockwise.
        zoom (float): Above 1: the face becomes larger.

    Returns:
        *Tensor*: the shape of ``images``, whole numbers 0–255.
    """
    angle = math.radians(degrees)
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    height, width = images.shape[-2:]
    aspect = height / width
    x, y = 2 * right / 112, 2 * down / 112
    rows = [[cos, -sin * aspect], [sin / aspect, cos]]
    theta = torch.tensor([[*row, -(row[0] * x + row[1] * y)] for row in rows]).to(images)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    taken = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return taken.round().clamp(0, 255)


def _grey(images: Tensor) -> Tensor:
    weights = torch.tensor([0.299, 0.587, 0.114]).to(images)
    return (images * weights.view(3, 1, 1)).sum(1, keepdim=True).round().expand_as(images)


def _half_contrast(images: Tensor) -> Tensor:
    mean = images.mean((2, 3), keepdim=True)
    return (mean + (images - mean) / 2).round()


def _few_pixels(images: Tensor) -> Tensor:
    half = F.interpolate(images, scale_factor=0.5, mode="area")
    again = F.interpolate(half, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return again.round()


FACES: dict[str, Callable[[Tensor], Tensor]] = {
    "as it is": lambda images: images,
    "2 px aside": lambda images: moved(images, right=2),
    "4 px aside": lambda images: moved(images, right=4),
    "4 px down": lambda images: moved(images, down=4),
    "8 px aside": lambda images: moved(images, right=8),
    "turned 5°": lambda images: moved(images, degrees=5),
    "turned 15°": lambda images: moved(images, degrees=15),
    "10 % larger": lambda images: moved(images, zoom=1.1),
    "25 % larger": lambda images: moved(images, zoom=1.25),
    "mirrored": lambda images: images.flip(-1),
    "grey": _grey,
    "half the contrast": _half_contrast,
}
"""What is done to the face, before the square."""

REFERENCES: dict[str, Callable[[Tensor], Tensor]] = {
    "reference of 10": lambda faces: faces[:10],
    "reference of 30": lambda faces: faces[:30],
    "reference grey, of half the pixels": lambda faces: _few_pixels(_grey(faces)),
    "reference 4 px aside": lambda faces: moved(faces, right=4),
}
"""What is done to the reference; the face is as it is."""


@dataclass(frozen=True)
class Misfit:
    """The protocol.

    Args:

        names (tuple[str, ...]): Of all faces of the run: their order says which face gets which
            fill.
        textures (Tensor): (r, 3, H, W), faces of other people.
        size (int): Side of the squares in pixels.
        seed (int): Of their places.
    """

    names: tuple[str, ...] = field(repr=False)
    textures: Tensor = field(repr=False)
    size: int = 30
    seed: int = 0
    name: str = "misfit"
    _contexts: dict[str, StudyContext] = field(default_factory=dict, repr=False, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON; the faces are told elsewhere."""
        conditions = [*FACES, *REFERENCES]
        return {"size": self.size, "fills": FILLS, "conditions": conditions, "seed": self.seed}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face, condition and method."""
        rows = []
        for condition, change in FACES.items():
            rows += self._rows(context, condition, change(images), names)
        for condition in REFERENCES:
            other = self._other_reference(context, condition)
            rows += self._rows(other, condition, images, names)
            context.failed.update(other.failed)
        return rows

    def _rows(
        self, context: StudyContext, condition: str, images: Tensor, names: Sequence[str]
    ) -> list[Row]:
        numbers = [self.names.index(name) for name in names]
        fills = [FILLS[number % len(FILLS)] for number in numbers]
        parts = [
            spoil(image, self.size, fill, self.textures[number % len(self.textures)], name,
                  self.seed)
            for image, fill, number, name in zip(images, fills, numbers, names, strict=True)
        ]  # fmt: skip
        spoilt, masks = (torch.stack(list(x)) for x in zip(*parts, strict=True))
        clean, found = context.maps(images), context.maps(spoilt)
        rows: list[Row] = []
        for method in [name for name in found if name in clean]:
            inside, before = auroc(found[method], masks), auroc(clean[method], masks)
            for i, (name, fill) in enumerate(zip(names, fills, strict=True)):
                scores = {"auroc": inside[i], "auroc_clean": before[i],
                          "auroc_gain": inside[i] - before[i]}  # fmt: skip
                rows.append(
                    {"image": name, "method": method, "condition": condition, "fill": fill}
                    | {key: float(score) for key, score in scores.items()}
                )
        return rows

    def _other_reference(self, context: StudyContext, condition: str) -> StudyContext:
        """The same network and maps with another reference; the random weights stay."""
        if condition not in self._contexts:
            subject = context.subject
            reference = REFERENCES[condition](torch.cat(subject.reference_batches()))
            other = subject.of(subject.model, reference)
            other.__dict__["random"] = other.of(subject.random.model)
            self._contexts[condition] = StudyContext(
                context.model, other, context.methods, context.failed
            )
        return self._contexts[condition]
