"""What maps and Q make of faces that violate the photo standards, by degrees (Sec. V-C, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.protocols.mask_scores import auroc
from benchmarks.subjects.faces import as_chip, as_image, spec_landmarks
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from captum_plq.models import ModelSpec

__all__ = ["METRICS", "SEVERITIES", "Standards", "violate"]

METRICS = {
    "quality_change": "Q clean − Q violating: positive where the violation lowered Q",
    "pixel_change": "mean p clean − mean p violating, over the whole image",
    "auroc": "of low scores for what was drawn over the face, where something was",
    "auroc_clean": "the clean image's map on the same place",
}
"""What each number of a row is; p is the quality of a pixel, Eq. 6."""

SEVERITIES = (1, 2, 3)
"""Mild, middling, severe."""


@dataclass(frozen=True)
class Standards:
    """The protocol.

    Args:

        kinds (tuple[str, ...]): Of :data:`~captum_plq.faces.disturb.standards.NONCOMPLIANCES`.
    """

    kinds: tuple[str, ...] = tuple(NONCOMPLIANCES)
    name: str = "standards"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(NONCOMPLIANCES))
        if unknown or not self.kinds:
            raise ValueError(f"Unknown kinds {unknown}; there are {', '.join(NONCOMPLIANCES)}.")

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON."""
        degrees = {k: [NONCOMPLIANCES[k].parameter, *NONCOMPLIANCES[k].degrees] for k in self.kinds}
        return {"kinds": self.kinds, "degrees": degrees}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face, kind, severity and method."""
        clean = context.maps(images)
        p_clean = {name: context.pixel_qualities(name, maps) for name, maps in clean.items()}
        methods = {method.name: method for method in context.methods}
        before = {name: context.network_for(methods[name]).quality(images) for name in clean}
        rows: list[Row] = []
        for kind in self.kinds:
            for severity in SEVERITIES:
                violating, masks = violate(images, context.model.spec, kind, severity)
                found = context.maps(violating)
                after = {name: context.network_for(methods[name]).quality(violating)
                         for name in found}  # fmt: skip
                for name, maps in found.items():
                    p = context.pixel_qualities(name, maps)
                    lost = (p_clean[name] - p).mean((1, 2)).tolist()
                    change = (before[name] - after[name]).tolist()
                    drawn = (
                        {}
                        if masks is None
                        else {
                            "auroc": _aurocs(maps, masks),
                            "auroc_clean": _aurocs(clean[name], masks),
                        }
                    )
                    for i, image in enumerate(names):
                        rows.append(
                            {
                                "image": image,
                                "method": name,
                                "kind": kind,
                                "severity": severity,
                                "quality_change": change[i],
                                "pixel_change": lost[i],
                                **{key: values[i] for key, values in drawn.items()},
                            }
                        )
        return rows


def violate(
    images: Tensor, spec: ModelSpec, kind: str, severity: int
) -> tuple[Tensor, Tensor | None]:
    """Images that violate one standard, and where something was drawn over the faces.

    Args:

        images (Tensor): (B, 3, H, W), whole numbers 0–255, aligned as ``spec`` says.
        spec (ModelSpec): Tells where the landmarks are.
        kind (str): Of :data:`~captum_plq.faces.disturb.standards.NONCOMPLIANCES`.
        severity (int): 1 to 3.

    Returns:
        *tuple[Tensor, Tensor or None]*: as ``images``, and (B, H, W), bool; ``None`` where the
        whole image changed.
    """
    landmarks = spec_landmarks(spec)
    made = [NONCOMPLIANCES[kind](as_chip(image), landmarks, severity) for image in images]
    changed = torch.stack([as_image(chip, images) for chip, _ in made])
    masks = [torch.from_numpy(mask) for _, mask in made if mask is not None]
    return changed, torch.stack(masks).to(images.device) if masks else None


def _aurocs(maps: Tensor, masks: Tensor) -> list[float | None]:
    """``None`` where nothing or everything was drawn over."""
    inside = masks.flatten(1)
    both = inside.any(1) & ~inside.all(1)
    found = iter(auroc(maps[both], masks[both]).tolist() if bool(both.any()) else ())
    return [next(found) if ok else None for ok in both.tolist()]
