"""Faces, or a reference, that the relative maps were not made for.

A relative map asks what reference faces show *at the same place*. Does it survive a face that is
moved, turned, enlarged, mirrored or recorded otherwise, or a reference that is small or from
another kind of camera? A square is put on, and found or not. The reference is always of other
people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import estimate, table
from benchmarks.harness.protocol import Record
from benchmarks.harness.study import MapStudy, Row, StudyContext, rows_of
from benchmarks.protocols.parts.mask_scores import auroc
from benchmarks.protocols.parts.random_squares import occlude_squares

_FILLS = ("black", "mean", "noise")


def moved(
    images: Tensor, *, right: float = 0.0, down: float = 0.0, degrees: float = 0.0, zoom: float = 1
) -> Tensor:
    """Return faces moved, turned and enlarged about the middle; what is missing is mirrored.

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


@dataclass(frozen=True, kw_only=True)
class OutOfDomain(MapStudy):
    """Faces that do not fit the reference.

    Each face is changed, or the reference is; then a square is put on, black, of the image's mean
    colour, or of noise, a third of the faces each. Means over faces; in brackets 95 % bootstrap
    intervals. The reference is of other people than those evaluated, always. The first table is
    over all conditions.

    Columns:

        auroc: of low scores for the square
        auroc_clean: the same face's map without a square, on the same place
        auroc_gain: auroc − auroc_clean

    Args:

        size (int): Side of the squares in pixels.
    """

    name: ClassVar[str] = "out-of-domain"
    quick = MapStudy.quick | {
        "faces": "2",
        "batch": "2",
        "methods": "plq,plq-relative",
        "random-weights": "none",
    }
    conditions: ClassVar[tuple[str, ...]] = ("condition", "fill")
    compared: ClassVar[tuple[str, ...]] = ("auroc_gain",)

    size: PositiveInt = 30

    def settings(self) -> dict[str, Any]:
        """Return the options and all conditions."""
        conditions = [*FACES, *REFERENCES]
        return super().settings() | {"fills": _FILLS, "conditions": conditions}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, condition and method."""
        given = [(context, condition, change(images)) for condition, change in FACES.items()]
        given += [(context.with_reference(*x), x[0], images) for x in REFERENCES.items()]
        return [row for own in given for row in self._rows(*own, names)]

    def _rows(
        self, context: StudyContext, condition: str, images: Tensor, names: Sequence[str]
    ) -> list[Row]:
        numbers = [context.faces.names.index(name) for name in names]
        fills = [_FILLS[number % len(_FILLS)] for number in numbers]
        others = [context.faces.reference[n % len(context.faces.reference)] for n in numbers]
        sizes = [self.size] * len(names)
        occluded, masks = occlude_squares(images, sizes, fills, others, names, self.seed)
        clean, found = context.maps(images), context.maps(occluded)
        rows: list[Row] = []
        for method in [name for name in found if name in clean]:
            inside, before = auroc(found[method], masks), auroc(clean[method], masks)
            scores = {"fill": fills, "auroc": inside, "auroc_clean": before}
            scores["auroc_gain"] = inside - before
            rows += rows_of(names, scores, method=method, condition=condition)
        return rows

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Add a table per column: condition × method."""
        lines, settings = super().tables(record), record["settings"]
        groups = [f"condition={name}" for name in settings["conditions"]]
        groups += [f"fill={name}" for name in settings["fills"]]
        for column in cls.words()[2]:
            found = record["estimates"][column]
            rows = [
                [group.partition("=")[2], *(estimate(x.get(group), ".2f") for x in found.values())]
                for group in groups
            ]
            lines += [f"### {column}", "", *table(["", *found], rows), ""]
        return lines
