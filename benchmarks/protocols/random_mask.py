"""Do maps see a square on a face? The paper's random masks (Secs. IV-A2, V-B), with controls.

Every row also holds what the CLEAN image's map scores on the same square: squares lie where the
face is, and a map that shows faces the same everywhere already finds, or misses, some of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.figures import face_panels, label, preferred, record_panels, show
from benchmarks.harness.options import Counts, PositiveInt, some_of
from benchmarks.harness.pages import Shown, by_method, comparisons, number, table
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.statistics import rounded
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.protocols.parts import mask_scores
from benchmarks.protocols.parts.random_squares import FILLS, occlude_squares
from benchmarks.subjects.faces import sample_image
from captum_plq.functional import pixel_quality_change, quality_change

_DISTRIBUTED = {"quality_change": "ΔQ", "pixel_change": "Δp in the square"}
"""Metrics whose distributions are shown, and what stands below them."""
_BINS = 40
_FILLED = {
    "black": "black",
    "mean": "the image's mean colour",
    "noise": "noise",
    "texture": "another face",
    "blur": "its blur",
}


def _short(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.3f}"


@dataclass(frozen=True, kw_only=True)
class RandomMask(MapStudy):
    """Random masks.

    A square of s×s pixels at a random place of the inner 90 % of an aligned face. Means over faces
    of each face's mean; in brackets 95 % bootstrap intervals over faces.

    AUROC within one image is ½ by chance, but `auroc_clean` says what the same map finds where
    there is no square: only the gain over it is the square's.

    Columns:

        quality_change: ΔQ, Eq. 7 with Q̂ = Q: positive where the square lowered Q
        pixel_change: Δp inside, Eq. 8
        pixel_contrast: Δp inside − Δp outside: what is left when the whole map dims
        log_contrast: mean ln score outside − inside
        auroc: of low scores for the square
        auroc_clean: the clean image's map on the same square
        auroc_gain: auroc − auroc_clean
        pointing_game: lowest pixel inside
        rank_accuracy: share of the lowest |square| pixels inside
        mass_accuracy: share of Σ (1 − p) inside

    Args:

        sizes (tuple[int, ...]): Sides of the squares in pixels.
        fills (tuple[str, ...]): What is in them.
        per_face (int, optional): How many combinations of size and fill each face gets; over
            the faces, all of them equally often (default: all).
    """

    name: ClassVar[str] = "random-mask"
    quick = MapStudy.quick | {"sizes": "10,30", "per-face": "4", "random-networks": "2"}
    conditions: ClassVar[tuple[str, ...]] = ("size", "fill", "middle")
    compared: ClassVar[tuple[str, ...]] = ("auroc", "auroc_gain", "pixel_contrast")
    difference: ClassVar[str] = "+.3f"
    headlines: ClassVar[tuple[Headline, ...]] = (
        *(
            Headline(f"AUROC, {fill}",
                     f"of squares of 20 to 40 px filled with {words}, by low scores; ½ is chance",
                     estimate_of("auroc", f"middle={fill}"), ".2f", first=True)
            for fill, words in _FILLED.items()
        ),
        Headline("clean AUROC", "of the map of the CLEAN image on the same squares",
                 estimate_of("auroc_clean"), ".2f", None, first=True),
    )  # fmt: skip

    sizes: Counts = (10, 20, 30, 40, 50)
    fills: Annotated[tuple[str, ...], some_of(FILLS)] = tuple(FILLS)
    per_face: PositiveInt | None = None
    random_networks: PositiveInt = 3

    def __post_init__(self) -> None:
        most = len(self.sizes) * len(self.fills)
        if self.per_face is not None and not 1 <= self.per_face <= most:
            raise ValueError(f"per-face must be 1 to {most} combinations, not {self.per_face}.")

    def combinations(self, index: int) -> list[tuple[int, str]]:
        """Return sizes and fills of a face by its number: a walk round a seeded permutation."""
        every = list(itertools.product(self.sizes, self.fills))
        order = np.random.default_rng(self.seed).permutation(len(every))
        count = self.per_face or len(every)
        return [every[order[(index * count + turn) % len(every)]] for turn in range(count)]

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, combination and method."""
        indices = [context.faces.names.index(name) for name in names]
        textures = context.faces.reference
        others = [textures[(index + self.seed) % len(textures)] for index in indices]
        clean = context.maps(images)
        p_clean = {name: context.pixel_qualities(name, maps) for name, maps in clean.items()}
        before = self._qualities(context, images)
        scale = 112 / context.model.spec.input_size[0]
        rows: list[Row] = []
        for chosen in zip(*map(self.combinations, indices), strict=True):
            sizes, fills = zip(*chosen, strict=True)
            occluded, masks = occlude_squares(images, sizes, fills, others, names, self.seed)
            after = self._qualities(context, occluded)
            for name, maps in context.maps(occluded).items():
                p, network = context.pixel_qualities(name, maps), context.network_for(name)
                inside = pixel_quality_change(p_clean[name], p, masks)
                found, ignorant = (mask_scores.auroc(x, masks) for x in (maps, clean[name]))
                numbers: dict[str, Any] = {
                    "size": sizes,
                    "fill": fills,
                    "middle": [fill if 20 <= scale * s <= 40 else "no" for s, fill in chosen],
                    "quality_change": quality_change(before[id(network)], after[id(network)]),
                    "pixel_change": inside,
                    "pixel_contrast": inside - pixel_quality_change(p_clean[name], p, ~masks),
                    "log_contrast": mask_scores.log_contrast(context.positive(name, maps), masks),
                    "auroc": found,
                    "auroc_clean": ignorant,
                    "auroc_gain": found - ignorant,
                    "pointing_game": mask_scores.pointing_game(maps, masks),
                    "rank_accuracy": mask_scores.rank_accuracy(maps, masks),
                    "mass_accuracy": mask_scores.mass_accuracy(p, masks),
                }
                rows += rows_of(names, numbers, method=name)
        return rows

    @staticmethod
    def _qualities(context: StudyContext, images: Tensor) -> dict[int, Tensor]:
        """Q of the network and, if it is explained, of the one with random weights."""
        working = [method.name for method in context.methods if method.name not in context.failed]
        networks = [context.subject, *map(context.network_for, working)]
        return {key: x.quality(images) for key, x in {id(x): x for x in networks}.items()}

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add histograms by size, of PLQ's map or of the first that there is."""
        found: dict[str, Any] = {}
        names = list(dict.fromkeys(row["method"] for row in study.rows))
        if names:
            found["method"] = "plq" if "plq" in names else names[0]
        for metric in _DISTRIBUTED if names else ():
            rows = [(row[metric], row["size"]) for row in study.rows
                    if row["method"] == found["method"] and row[metric] is not None]  # fmt: skip
            edges = np.histogram_bin_edges([value for value, _ in rows], _BINS)
            counts = {
                str(size): np.histogram([x for x, own in rows if own == size], edges)[0].tolist()
                for size in self.sizes
            }
            found[metric] = {"edges": rounded(edges.tolist()), "counts": counts}
        return super().summary(study, context) | {"distributions": found}

    def example(self, context: StudyContext) -> Figure:
        """Return one face with squares of growing size, its maps below, as the paper's Fig. 6."""
        image = sample_image(context.model.spec, next(context.model.parameters()))
        count, seed = len(self.sizes), self.seed
        others, names = [image.flip(2)] * count, ["sample"] * count
        occluded, _ = occlude_squares(
            image.expand(count, -1, -1, -1), self.sizes, self.fills[:1] * count, others, names, seed
        )
        images = torch.cat([image[None], occluded])
        maps = context.maps(images)
        shown = preferred(maps)
        figure, panels = face_panels(1 + len(shown), len(images), width=1.6, height=1.75)
        for axes, one, size in zip(panels[0], images, ("none", *self.sizes), strict=True):
            show(axes, one)
            axes.set_title(f"s = {size}", fontsize=8)
        for row, name in zip(panels[1:], shown, strict=True):
            for axes, p in zip(row, context.pixel_qualities(name, maps[name]), strict=True):
                show(axes, p)
            row[0].set_ylabel(name, fontsize=8)
        return figure

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return AUROC by fill, all metrics, shares above 0 by size, and the comparisons."""
        fills, lines = record["settings"]["fills"], []
        for title, metric, condition in (
            ("auroc by fill, s = 20 to 40 (of 112)", "auroc", "middle"),
            ("auroc by fill", "auroc", "fill"),
            ("auroc_gain by fill", "auroc_gain", "fill"),
        ):
            shown = [] if condition == "middle" else [Shown("all", metric)]
            shown += [Shown(fill, metric, f"{condition}={fill}") for fill in fills]
            lines += [f"### {title}", "", *by_method(record, shown, nulls_beside=True)]
        shown = [replace(x, form=_short, bounds=False) for x in cls.shown()
                 if x.metric not in ("auroc", "auroc_gain")]  # fmt: skip
        lines += ["### All fills", "", *by_method(record, shown), *_shares(record)]
        return [*lines, *comparisons(record, cls.difference)]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return how ΔQ and Δp are distributed for each size, as the paper's Fig. 5."""
        figure, rows = record_panels(records, lambda _: _DISTRIBUTED, (4.5, 3.2), below=0.4)
        for record, row in rows:
            distributions, faces = record["distributions"], record["faces"]["evaluated"]
            title = f"{record['model']}, {distributions.get('method', 'nothing')}, {faces} faces"
            for axes, metric, what in row:
                found = distributions.get(metric, {"edges": [0, 1], "counts": {}})
                for size, counts in found["counts"].items():
                    if total := sum(counts):
                        shares, edges = np.array(counts) / total, np.array(found["edges"])
                        axes.stairs(shares, edges, label=f"s = {size}", linewidth=1.4)
                axes.axvline(0, color="black", linewidth=0.8)
                label(axes, title, what, "share of rows")
                axes.legend(fontsize=7)
        return {cls.name: figure}


def _shares(record: Record) -> list[str]:
    """By size: how often ΔQ and Δp are positive, as the paper's Fig. 5 is read."""
    method, sizes = record["distributions"].get("method"), record["settings"]["sizes"]
    if method is None:
        return []
    rows = []
    for metric in _DISTRIBUTED:
        of = record["estimates"][metric].get(method, {})
        found = [of.get(f"size={size}", {}).get("positive") for size in sizes]
        rows.append([metric, *(number(share, ".0%") for share in found)])
    head = ["", *(f"s = {size}" for size in sizes)]
    return [f"### Share above 0 by size, {method}", "", *table(head, rows), ""]
