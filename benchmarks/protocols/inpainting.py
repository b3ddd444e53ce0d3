"""Does painting over a map's lowest pixels raise the quality? The paper's Secs. IV-A1 and V-A.

There a person looks at photograph and map and masks what lowers the quality. Here that step is
automatic, so that every method gets the same treatment: the face is occluded by something whose
place is known, and the method marks the lowest region of its map, of the occluder's area. The area
is thus given away; the place is not. A person brings knowledge about faces that no map has, and a
learned inpainting invents eyes, which these do not: the paper's shares are no target for these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.protocols.quality_runs import quality_runs
from benchmarks.protocols.region_controls import control_regions
from benchmarks.subjects.faces import as_chip, as_image, spec_landmarks
from benchmarks.subjects.occluders import OCCLUDERS, occlude
from captum_plq.faces import inpaint
from captum_plq.faces.inpaint import InpaintMethod
from captum_plq.metrics import lowest_region, quality_outcome

__all__ = ["METRICS", "Inpainting", "lowest_regions", "overlap", "paint_over"]

METRICS = {
    "improved": "1 where Q rose by more than the standard deviation of its runs",
    "unchanged": "1 where Q stayed within it",
    "decreased": "1 where Q fell by more",
    "outcome": "improved − decreased",
    "quality_gain": "Q inpainted − Q occluded",
    "iou": "pixels common to region and occluder, over those of either",
    "occluder_cost": "Q clean − Q occluded: what there is to regain",
}
"""What each number of a row is; Q is the mean of the runs."""


@dataclass(frozen=True)
class Inpainting:
    """The protocol.

    Args:

        occluders (tuple[str, ...]): Of :data:`~benchmarks.subjects.occluders.OCCLUDERS`.
        inpainting (str): Of :data:`~captum_plq.faces.inpaint.InpaintMethod`.
        pool (int): Side in pixels of the box that maps are averaged over before the lowest
            region is taken, odd.
        runs (int): Of SER-FIQ, for each quality and its standard deviation.
        seed (int): Of places.
    """

    occluders: tuple[str, ...] = ("square", "sunglasses", "surgical-mask", "hand")
    inpainting: InpaintMethod = "telea"
    pool: int = 5
    runs: int = 10
    seed: int = 0
    name: str = "inpainting"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.occluders) - set(OCCLUDERS))
        if unknown or not self.occluders:
            raise ValueError(f"Unknown occluders {unknown}; there are {', '.join(OCCLUDERS)}.")
        if self.runs < 2:
            raise ValueError(f"A standard deviation takes at least two runs, not {self.runs}.")

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON."""
        fields = ("occluders", "inpainting", "pool", "runs", "seed")
        return {name: getattr(self, name) for name in fields}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face, occluder and method, the controls among them.

        Qualities are the network's own throughout, also where a map explains it with random
        weights: the question is which region is worth painting over.
        """
        clean = quality_runs(context.subject, images, self.runs)
        landmarks = spec_landmarks(context.model.spec)
        rows: list[Row] = []
        for occluder in self.occluders:
            parts = [
                occlude(image, landmarks, occluder, name, self.seed)
                for image, name in zip(images, names, strict=True)
            ]
            occluded, masks = (torch.stack(list(x)) for x in zip(*parts, strict=True))
            before = quality_runs(context.subject, occluded, self.runs)
            cost = clean.mean - before.mean
            harmful = cost > torch.maximum(clean.sd, before.sd)
            regions = lowest_regions(context.maps(occluded), masks, self.pool)
            for method, region in (regions | self._controls(masks, names, occluder)).items():
                painted = paint_over(occluded, region, self.inpainting)
                after = quality_runs(context.subject, painted, self.runs)
                sd = torch.maximum(before.sd, after.sd)
                outcomes = quality_outcome(before.mean, after.mean, sd)
                shared = overlap(region, masks)
                for i, outcome in enumerate(outcomes):
                    row: Row = {
                        "image": names[i],
                        "method": method,
                        "occluder": occluder,
                        "harmful": "yes" if bool(harmful[i]) else "no",
                    }
                    row |= {word: int(outcome == word) for word in list(METRICS)[:3]}
                    row["outcome"] = row["improved"] - row["decreased"]
                    row["quality_gain"] = float(after.mean[i] - before.mean[i])
                    row["iou"] = float(shared[i])
                    row["occluder_cost"] = float(cost[i])
                    row["before"], row["sd"] = float(before.mean[i]), float(sd[i])
                    rows.append(row)
        return rows

    def _controls(self, masks: Tensor, names: Sequence[str], occluder: str) -> dict[str, Tensor]:
        found = [
            control_regions(mask, f"{name} {occluder}", self.seed)
            for mask, name in zip(masks, names, strict=True)
        ]
        return {key: torch.stack([regions[key] for regions in found]) for key in found[0]}


def lowest_regions(maps: dict[str, Tensor], masks: Tensor, pool: int) -> dict[str, Tensor]:
    """Each method's lowest region of each occluder's area, (B, H, W), bool."""
    return {
        name: torch.stack(
            [
                lowest_region(one, int(mask.sum()), pool=pool)
                for one, mask in zip(own, masks, strict=True)
            ]
        )
        for name, own in maps.items()
    }


def paint_over(images: Tensor, regions: Tensor, method: InpaintMethod) -> Tensor:
    """Images (B, 3, H, W) with their regions (B, H, W) filled in from around them."""
    return torch.stack(
        [
            as_image(inpaint(as_chip(image), region.cpu().numpy(), method=method), image)
            for image, region in zip(images, regions, strict=True)
        ]
    )


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of masks, (B, H, W) each, as (B,)."""
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2))
