"""Recognition while pixels of the probe go in the order of a map (DEC and IEC).

After Huber et al., "On Evaluating Pixel-Level Face Image Quality Assessment", EUSIPCO 2022, in its
manner only: the full text was not at hand. The gallery image and the decision threshold stay as
they are. To insert the best pixels first into a blurred image is to remove the worst first and show
their blur, read from the end: the area of one is the area of the other, so the insertion curve is
``worst first`` under the fill ``blur``.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.harness.figures import curve_panels
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.statistics import grouped, rounded
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.protocols.curves import IMPUTERS, both_orders
from benchmarks.subjects.face_sets import PairSets, pair_sets, quick_pair_sets
from benchmarks.subjects.methods import control
from captum_plq import metrics
from captum_plq.models import FaceModel, ModelSpec, load_model
from captum_plq.network.output import select_embedding

_CURVES = ("fnmr", "similarity", "quality")


RANDOM_ORDERS = control("random orders", "mean of several random orders")
"""Described as the methods are; it explains nothing."""


@dataclass(frozen=True, kw_only=True)
class Recognition(MapStudy):
    """Recognition as pixels go by a map.

    Pixels of the probe go in the order of a map; the gallery image and the threshold stay. Means
    over mated pairs of different people; in brackets 95 % bootstrap intervals over pairs. After
    the deletion and insertion evaluation curves of Huber et al., EUSIPCO 2022, in their manner.

    Columns:

        fnmr_gain: false non-match rate, best first − worst first: 0 for chance, above 0 for a map
            whose high pixels serve recognition
        fnmr_worst_first: mean false non-match rate while the worst pixels go first (DEC; under
            blur also IEC), low for a faithful map
        fnmr_best_first: the same while the best go first, high for a faithful map
        similarity_gain: cosine to the gallery image, worst first − best first: 0 for chance
        similarity_worst_first: mean cosine while the worst pixels go first
        similarity_best_first: mean cosine while the best pixels go first
        quality_gain: Q, worst first − best first: 0 for chance

    Args:

        pairs (Path, optional): CSV with the columns fold, first, second, mated; goes with images.
        imputers (tuple[str, ...]): What removed pixels become.
        steps (int): In how many equal steps all pixels go.
        orders (int): How many random orders the control is the mean of.
        fmr (float): False match rate of clean pairs, for the threshold.
        matcher (str, optional): Network that recognises (default: the one that is explained).
    """

    name: ClassVar[str] = "recognition"
    quick = MapStudy.quick | {"imputers": "mean", "steps": "5", "orders": "3"}
    conditions: ClassVar[tuple[str, ...]] = ("imputer",)
    compared: ClassVar[tuple[str, ...]] = ("fnmr_gain", "similarity_gain")
    controls = (RANDOM_ORDERS,)
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("FNMR gain", "false non-matches: area between removing best first and worst "
                 "first, with the image's mean colour; 0 is chance",
                 estimate_of("fnmr_gain", "imputer=mean"), "+.3f"),
    )  # fmt: skip

    pairs: Path | None = None
    imputers: Annotated[tuple[str, ...], some_of(IMPUTERS)] = IMPUTERS
    steps: PositiveInt = 20
    orders: PositiveInt = 10
    fmr: float = 1e-3
    matcher: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return what the curves depend on; the gallery is in the digest of the faces."""
        settings = super().settings() | {"matcher_name": ""}
        for key in ("pairs", "fmr", "matcher"):
            del settings[key]
        if self.matcher is not None:
            settings["matcher_name"] = _matcher(self.matcher, self.device).spec.name
        return settings

    def draw(self, spec: ModelSpec) -> PairSets:
        """Return mated pairs of different people."""
        if (self.images is None) != (self.pairs is None):
            raise ValueError("--images and --pairs go together: give both, or neither.")
        faces, reference = self.how_many()
        if self.images is None or self.pairs is None:
            return quick_pair_sets(spec, faces, reference, self.seed)
        return pair_sets(self.images, self.pairs, spec, faces, reference, self.seed)

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per probe, imputer and method, and one for the random orders.

        A map of the network with random weights is judged by the trained one, as all are: it
        knows the image and the architecture, and nothing of faces.
        """
        recognise, pairs = self._recogniser(context), cast("PairSets", context.faces)
        own = [pairs.gallery[pairs.names.index(name)] for name in names]
        gallery = embed(recognise, torch.stack(own).to(images))
        curves = (
            partial(
                metrics.similarity_curve, partial(embed, recognise), images, gallery, way="deletion"
            ),
            partial(metrics.perturbation_curve, context.subject.quality, images),
        )
        explained = {method: [maps] for method, maps in context.maps(images).items()}
        explained[RANDOM_ORDERS.name] = [self._drawn(images, names, i) for i in range(self.orders)]
        rows: list[Row] = []
        given = {"steps": self.steps, "rows": context.subject.rows, "seed": self.seed}
        for imputer in self.imputers:
            for method, maps in explained.items():
                similarity, quality = (
                    torch.stack([both_orders(curve, x, imputer, **given).values for x in maps])
                    for curve in curves
                )
                # (maps, B, 2, steps + 1): all cosines, since each is held against a threshold; of
                # Q the mean.
                numbers = {
                    "similarity": rounded(similarity.transpose(0, 1).tolist(), 6),
                    "quality": rounded(quality.double().mean(0).tolist(), 6),
                }
                rows += rows_of(names, numbers, method=method, imputer=imputer)
        return rows

    def _recogniser(self, context: StudyContext) -> FaceModel:
        return context.model if self.matcher is None else _matcher(self.matcher, self.device)

    def _drawn(self, images: Tensor, names: Sequence[str], order: int) -> Tensor:
        height, width = images.shape[-2:]
        seeds = [zlib.crc32(f"{self.seed} {order} {name}".encode()) for name in names]
        return torch.stack([metrics.random_map(height, width, seed) for seed in seeds]).to(images)

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Hold the cosines against the threshold of clean pairs; add it, and the mean curves."""
        pairs, threshold = cast("PairSets", context.faces), None
        if pairs.several_people:
            recognise, parameter = self._recogniser(context), next(context.model.parameters())
            probes, gallery = (
                torch.cat([embed(recognise, x.to(parameter)) for x in side.split(self.batch)])
                for side in (pairs.images, pairs.gallery)
            )
            threshold = clean_threshold(probes, gallery, self.fmr)
        rows, count = with_errors(study.rows, threshold), len(pairs.names)
        return super().summary(replace(study, rows=rows), context) | {
            "groups": [f"imputer={name}" for name in self.imputers],
            "threshold": {
                "cosine": threshold,
                "fmr": self.fmr,
                "non_mated_pairs": count * (count - 1),
            },
            "curves": _mean_curves(rows),
        }

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Add who recognises, from which cosine on."""
        threshold, by = record["threshold"], record["settings"]["matcher_name"] or record["model"]
        text = "One person only: there is no threshold, and so no false non-match rate."
        if threshold["cosine"] is not None:
            text = (
                f"Recognised by {by}, a match from cosine {threshold['cosine']:.3f} on: a false "
                f"match rate of {threshold['fmr']:g} over {threshold['non_mated_pairs']} clean "
                "non-mated pairs."
            )
        return [*super().tables(record), text, ""]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return false non-matches along the mean curves, or cosines if there is no threshold."""

        def curves(record: Record, own: Any) -> tuple[list[float], list[float]]:
            worst, best = own["similarity" if record["threshold"]["cosine"] is None else "fnmr"]
            return best, worst

        def measured(record: Record) -> str:
            none = record["threshold"]["cosine"] is None
            return "cosine" if none else "false non-match rate"

        return {cls.name: curve_panels(records, curves, measured, width=4.2, unit="pairs")}


@cache
def _matcher(name: str, device: str) -> FaceModel:
    return load_model(name).eval().to(device)


def embed(model: nn.Module, images: Tensor) -> Tensor:
    """Return embeddings (B, d) of images (B, 3, H, W), without autograd."""
    with torch.no_grad():
        return select_embedding(model(images)).flatten(1)


def clean_threshold(probes: Tensor, gallery: Tensor, fmr: float = 1e-3) -> float:
    """Return the threshold for a false match rate, from probes and other people's gallery images.

    Args:

        probes (Tensor): (n, d), embeddings of different people.
        gallery (Tensor): (n, d), of the same people in the same order.
        fmr (float): In (0, 1).

    Raises:
        ValueError: if n (n − 1) pairs are too few for this rate.
    """
    cosine = F.normalize(probes.double(), dim=1) @ F.normalize(gallery.double(), dim=1).T
    apart = ~torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    return metrics.threshold_at_fmr(cosine[apart], fmr)


def with_errors(rows: Sequence[Row], threshold: float | None) -> list[Row]:
    """Return rows with the areas of all columns, false non-matches at a threshold included.

    Args:

        rows (sequence of dict): Of :meth:`Recognition.rows`.
        threshold (float, optional): A probe matches if its cosine is at or above it. ``None``:
            there is none, and the areas that need one are ``None`` too.

    Returns:
        *list[dict]*: new rows, with the curves of false non-matches (of random orders: shares)
        as ``fnmr``.
    """
    found = []
    for row in rows:
        similarity, quality = (
            torch.tensor(row[key], dtype=torch.float64) for key in ("similarity", "quality")
        )
        errors = None if threshold is None else metrics.fnmr(similarity, threshold)
        new = {**row}
        for name, curves in zip(_CURVES, (errors, similarity.mean(0), quality), strict=True):
            new[name] = None if curves is None else curves.tolist()
            new |= _areas(name, curves)
        found.append(new)
    return found


def _areas(name: str, curves: Tensor | None) -> Row:
    """Areas of (2, steps + 1) and the gain: errors rise where the two others fall."""
    worst = best = gain = None
    if curves is not None:
        shares = torch.linspace(0, 1, curves.shape[1], dtype=curves.dtype)
        worst, best = metrics.area_under_curve(metrics.Curve(shares, curves)).tolist()
        gain = best - worst if name == "fnmr" else worst - best
    return {f"{name}_gain": gain, f"{name}_worst_first": worst, f"{name}_best_first": best}


def _mean_curves(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, Any]]]:
    """Imputer → method → name of a curve → its mean worst first and best first, or ``None``."""

    def mean(own: Sequence[Row], name: str) -> Any:
        curves = [row[name] for row in own]
        return None if None in curves else rounded(np.mean(curves, axis=0))

    return {
        imputer: {method: {x: mean(own, x) for x in _CURVES} for method, own in of.items()}
        for imputer, of in grouped(rows, "imputer", "method").items()
    }
