"""Whether a map depends on what the network has learned, on the image, and on nothing else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import Field, listing, table
from benchmarks.harness.protocol import Cell, Headline, Record
from benchmarks.harness.statistics import ALL, rounded
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, rows_of
from benchmarks.subjects.methods import Attribute, Method
from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import merge_channels
from captum_plq.metrics import centre_similarity, efficient_mprt, smooth_mprt, spearman
from captum_plq.metrics.checks import seeded
from captum_plq.metrics.repeatability import repeatability

RULE = {"weights": 0.5, "others": 0.5, "company": 1e-3}
"""A map passes if each of these means is below its bound with the whole of its interval. Half is a
convention, set before anything was measured: a quarter of the variance of the ranks is shared."""

_PASSES = (10, 30, 100, 300)
_FACES = 32


def _verdict(record: Record, method: str) -> Cell | None:
    failed = record["verdicts"].get(method)
    if failed is None:
        return None
    return Cell(float(not failed), word="fails" if failed else "passes")


@dataclass(frozen=True, kw_only=True)
class Sanity(MapStudy):
    """Sanity.

    Means over faces; in brackets 95 % bootstrap intervals over faces. A map passes if `weights` <
    0.5, `others` < 0.5, `company` < 0.001, each with the whole of its interval. *random*,
    *centre* and *eigenface* ignore the network: they must fail.

    Columns:

        weights: smooth MPRT: rank correlation with the map of the network when all its weights are
            random, both averaged over noisy copies; near 0 for a map that shows what was learned
        emprt: efficient MPRT: relative rise of the entropy of the map's histogram on random
            weights; above 0 for a map that shows what was learned
        others: mean rank correlation with the maps of other people's faces; 1 for a map that says
            nothing of the image
        centre: rank correlation with nearness to the centre of the image
        company: greatest change of the map if the image comes alone instead of in its batch, as a
            share of the map's greatest value

    Args:

        samples (int): Noisy copies of each image, for smooth MPRT.
        stages (int): At how many depths, from the input up, the network is compared.
        others (int): With how many other people's maps each is compared.
    """

    name: ClassVar[str] = "sanity"
    quick = MapStudy.quick | {"samples": "2", "stages": "3", "others": "3"}
    compared: ClassVar[tuple[str, ...]] = ("weights",)
    noise: ClassVar[float] = 0.1
    """Standard deviation of the noisy copies, as a share of the range of each image."""
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("sanity", "whether the map depends on the weights and on the image, by the stated "
                 "rule", _verdict, better=None),
    )  # fmt: skip

    samples: PositiveInt = 5
    stages: PositiveInt = 6
    others: PositiveInt = 8

    def settings(self) -> dict[str, Any]:
        """Return the options and the noise."""
        return super().settings() | {"noise": self.noise}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face and method. Maps of random networks are not tested once more."""
        reference = torch.cat(context.subject.reference_batches())
        rows: list[Row] = []
        found = context.maps(images)
        alone = [context.maps(image) for image in images.split(1)]
        others = context.maps(reference[: self.others])
        for method in context.methods:
            if method.null is not None or method.name in context.failed:
                continue
            explain = _anew(method, context)
            given: dict[str, Any] = {"seed": self.seed, "calibration": reference}
            try:
                curve = smooth_mprt(
                    context.model,
                    images,
                    explain,
                    samples=self.samples,
                    noise=self.noise,
                    stages=self.stages,
                    **given,
                )
                rise = efficient_mprt(context.model, images, explain, **given)
            except Exception as error:
                context.fail(method, error)
                continue
            maps = found[method.name]
            numbers = {
                "weights": curve.similarity[-1],
                "emprt": rise,
                "others": _mean_similarity(maps, others[method.name]),
                "centre": centre_similarity(maps),
                "company": _change(maps, torch.cat([own[method.name] for own in alone])),
            }
            stages = [dict(zip(curve.layers, _numbers(own), strict=True))
                      for own in curve.similarity.T]  # fmt: skip
            rows += rows_of(names, numbers | {"stages": stages}, method=method.name)
        return rows

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add the verdicts, and how Q and maps of PLQ repeat over seeds."""
        record = super().summary(study, context)
        record["verdicts"] = verdicts(record["estimates"])
        record["repeatability"] = repeatability_over_passes(context)
        return record

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Add verdicts and repeatability."""
        rows = [
            [name, "passes" if not failed else f"fails: {', '.join(failed)}"]
            for name, failed in record["verdicts"].items()
        ]
        lines = [*super().tables(record), "### Verdict", ""]
        lines += [*table(["method", "verdict"], rows, words=2), ""]
        lines += [
            "### Repeatability over three seeds of the dropout masks",
            "",
            f"On at most {_FACES} of the reference faces; means over pairs of seeds. A relative "
            "difference is the length of the difference over the mean length of both.",
            "",
        ]
        fields: list[Field] = [
            ("target scalar", "target", ""),
            ("m", "passes", "d"),
            ("maps, Spearman", "map_spearman", ".4f"),
            ("maps, difference", "map_difference", ".4f"),
            ("Q, Spearman", "quality_spearman", ".3f"),
            ("Q, difference", "quality_difference", ".4f"),
        ]
        found = record["repeatability"].items()
        return [*lines, *listing(fields, [{"target": t, **x} for t, own in found for x in own]), ""]


def _anew(method: Method, context: StudyContext) -> Callable[[nn.Module, Tensor], Tensor]:
    """A map of whatever network comes, its reference faces included; made once per network."""

    @lru_cache(maxsize=1)
    def made_for(model: nn.Module) -> Attribute:
        own = model is context.model
        return context.explain(method) if own else method.build(context.subject.of(model))

    def maps(model: nn.Module, images: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with seeded(images, context.subject.seed):
                explain = made_for(model)
            with seeded(images, context.subject.seed):
                return explain(images).detach()

    return maps


def repeatability_over_passes(context: StudyContext) -> dict[str, list[dict[str, Any]]]:
    """Return how Q and the maps of PLQ repeat over three seeds, by the number of passes.

    Args:

        context (StudyContext): With at least two reference faces; the first 32 are explained.

    Returns:
        *dict*: ``"node"`` and ``"serfiq"``, the target scalar → one entry for each m.
    """
    subject = context.subject
    images = torch.cat(subject.reference_batches())[:_FACES]

    def of(target: Any) -> list[dict[str, Any]]:
        def assess(passes: int, seed: int) -> tuple[Tensor, Tensor]:
            serfiq = SERFIQ(subject.model, passes=passes, dropout=subject.dropout, seed=seed)
            plq = PixelQualityAttribution(serfiq, target_scalar=target)
            parts = [plq.attribute(x, return_quality=True) for x in images.split(subject.batch)]
            maps = [merge_channels(cast("Tensor", attributions)) for attributions, _ in parts]
            return torch.cat(maps), torch.cat([quality for _, quality in parts])

        return [rounded(asdict(x)) for x in repeatability(assess, _PASSES)]

    return {target: of(target) for target in ("node", "serfiq")}


def verdicts(estimates: dict[str, dict[str, dict[str, Any]]]) -> dict[str, list[str]]:
    """Return in what each method fails :data:`RULE`; in nothing if it passes.

    Args:

        estimates (dict): Of a summary of this protocol: metric → method → group → estimate.

    Returns:
        *dict[str, list[str]]*: method → names of the metrics it fails in.
    """
    return {
        method: [m for m, bound in RULE.items() if not _below(estimates[m].get(method), bound)]
        for method in estimates["company"]
    }


def _below(cells: dict[str, Any] | None, bound: float) -> bool:
    """Whether a mean is below a bound with the whole of its interval; no mean is not."""
    cell = (cells or {}).get(ALL)
    return cell is not None and (cell["mean"] if cell["high"] is None else cell["high"]) < bound


def _mean_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """(B,): mean Spearman of each map with all the others."""
    return torch.stack([spearman(maps, other[None]) for other in others]).mean(0)


def _change(maps: Tensor, others: Tensor) -> Tensor:
    greatest = maps.abs().amax((1, 2))
    apart: Tensor = (maps - others).abs().amax((1, 2))
    return apart / torch.where(greatest > 0, greatest, 1.0)


def _numbers(values: Tensor) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in values.tolist()]
