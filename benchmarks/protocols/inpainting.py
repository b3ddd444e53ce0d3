"""Does painting over a map's lowest pixels raise the quality? The paper's Secs. IV-A1 and V-A.

There a person looks at photograph and map and masks what lowers the quality. Here that step is
automatic, so that every method gets the same treatment: the face is occluded by something whose
place is known, and the method marks the lowest region of its map, of the occluder's area. The area
is thus given away; the place is not. A person brings knowledge about faces that no map has, and a
learned inpainting invents eyes, which these do not: the paper's shares are no target for these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from cyclopts import Parameter
from cyclopts.types import NonNegativeInt
from cyclopts.validators import Number
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.figures import face_panels, label, preferred, record_panels, show
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.pages import Shown, by_method, comparisons, estimate, methods_of, table
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.protocols.parts.fillers import EIGENFACE, FILLERS, painted_over, widened
from benchmarks.protocols.parts.quality_runs import quality_runs
from benchmarks.protocols.parts.region_controls import CONTROLS, TRUE_MASK, control_regions
from benchmarks.subjects.faces import sample_image, spec_landmarks
from benchmarks.subjects.network import ExplainedNetwork
from benchmarks.subjects.occluders import OCCLUDERS, occlude
from captum_plq.metrics import lowest_region, quality_outcome
from captum_plq.models import ModelSpec

PAPER = {"ArcFace": (0.65, 0.15), "FaceNet": (0.69, 0.05)}
"""Shares improved and decreased in the paper (Sec. V-A, Fig. 3)."""

_OUTCOMES = ("improved", "unchanged", "decreased")


@dataclass(frozen=True, kw_only=True)
class Inpainting(MapStudy):
    """Inpainting.

    A face is occluded, a method marks the lowest region of its map, of the occluder's area, and
    the region is painted over. A map is right here if it shows *defects*. Q is the mean of several
    runs of SER-FIQ; a change within the larger of the two standard deviations (before, after)
    counts as unchanged. Shares are means over faces; in brackets 95 % bootstrap intervals.

    OpenCV's fillers carry on what surrounds the region; they invent no eyes. `eigenface` fits the
    principal components of the reference people to the pixels outside the region and shows in it
    the face that they let expect. What a mask hides can raise Q again only if the filler knows
    faces.

    In the paper a person marks the region after a look at photograph and map, on photographs that
    were occluded when taken, and a learned network paints (Sec. IV-A1). Here all three steps are
    automatic, and the methods are given the occluder's area. The paper's shares, the first two
    rows of each filler's table, are therefore no target; rows of one table compare with each other:
    `true mask` is the ceiling, `random square` and `shifted mask` are chance.

    Columns:

        improved: 1 where Q rose by more than the standard deviation of its runs
        unchanged: 1 where Q stayed within it
        decreased: 1 where Q fell by more
        outcome: improved − decreased
        quality_gain: Q inpainted − Q occluded
        iou: pixels common to region and occluder, over those of either
        occluder_cost: Q clean − Q occluded: what there is to regain

    Args:

        occluders (tuple[str, ...]): What is put on the faces.
        fillers (tuple[str, ...]): How regions are filled in.
        widened (tuple[int, ...]): By how many pixels regions are widened before.
        pool (int): Side in pixels of the box that maps are averaged over before the lowest
            region is taken, odd.
        runs (int): Of SER-FIQ, for each quality and its standard deviation.
    """

    name: ClassVar[str] = "inpainting"
    quick = MapStudy.quick | {"occluders": "square,hand", "runs": "3"}
    forms: ClassVar[dict[str, str]] = {
        "improved": ".0%",
        "unchanged": ".0%",
        "decreased": ".0%",
        "quality_gain": "+.4f",
        "occluder_cost": "+.4f",
    }
    conditions: ClassVar[tuple[str, ...]] = ("filler", "cell", "harmful")
    compared: ClassVar[tuple[str, ...]] = ("outcome", "quality_gain")
    difference: ClassVar[str] = "+.3f"
    controls = CONTROLS
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("inpainting, eigenface", "share improved less share decreased, the lowest region "
                 "of an occluded face filled by eigenfaces",
                 estimate_of("outcome", "filler=eigenface"), "+.2f", first=True),
        Headline("inpainting, telea", "the same, filled from its surroundings",
                 estimate_of("outcome", "filler=telea"), "+.2f", first=True),
    )  # fmt: skip

    occluders: Annotated[tuple[str, ...], some_of(OCCLUDERS)] = (
        "square", "sunglasses", "surgical-mask", "hand"
    )  # fmt: skip
    fillers: Annotated[tuple[str, ...], some_of(FILLERS)] = ("telea", EIGENFACE)
    widened: Annotated[tuple[NonNegativeInt, ...], some_of()] = (0,)
    random_networks: PositiveInt = 3
    pool: int = 5
    runs: Annotated[int, Parameter(validator=Number(gte=2))] = 10

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, occluder and method, the controls among them.

        Qualities are the network's own throughout, also where a map explains it with random
        weights: the question is which region is worth painting over.
        """
        clean = quality_runs(context.subject, images, self.runs)
        rows: list[Row] = []
        for occluder in self.occluders:
            occluded, masks = self._occluded(context.model.spec, images, names, occluder)
            before = quality_runs(context.subject, occluded, self.runs)
            cost = clean.mean - before.mean
            harmful = cost > torch.maximum(clean.sd, before.sd)
            regions = self._lowest(context.maps(occluded), masks)
            controls = [
                control_regions(mask, f"{name} {occluder}", self.seed)
                for mask, name in zip(masks, names, strict=True)
            ]
            regions |= {key: torch.stack([own[key] for own in controls]) for key in controls[0]}
            for method, region in regions.items():
                shared = (region & masks).sum((1, 2)) / (region | masks).sum((1, 2))
                for filling, filler, width in self.fillings():
                    painted = painted_over(context, occluded, widened(region, width), filler)
                    after = quality_runs(context.subject, painted, self.runs)
                    sd = torch.maximum(before.sd, after.sd)
                    outcomes = np.array(quality_outcome(before.mean, after.mean, sd))
                    shares = {word: (outcomes == word).astype(int) for word in _OUTCOMES}
                    numbers: dict[str, Any] = {
                        "harmful": np.where(harmful.cpu(), f"yes, {filling}", f"no, {filling}"),
                        **shares,
                        "outcome": shares["improved"] - shares["decreased"],
                        "quality_gain": after.mean - before.mean,
                        "iou": shared,
                        "occluder_cost": cost,
                        "before": before.mean,
                        "sd": sd,
                    }
                    given = {"filler": filling, "cell": f"{occluder}, {filling}"}
                    rows += rows_of(names, numbers, method=method, **given)
        return rows

    def fillings(self) -> list[tuple[str, str, int]]:
        """Return all ways in which regions are filled in: name, filler and pixels of widening."""
        return [
            (f"{filler}, {width} px wider" if width else filler, filler, width)
            for filler in self.fillers
            for width in self.widened
        ]

    def settings(self) -> dict[str, Any]:
        """Return the options, and what the ways of filling are called."""
        return super().settings() | {"fillings": [name for name, _, _ in self.fillings()]}

    def _occluded(
        self, spec: ModelSpec, images: Tensor, names: Sequence[str], occluder: str
    ) -> tuple[Tensor, Tensor]:
        landmarks = spec_landmarks(spec)
        made = [
            occlude(image, landmarks, occluder, name, self.seed)
            for image, name in zip(images, names, strict=True)
        ]
        occluded, masks = (torch.stack(list(x)) for x in zip(*made, strict=True))
        return occluded, masks

    def _lowest(self, maps: Mapping[str, Tensor], masks: Tensor) -> dict[str, Tensor]:
        """Each method's lowest region of each occluder's area, (B, H, W), bool."""
        areas = [int(mask.sum()) for mask in masks]
        return {
            name: torch.stack([lowest_region(one, area, pool=self.pool)
                               for one, area in zip(own, areas, strict=True)])
            for name, own in maps.items()
        }  # fmt: skip

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add Q before, sorted, and after, with its deviation, of some rows, the first filling."""
        own = [row for row in study.rows if row["filler"] == self.fillings()[0][0]]
        names = [row["method"] for row in own]
        shown = [name for name in ("plq", "local-z") if name in names] or names[:1]
        found = {}
        for method in (*shown, TRUE_MASK):
            rows = [row for row in own if row["method"] == method]
            rows.sort(key=lambda row: float(row["before"]))
            found[method] = {
                "before": [round(row["before"], 4) for row in rows],
                "after": [round(row["before"] + row["quality_gain"], 4) for row in rows],
                "sd": [round(row["sd"], 4) for row in rows],
            }
        return super().summary(study, context) | {"qualities": found}

    def example(self, context: StudyContext) -> Figure:
        """Return the sample face under each occluder, a row each, as the paper's Figs. 2 and 4."""
        spec, subject = context.model.spec, context.subject
        image = sample_image(spec, next(context.model.parameters()))[None]
        made = [self._occluded(spec, image, ["sample"], occluder) for occluder in self.occluders]
        occluded, masks = (torch.cat(list(x)) for x in zip(*made, strict=True))
        maps = context.maps(occluded)
        _, filler, width = self.fillings()[0]
        faces = {"face": image.expand_as(occluded), "occluded": occluded}
        columns = [_with_quality(subject, title, x, self.runs) for title, x in faces.items()]
        for name in preferred(maps):
            region = self._lowest({name: maps[name]}, masks)[name]
            painted = painted_over(context, occluded, widened(region, width), filler)
            marked = torch.where(region[:, None], 255, occluded)
            columns += [
                (name, context.pixel_qualities(name, maps[name]), None),
                ("lowest region", marked, None),
                _with_quality(subject, "inpainted", painted, self.runs),
            ]
            if (again := context.maps(painted).get(name)) is not None:
                columns.append((f"{name}, inpainted", context.pixel_qualities(name, again), None))
        painted = painted_over(context, occluded, widened(masks, width), filler)
        columns.append(_with_quality(subject, "true mask inpainted", painted, self.runs))
        figure, panels = face_panels(
            len(self.occluders), len(columns), width=1.35, height=1.6, dpi=120
        )
        for column, (title, shown, below) in zip(panels.T, columns, strict=True):
            column[0].set_title(title, fontsize=7)
            for i, axes in enumerate(column):
                show(axes, shown[i])
                if below is not None:
                    axes.set_xlabel(below[i], fontsize=6)
        for axes, occluder in zip(panels[:, 0], self.occluders, strict=True):
            axes.set_ylabel(occluder, fontsize=7)
        return figure

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return what was gained by each filling, shares, by occluder too, and comparisons."""
        settings, fillings = record["settings"], record["settings"]["fillings"]
        gained = [Shown(x, "outcome", f"filler={x}", "+.2f") for x in fillings]
        lines = ["### Share improved less share decreased, by filler", ""]
        lines += by_method(record, gained, nulls_beside=True)
        for filling in fillings:
            lines += [f"### Filled by {filling}", "", *cls._of_filling(record, filling)]
        lines += comparisons(record, cls.difference)
        lines += [f"- `{control.name}`: {control.description}" for control in CONTROLS]
        pool = f"Maps averaged over {settings['pool']}×{settings['pool']} px"
        return [*lines, "", f"{pool}; {settings['runs']} runs.", ""]

    @classmethod
    def _of_filling(cls, record: Record, filling: str) -> list[str]:
        estimates, occluders = record["estimates"], record["settings"]["occluders"]
        group = f"filler={filling}"
        shares = [x for x in cls.shown(group) if x.metric in _OUTCOMES]
        gains = [Shown("quality gain", "quality_gain", group, "+.4f", False),
                 Shown("IoU", "iou", group, ".3f", False)]  # fmt: skip
        paper = [
            [f"*paper, {model}, by hand*", *(f"{x:.0%}" for x in (up, 1 - up - down, down)), "", ""]
            for model, (up, down) in PAPER.items()
        ]
        lines = by_method(record, [*shares, *gains], paper)
        names = methods_of(record, ["improved"])
        only = f"harmful=yes, {filling}"
        harmful = [estimates["improved"][name].get(only) for name in names]
        if any(harmful):
            count = max(cell["rows"] for cell in harmful if cell)
            lines += [f"Only where the occluder lowered Q by more than its deviation ({count} "
                      "rows):", ""]  # fmt: skip
            lines += by_method(record, [replace(x, group=only) for x in shares])
        groups = [f"cell={occluder}, {filling}" for occluder in occluders]

        def cells(metric: str, name: str, form: str, bounds: bool) -> list[str]:
            return [estimate(estimates[metric][name].get(g), form, bounds) for g in groups]

        rows = [["Q clean − Q occluded", *cells("occluder_cost", TRUE_MASK, "+.4f", False)]]
        for metric, form in (("improved", ".0%"), ("iou", ".2f")):
            for name in names:
                rows.append([f"{name}: {metric}", *cells(metric, name, form, form == ".0%")])
        return [*lines, "By occluder:", "", *table(["", *occluders], rows), ""]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return Q before, sorted, and after, with the deviation, as the paper's Fig. 3."""
        figure, rows = record_panels(
            records, lambda record: record["qualities"], (4.5, 3.2), below=0.4, sharey="row"
        )
        for record, row in rows:
            for axes, method, found in row:
                before, after, sd = (np.array(found[key]) for key in ("before", "after", "sd"))
                x = np.arange(len(before))
                low, high = before - sd, before + sd
                axes.fill_between(x, low, high, color="tab:red", alpha=0.25, linewidth=0)
                axes.plot(x, before, color="tab:red", linewidth=1.2, label="occluded")
                axes.plot(x, after, ".", color="tab:green", markersize=3, label="inpainted")
                label(axes, f"{record['model']}, {method}", "image, sorted by Q", "Q")
                axes.legend(fontsize=7)
        return {cls.name: figure}


def _with_quality(subject: ExplainedNetwork, title: str, images: Tensor, runs: int) -> Any:
    spread = quality_runs(subject, images, runs)
    pairs = zip(spread.mean.tolist(), spread.sd.tolist(), strict=True)
    return title, images, [f"Q = {mean:.3f} ± {sd:.3f}" for mean, sd in pairs]
