"""Do maps see a square on a face? The paper's random masks (Secs. IV-A2, V-B), with controls.

Every row also holds what the CLEAN image's map scores on the same square: squares lie where the
face is, and a map that shows faces the same everywhere already finds, or misses, some of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.protocols.mask_scores import (
    auroc,
    log_contrast,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
)
from benchmarks.protocols.random_squares import FILLS, spoil
from captum_plq.functional import pixel_quality_change, quality_change

__all__ = ["METRICS", "RandomMask"]

METRICS = {
    "quality_change": "ΔQ, Eq. 7 with Q̂ = Q: positive where the square lowered Q",
    "pixel_change": "Δp inside, Eq. 8",
    "pixel_contrast": "Δp inside − Δp outside: what is left when the whole map dims",
    "log_contrast": "mean ln score outside − inside",
    "auroc": "of low scores for the square",
    "auroc_clean": "the clean image's map on the same square",
    "auroc_gain": "auroc − auroc_clean",
    "pointing_game": "lowest pixel inside",
    "rank_accuracy": "share of the lowest |square| pixels inside",
    "mass_accuracy": "share of Σ (1 − p) inside",
}
"""What each number of a row is."""


@dataclass(frozen=True)
class RandomMask:
    """The protocol.

    Args:

        names (tuple[str, ...]): Of all faces of the run: their order says which face gets which
            combinations.
        textures (Tensor): (r, 3, H, W), faces of other people, which give the texture.
        sizes (tuple[int, ...]): Sides of the squares in pixels.
        fills (tuple[str, ...]): Of :data:`~benchmarks.protocols.random_squares.FILLS`.
        per_face (int, optional): How many combinations of size and fill each face gets; over
            the faces, all of them equally often. ``None``: all.
        seed (int): Of places, noise, textures and the rotation.
    """

    names: tuple[str, ...] = field(repr=False)
    textures: Tensor = field(repr=False)
    sizes: tuple[int, ...] = (10, 20, 30, 40, 50)
    fills: tuple[str, ...] = tuple(FILLS)
    per_face: int | None = None
    seed: int = 0
    name: str = "random-mask"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.fills) - set(FILLS))
        if unknown or not self.fills or not self.sizes:
            raise ValueError(f"Unknown fills {unknown}; there are {', '.join(FILLS)}.")
        most = len(self.sizes) * len(self.fills)
        if self.per_face is not None and not 1 <= self.per_face <= most:
            raise ValueError(f"per-face must be 1 to {most} combinations, not {self.per_face}.")

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON; the faces are told elsewhere."""
        fields = ("sizes", "fills", "per_face", "seed")
        return {name: getattr(self, name) for name in fields}

    def combinations(self, index: int) -> list[tuple[int, str]]:
        """Sizes and fills of the face of this number: a walk round a seeded permutation."""
        every = list(itertools.product(self.sizes, self.fills))
        order = np.random.default_rng(self.seed).permutation(len(every))
        count = self.per_face or len(every)
        return [every[order[(index * count + turn) % len(every)]] for turn in range(count)]

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face, combination and method."""
        indices = [self.names.index(name) for name in names]
        chosen = [self.combinations(index) for index in indices]
        clean = context.maps(images)
        qualities = {name: context.pixel_qualities(name, maps) for name, maps in clean.items()}
        before = self._qualities(context, images)
        rows: list[Row] = []
        for turn in range(len(chosen[0])):
            conditions = [combinations[turn] for combinations in chosen]
            parts = [
                spoil(image, *condition, self._texture(index), name, self.seed)
                for image, condition, index, name in zip(
                    images, conditions, indices, names, strict=True
                )
            ]
            spoilt, masks = (torch.stack(list(x)) for x in zip(*parts, strict=True))
            after = self._qualities(context, spoilt)
            for name, maps in context.maps(spoilt).items():
                random = name in self._random(context)
                numbers = {"quality_change": quality_change(before[random], after[random])}
                numbers |= _numbers(
                    clean[name], maps, qualities[name], context.pixel_qualities(name, maps), masks
                )
                for i, (size, fill) in enumerate(conditions):
                    row: Row = {"image": names[i], "method": name, "size": size, "fill": fill}
                    rows.append(row | {key: _json(x[i]) for key, x in numbers.items()})
        return rows

    def _texture(self, index: int) -> Tensor:
        return self.textures[(index + self.seed) % len(self.textures)]

    @staticmethod
    def _random(context: StudyContext) -> set[str]:
        return {method.name for method in context.methods if method.random_weights}

    def _qualities(self, context: StudyContext, images: Tensor) -> dict[bool, Tensor]:
        """Q of the network (False) and, if it is explained, of the one with random weights."""
        found = {False: context.subject.quality(images)}
        if self._random(context) - set(context.failed):
            found[True] = context.subject.random.quality(images)
        return found


def _numbers(
    clean: Tensor, maps: Tensor, clean_p: Tensor, p: Tensor, masks: Tensor
) -> dict[str, Any]:
    inside = pixel_quality_change(clean_p, p, masks)
    found, before = auroc(maps, masks), auroc(clean, masks)
    return {
        "pixel_change": inside,
        "pixel_contrast": inside - pixel_quality_change(clean_p, p, ~masks),
        "log_contrast": log_contrast(maps, masks),
        "auroc": found,
        "auroc_clean": before,
        "auroc_gain": found - before,
        "pointing_game": pointing_game(maps, masks),
        "rank_accuracy": rank_accuracy(maps, masks),
        "mass_accuracy": mass_accuracy(p, masks),
    }


def _json(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
