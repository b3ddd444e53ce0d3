"""How near SER-FIQ's estimators come to the limit of many passes, on real faces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from benchmarks.harness.environment import Environment, current_environment, reproducible_settings
from benchmarks.subjects.face_sets import FaceSets
from captum_plq import SERFIQ
from captum_plq.models import FaceModel
from captum_plq.network.tail import find_affine_head
from captum_plq.quality.serfiq import Estimator

__all__ = ["EstimatorScore", "EstimatorSettings", "EstimatorStudy", "study_estimators"]

_FACES_AT_A_TIME = 4
_REFERENCE_SEED = 10**6


@dataclass(frozen=True)
class EstimatorSettings:
    """The choices of a study.

    Args:

        device (str): ``"cpu"`` or ``"cuda"``.
        dropout (float): p.
        passes (tuple[int, ...]): The m to try with the estimators that draw.
        repeats (int): Seeds for each of them.
        reference_passes (int): m of the limit, with masks of its own.
        reference_estimator (str): ``"sampling"``, the paper's independent passes, or
            ``"balanced"``, whose limit is the same and less uncertain.
        threads (int, optional): ``None``: torch's own number.
        seed (int): Of the faces; the estimators' seeds count up from it.
    """

    device: str = "cpu"
    dropout: float = 0.5
    passes: tuple[int, ...] = (32, 100, 320, 1000)
    repeats: int = 20
    reference_passes: int = 10_000
    reference_estimator: Literal["sampling", "balanced"] = "sampling"
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class EstimatorScore:
    """What one estimator with one m reached. Errors are of the mean distance, not of Q.

    Args:

        estimator (str): As in :class:`captum_plq.SERFIQ`.
        passes (int or None): m; ``None`` where nothing is drawn.
        repeats (int): Seeds.
        error (float): Mean relative error, over faces and seeds.
        bias (float): Relative error of the mean over faces and seeds.
        spearman (float): Mean over seeds of the rank correlation with the limit.
        stated_error (float or None): Root mean square of the stated standard errors of Q
            over the actual scatter of Q from seed to seed: 1 is right, more is cautious.
    """

    estimator: str
    passes: int | None
    repeats: int
    error: float
    bias: float
    spearman: float
    stated_error: float | None


@dataclass(frozen=True)
class EstimatorStudy:
    """All estimators on one network and one set of faces.

    Args:

        model (str), source (str): The network's name, and where its weights are from.
        images (str): Where the faces are from, in words.
        faces (int), left_out (int): How many were used, and how many could not be.
        features (int), embedding (int): D and d of the embedding layer.
        reference_passes (int): m of the limit.
        reference_error (float): Its own mean relative standard error.
        distance (float): Mean distance in the limit.
        spread (float): Its standard deviation between faces, relative to the mean.
        whole_network (float): Largest difference of Q when the estimators run on the whole
            network rather than on its head, over the first faces.
        scores (list[EstimatorScore]): One each.
        conditions (Environment): Device, versions and all the rest.
        reference_estimator (str): How the limit was drawn.
    """

    model: str
    source: str
    images: str
    faces: int
    left_out: int
    features: int
    embedding: int
    reference_passes: int
    reference_error: float
    distance: float
    spread: float
    whole_network: float
    scores: list[EstimatorScore]
    conditions: Environment
    reference_estimator: str = "sampling"

    @property
    def stem(self) -> str:
        """Name of its file."""
        limit = "" if self.reference_estimator == "sampling" else "-balanced-limit"
        return f"estimators-{self.model}-p{self.conditions.dropout:g}{limit}"

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> EstimatorStudy:
        """The inverse of :meth:`to_json`."""
        record = dict(record)
        record["conditions"] = Environment(**record["conditions"])
        record["scores"] = [EstimatorScore(**score) for score in record["scores"]]
        return cls(**record)


def study_estimators(
    model: FaceModel,
    faces: FaceSets,
    images: str,
    settings: EstimatorSettings,
    progress: Callable[[str], object] = lambda _: None,
) -> EstimatorStudy:
    """Compares the estimators with the paper's sampling at very many passes.

    The faces go through the network once; the estimators then run on its own head (embedding
    layer and what follows), and for the first faces also on the whole network, which must
    give the same.

    Args:

        model (FaceModel): With an affine head.
        faces (FaceSets): At least 3.
        images (str): Where they are from, in words.
        settings (EstimatorSettings): How.
        progress (Callable): Told what is being done.

    Returns:
        *EstimatorStudy*

    Raises:
        ValueError: if the network's head is not affine.
    """
    device = torch.device(settings.device)
    model, pixels = model.to(device), faces.images.float().to(device)
    with reproducible_settings(settings.threads, False, settings.seed), torch.no_grad():
        conditions = current_environment(
            device,
            torch.float32,
            passes=100,
            dropout=settings.dropout,
            seed=settings.seed,
            rows=_FACES_AT_A_TIME,
        )
        serfiq = SERFIQ(model)
        head = serfiq.tap.examine(model, (pixels[:2],), find_affine_head)
        rest = nn.Sequential(head.layer, *head.tail)
        progress("embedding")
        features = torch.cat([serfiq.tap.features(model, (x,))[1] for x in pixels.split(16)])

        def assess(estimator: Estimator, passes: int, seed: int) -> tuple[Tensor, Tensor]:
            """Q and its stated standard error, (n,) each, float64."""
            return _assess(rest, features, estimator, passes, seed, settings.dropout)

        progress(f"the limit, {settings.reference_passes} passes")
        quality, error = assess(
            settings.reference_estimator, settings.reference_passes, _REFERENCE_SEED
        )
        limit = _distance(quality)
        limit_error = error / (quality * (1 - quality / 2))
        scores = []
        for estimator, passes in _plan(settings):
            progress(f"{estimator} {passes}")
            drawn = estimator != "closed-form"
            seeds = range(settings.seed, settings.seed + (settings.repeats if drawn else 1))
            runs = [assess(estimator, passes, seed) for seed in seeds]
            scores.append(_score(estimator, passes if drawn else None, runs, limit))
        return EstimatorStudy(
            model=model.spec.name,
            source=model.spec.source,
            images=images,
            faces=len(limit),
            left_out=faces.unusable,
            features=features[0].numel(),
            embedding=rest(features[:1]).numel(),
            reference_passes=settings.reference_passes,
            reference_error=float((limit_error / limit).mean()),
            distance=float(limit.mean()),
            spread=float(limit.std() / limit.mean()),
            whole_network=_difference(model, pixels[:8], assess, settings),
            scores=scores,
            conditions=conditions,
            reference_estimator=settings.reference_estimator,
        )


def _plan(settings: EstimatorSettings) -> list[tuple[Estimator, int]]:
    estimators: list[Estimator] = ["sampling"]
    if settings.dropout == 0.5:
        estimators.append("balanced")
    plan = [(estimator, m) for estimator in estimators for m in settings.passes]
    return [*plan, ("closed-form", 2)]


def _assess(
    rest: nn.Module,
    features: Tensor,
    estimator: Estimator,
    passes: int,
    seed: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    serfiq = SERFIQ(
        rest, passes=passes, dropout=dropout, seed=seed, estimator=estimator, average="pairs"
    )
    parts = [serfiq.assess(x, standard_error=True) for x in features.split(_FACES_AT_A_TIME)]
    if serfiq.fallback_reason is not None:
        raise ValueError(f"There is no closed form on this network: {serfiq.fallback_reason}")
    quality = torch.cat([part.quality for part in parts])
    error = torch.cat([cast("Tensor", part.standard_error) for part in parts])
    return quality.double().cpu(), error.double().cpu()


def _distance(quality: Tensor) -> Tensor:
    """Mean distance from Q, the inverse of Eq. 1's outer part."""
    return -torch.logit(quality / 2)


def _score(
    estimator: str, passes: int | None, runs: Sequence[tuple[Tensor, Tensor]], limit: Tensor
) -> EstimatorScore:
    from scipy.stats import spearmanr

    quality, stated = (torch.stack(x) for x in zip(*runs, strict=True))
    distance = _distance(quality)
    correlations = [float(spearmanr(d.numpy(), limit.numpy()).statistic) for d in distance]
    scatter = quality.std(0).square().mean().sqrt() if len(runs) > 1 else None
    return EstimatorScore(
        estimator=estimator,
        passes=passes,
        repeats=len(runs),
        error=float((distance / limit - 1).abs().mean()),
        bias=float(distance.mean() / limit.mean() - 1),
        spearman=math.fsum(correlations) / len(correlations),
        stated_error=None if scatter is None else float(stated.square().mean().sqrt() / scatter),
    )


def _difference(
    model: FaceModel,
    images: Tensor,
    assess: Callable[[Estimator, int, int], tuple[Tensor, Tensor]],
    settings: EstimatorSettings,
) -> float:
    differences = []
    for estimator, _ in dict(_plan(settings)).items():
        whole = SERFIQ(
            model,
            passes=100,
            dropout=settings.dropout,
            seed=settings.seed,
            estimator=estimator,
            average="pairs",
        )
        head, _ = assess(estimator, 100, settings.seed)
        differences.append((whole(images).cpu() - head[: len(images)]).abs().max())
    return float(torch.stack(differences).max())  # NaN if one is
