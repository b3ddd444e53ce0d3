"""Whether a map depends on what the network has learned, on the image, and on nothing else."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.subjects.methods import Attribute, Method
from captum_plq.metrics import centre_similarity, efficient_mprt, smooth_mprt, spearman
from captum_plq.network.state import untouched_rng

__all__ = ["METRICS", "RULE", "Sanity", "verdicts"]

METRICS = {
    "weights": "smooth MPRT: rank correlation with the map of the network when all its weights are "
    "random, both averaged over noisy copies; near 0 for a map that shows what was learned",
    "emprt": "efficient MPRT: relative rise of the entropy of the map's histogram on random "
    "weights; above 0 for a map that shows what was learned",
    "others": "mean rank correlation with the maps of other people's faces; 1 for a map that says "
    "nothing of the image",
    "centre": "rank correlation with nearness to the centre of the image",
    "company": "greatest change of the map if the image comes alone instead of in its batch, as a "
    "share of the map's greatest value",
}
"""What each number of a row is."""

RULE = {"weights": 0.5, "others": 0.5, "company": 1e-3}
"""A map passes if each of these means is below its bound with the whole of its interval. Half is a
convention, set before anything was measured: a quarter of the variance of the ranks is shared."""


@dataclass(frozen=True)
class Sanity:
    """The protocol. Reference faces serve as the other people, and for BatchNorm's statistics.

    Args:

        samples (int): Noisy copies of each image, for smooth MPRT.
        noise (float): Their standard deviation, as a share of the range of each image.
        stages (int): At how many depths, from the input up, the network is compared.
        others (int): With how many other people's maps each is compared.
        seed (int): Of weights and noise.
    """

    samples: int = 5
    noise: float = 0.1
    stages: int = 6
    others: int = 8
    seed: int = 0
    name: str = "sanity"

    def __post_init__(self) -> None:
        for field in ("samples", "stages", "others"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, but got {getattr(self, field)}.")

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON."""
        fields = ("samples", "noise", "stages", "others", "seed")
        return {name: getattr(self, name) for name in fields}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face and method. Maps of random networks are not tested once more."""
        reference = torch.cat(context.subject.reference_batches())
        rows: list[Row] = []
        found = context.maps(images)
        alone = [context.maps(image) for image in images.split(1)]
        others = context.maps(reference[: self.others])
        for method in context.methods:
            if method.random_weights or method.name in context.failed:
                continue
            try:
                stages, weights, emprt = self._randomised(method, context, images, reference)
            except Exception as error:
                reason = (str(error).strip().splitlines() or [""])[0]
                context.failed[method.name] = f"{type(error).__name__}: {reason}"
                continue
            maps = found[method.name]
            numbers = {
                "weights": weights[-1],
                "emprt": emprt,
                "others": _mean_similarity(maps, others[method.name]),
                "centre": centre_similarity(maps),
                "company": _change(maps, torch.cat([own[method.name] for own in alone])),
            }
            lists = {key: _numbers(values) for key, values in numbers.items()}
            for i, name in enumerate(names):
                row: Row = {"image": name, "method": method.name}
                row |= {key: values[i] for key, values in lists.items()}
                row["stages"] = dict(zip(stages, _numbers(weights[:, i]), strict=True))
                rows.append(row)
        return rows

    def _randomised(
        self, method: Method, context: StudyContext, images: Tensor, reference: Tensor
    ) -> tuple[tuple[str, ...], Tensor, Tensor]:
        """Layers, similarities (stages, B), and the rise of the entropy (B,)."""
        explain = _Anew(method, context)
        curve = smooth_mprt(
            context.model,
            images,
            explain,
            samples=self.samples,
            noise=self.noise,
            stages=self.stages,
            seed=self.seed,
            calibration=reference,
        )
        rise = efficient_mprt(context.model, images, explain, seed=self.seed, calibration=reference)
        return curve.layers, curve.similarity, rise


class _Anew:
    """A map of whatever network comes, its reference faces included; made once per network."""

    def __init__(self, method: Method, context: StudyContext) -> None:
        self.method, self.context = method, context
        self.last: tuple[nn.Module, Attribute] | None = None

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        with untouched_rng((images,)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self.last is None or self.last[0] is not model:
                torch.manual_seed(self.context.subject.seed)
                self.last = model, self._explain(model)
            torch.manual_seed(self.context.subject.seed)
            return self.last[1](images).detach()

    def _explain(self, model: nn.Module) -> Attribute:
        if model is self.context.model:
            return self.context.explain(self.method)
        return self.method.build(self.context.subject.of(model))


def verdicts(
    estimates: dict[str, dict[str, dict[str, Any]]], group: str = "all"
) -> dict[str, list[str]]:
    """In what each method fails :data:`RULE`; in nothing if it passes.

    Args:

        estimates (dict): Of a summary of this protocol: metric → method → group → estimate.
        group (str): Of rows.

    Returns:
        *dict[str, list[str]]*: method → names of the metrics it fails in.
    """
    failed: dict[str, list[str]] = {}
    for method in estimates["company"]:
        failed[method] = []
        for metric, bound in RULE.items():
            cell = estimates[metric].get(method, {}).get(group)
            if cell is None or not _highest(cell) < bound:
                failed[method].append(metric)
    return failed


def _highest(cell: dict[str, Any]) -> float:
    return float(cell["mean"] if cell["high"] is None else cell["high"])


def _mean_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """(B,): mean Spearman of each map with all the others."""
    return torch.stack([spearman(maps, other[None]) for other in others]).mean(0)


def _change(maps: Tensor, others: Tensor) -> Tensor:
    greatest = maps.abs().amax((1, 2))
    apart: Tensor = (maps - others).abs().amax((1, 2))
    return apart / torch.where(greatest > 0, greatest, 1.0)


def _numbers(values: Tensor) -> list[float | None]:
    return [x if math.isfinite(x) else None for x in values.tolist()]
