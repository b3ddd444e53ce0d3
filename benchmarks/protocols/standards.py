"""What maps and Q make of faces that violate the photo standards, by degrees (Sec. V-C, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.figures import face_panels, preferred, show
from benchmarks.harness.options import some_of
from benchmarks.harness.pages import Shown, by_method, methods_of, table
from benchmarks.harness.protocol import Record
from benchmarks.harness.statistics import ALL
from benchmarks.harness.study import MapStudy, Row, StudyContext, rows_of
from benchmarks.protocols.parts.mask_scores import auroc
from benchmarks.subjects.faces import as_chip, as_image, sample_image, spec_landmarks
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from captum_plq.models import ModelSpec

SEVERITIES = (1, 2, 3)
"""Mild, middling, severe."""


@dataclass(frozen=True, kw_only=True)
class Standards(MapStudy):
    """Violations of the photo standards.

    Each face, and the same face made to violate one requirement for travel documents, in three
    degrees. Means over faces; the share is of faces whose Q fell.

    Columns:

        quality_change: Q clean − Q violating: positive where the violation lowered Q
        pixel_change: mean p clean − mean p violating, over the whole image
        auroc: of low scores for what was drawn over the face, where something was
        auroc_clean: the clean image's map on the same place

    Args:

        kinds (tuple[str, ...]): Of violations.
    """

    name: ClassVar[str] = "standards"
    quick = MapStudy.quick | {"methods": "plq,plq-relative", "random-weights": "none"}
    conditions: ClassVar[tuple[str, ...]] = ("kind", "severity", "cell")

    kinds: Annotated[tuple[str, ...], some_of(NONCOMPLIANCES)] = tuple(NONCOMPLIANCES)

    def settings(self) -> dict[str, Any]:
        """Return the kinds, and what their degrees are."""
        degrees = {k: [NONCOMPLIANCES[k].parameter, *NONCOMPLIANCES[k].degrees] for k in self.kinds}
        return {"kinds": self.kinds, "degrees": degrees}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, kind, severity and method."""
        clean = context.maps(images)
        p_clean = {name: context.pixel_qualities(name, maps) for name, maps in clean.items()}
        before = {name: context.network_for(name).quality(images) for name in clean}
        rows: list[Row] = []
        for kind in self.kinds:
            for severity in SEVERITIES:
                violating, masks = violate(images, context.model.spec, kind, severity)
                for name, maps in context.maps(violating).items():
                    lost = p_clean[name] - context.pixel_qualities(name, maps)
                    change = before[name] - context.network_for(name).quality(violating)
                    numbers: dict[str, Any] = {
                        "quality_change": change, "pixel_change": lost.mean((1, 2)),
                    }  # fmt: skip
                    if masks is not None:
                        numbers["auroc"] = _aurocs(maps, masks)
                        numbers["auroc_clean"] = _aurocs(clean[name], masks)
                    given = {"kind": kind, "severity": severity, "cell": f"{kind} {severity}"}
                    rows += rows_of(names, numbers, method=name, **given)
        return rows

    def example(self, context: StudyContext) -> Figure:
        """Return the sample face, every violation of it, and their maps, as the paper's Fig. 7."""
        spec = context.model.spec
        image = sample_image(spec, next(context.model.parameters()))[None]
        rows = [("as it is", image)]
        for kind in self.kinds:
            made = [violate(image, spec, kind, severity)[0] for severity in SEVERITIES]
            rows.append((kind, torch.cat(made)))
        maps = [context.maps(images) for _, images in rows]
        names, width = preferred(maps[0]), len(SEVERITIES)
        columns = width * (1 + len(names))
        figure, panels = face_panels(len(rows), columns, width=1.15, height=1.35)
        for row, (label, images), found in zip(panels, rows, maps, strict=True):
            quality = context.subject.quality(images).tolist()
            for i in range(width):
                if i >= len(images):
                    for axes in row[i::width]:
                        axes.axis("off")
                    continue
                show(row[i], images[i])
                row[i].set_xlabel(f"Q = {quality[i]:.2f}", fontsize=7)
                for turn, name in enumerate(names, start=1):
                    show(row[turn * width + i], context.pixel_qualities(name, found[name])[i])
            row[0].set_ylabel(label, fontsize=8)
        for axes, title in zip(panels[0][::width], ("image", *names), strict=True):
            axes.set_title(title, fontsize=9)
        return figure

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return ΔQ by kind and severity, and what the maps make of it."""
        estimates, kinds = record["estimates"], record["settings"]["kinds"]
        lines: list[str] = []
        own = [
            name for name in methods_of(record, ["quality_change"]) if "random weights" not in name
        ]
        if own:
            of, rows = estimates["quality_change"][own[0]], []
            for kind in kinds:
                parameter, *degrees = record["settings"]["degrees"][kind]
                found = [of.get(f"cell={kind} {severity}") for severity in SEVERITIES]
                shown = [f"{x['mean']:+.3f}, {x['positive']:.0%}" if x else "" for x in found]
                rows.append([f"{kind} ({parameter}: {', '.join(map(str, degrees))})", *shown])
            head = ["violation", *(f"{word}: ΔQ, fell" for word in ("mild", "middling", "severe"))]
            lines += ["### Q", "", *table(head, rows), ""]
        groups = [(kind, f"kind={kind}") for kind in kinds]
        changes = [Shown(kind, "pixel_change", group, "+.3f", False) for kind, group in groups]
        lines += ["### pixel_change", "", *by_method(record, changes)]
        drawn = [x for x in groups if any(x[1] in of for of in estimates["auroc"].values())]
        drawn.append(("all", ALL))
        rows = [
            [name, *(f"{cell[group]['mean']:.2f} "
                     f"({estimates['auroc_clean'][name][group]['mean']:.2f})"
                     for _, group in drawn)]
            for name, cell in estimates["auroc"].items()
        ]  # fmt: skip
        if rows:
            lines += ["### auroc (of the clean image's map)", ""]
            lines += [*table(["method", *(kind for kind, _ in drawn)], rows), ""]
        return lines


def violate(
    images: Tensor, spec: ModelSpec, kind: str, severity: int
) -> tuple[Tensor, Tensor | None]:
    """Return images that violate one standard, and where something was drawn over the faces.

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
