"""How close SER-FIQ's estimators come to the limit of many passes, on real faces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn

from benchmarks.harness.environment import dated
from benchmarks.harness.figures import log_ticks, ticks_at
from benchmarks.harness.options import Counts, PositiveInt
from benchmarks.harness.pages import Field, listing
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.subjects.face_sets import FaceSets, face_sets
from captum_plq import SERFIQ
from captum_plq.models import FaceModel, load_model
from captum_plq.quality.closed_form import affine_head
from captum_plq.quality.serfiq import Estimator

_FACES_AT_A_TIME = 4
_LIMIT_SEED = 10**6
_COLOURS = {"sampling": "#c9822b", "balanced": "#1a7f37", "closed-form": "#5b8db8"}
_LABELS = {"sampling": "sampling (paper)", "balanced": "balanced", "closed-form": "closed form"}


@dataclass(frozen=True, kw_only=True)
class Estimators(Protocol):
    """Estimators of SER-FIQ.

    Error of the mean pairwise distance against {limits}, and rank correlation of the images with
    them. *Limit's own*: the mean relative standard error of that limit, below which no error can be
    seen. *Stated ÷ actual*: the standard error of Q that the estimator states, over the scatter of
    Q from seed to seed.

    Args:

        images (Path): Folder of faces; subfolders are people.
        about (str, optional): Where they are from, in words (default: the folder's name).
        faces (int): How many.
        m (tuple[int, ...]): Passes to try with the estimators that draw.
        repeats (int): Seeds for each of them, counted up from the seed of the faces.
        limit (int): Passes of the limit, with masks of its own.
        limit_by (str): ``sampling``, the paper's independent passes, or ``balanced``, whose limit
            is the same and less uncertain.
        dropout (float): p of SER-FIQ.
    """

    name: ClassVar[str] = "estimators"

    images: Path
    about: str | None = None
    faces: PositiveInt = 200
    m: Counts = (32, 100, 320, 1000)
    repeats: PositiveInt = 20
    limit: PositiveInt = 10_000
    limit_by: Literal["sampling", "balanced"] = "sampling"
    dropout: float = 0.5

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the errors of all estimators on a network."""
        network = load_model(model)
        faces = face_sets(self.images, network.spec, self.faces, 0, self.seed, one_each=False)
        limit = "" if self.limit_by == "sampling" else f"-{self.limit_by}-limit"
        stem = f"estimators-{network.spec.name}-p{self.dropout:g}{limit}"
        yield stem, self.study(network, faces)

    def study(self, model: FaceModel, faces: FaceSets) -> Record:
        """Compare the estimators with the limit.

        The faces go through the network once; the estimators then run on its own head (embedding
        layer and what follows), and for the first faces also on the whole network, which must
        give the same.

        Args:

            model (FaceModel): With an affine head.
            faces (FaceSets): At least 3.

        Returns:
            *dict*: ready for JSON; ``"features"`` and ``"embedding"``: D and d of the embedding
            layer; ``"reference_error"``: the limit's own mean relative standard error;
            ``"distance"`` and ``"spread"``: mean distance in the limit, and its standard deviation
            between faces, relative to the mean; ``"whole_network"``: the largest difference of Q
            to the head's; ``"scores"``: see :func:`_score`.

        Raises:
            ValueError: if the network's head is not affine.
        """
        with (
            self.environment(passes=100, dropout=self.dropout, rows=_FACES_AT_A_TIME) as found,
            torch.no_grad(),
        ):
            device, environment = found
            model, pixels = model.to(device), faces.images.float().to(device)
            serfiq = SERFIQ(model)
            rest = nn.Sequential(*affine_head(model, serfiq.tap, (pixels[:2],)).values())
            self.progress(model.spec.name, "embedding")
            features = torch.cat([serfiq.tap.features(model, (x,))[1] for x in pixels.split(16)])

            self.progress(model.spec.name, f"the limit, {self.limit} passes")
            quality, error = self._assess(rest, features, self.limit_by, self.limit, _LIMIT_SEED)
            limit = _distance(quality)
            limit_error = error / (quality * (1 - quality / 2))
            scores = []
            for estimator, passes in self._plan():
                self.progress(model.spec.name, f"{estimator} {passes or ''}")
                seeds = range(self.seed, self.seed + (1 if passes is None else self.repeats))
                runs = [self._assess(rest, features, estimator, passes or 2, s) for s in seeds]
                scores.append(_score(estimator, passes, runs, limit))
            differences = []
            for estimator in dict(self._plan()):
                whole = self._serfiq(model, estimator, 100, self.seed)(pixels[:8]).cpu()
                own, _ = self._assess(rest, features[:8], estimator, 100, self.seed)
                differences.append((whole - own).abs().max())
            return {
                "model": model.spec.name,
                "source": model.spec.source,
                "images": self.about or faces.about,
                "faces": len(limit),
                "left_out": faces.unusable,
                "features": features[0].numel(),
                "embedding": rest(features[:1]).numel(),
                "reference_passes": self.limit,
                "reference_error": float((limit_error / limit).mean()),
                "distance": float(limit.mean()),
                "spread": float(limit.std() / limit.mean()),
                "whole_network": float(torch.stack(differences).max()),  # NaN if one is
                "scores": scores,
                "conditions": environment,
                "reference_estimator": self.limit_by,
            }

    def _plan(self) -> list[tuple[Estimator, int | None]]:
        """Estimators and m; balanced groups exist at p = ½ only, the closed form has no m."""
        drawn: list[Estimator] = ["sampling", "balanced"] if self.dropout == 0.5 else ["sampling"]
        return [*((estimator, m) for estimator in drawn for m in self.m), ("closed-form", None)]

    def _serfiq(self, network: nn.Module, estimator: Estimator, passes: int, seed: int) -> SERFIQ:
        given: dict[str, Any] = {"dropout": self.dropout, "average": "pairs"}
        return SERFIQ(network, passes=passes, seed=seed, estimator=estimator, **given)

    def _assess(
        self, rest: nn.Module, features: Tensor, estimator: Estimator, passes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Q and its stated standard error, (n,) each, float64."""
        serfiq = self._serfiq(rest, estimator, passes, seed)
        parts = [serfiq.assess(x, standard_error=True) for x in features.split(_FACES_AT_A_TIME)]
        if serfiq.fallback_reason is not None:
            raise ValueError(f"There is no closed form on this network: {serfiq.fallback_reason}")
        quality = torch.cat([part.quality for part in parts])
        error = torch.cat([cast("Tensor", part.standard_error) for part in parts])
        return quality.double().cpu(), error.double().cpu()

    @classmethod
    def page(cls, records: Sequence[Record]) -> str:
        """Return the page, which names the limits."""
        limits = sorted({_limit(record) for record in records})
        return super().page(records).replace("{limits}", ", or ".join(limits), 1)

    @classmethod
    def body(cls, records: Sequence[Record]) -> list[str]:
        """Return one table over all studies; what each was measured on stands below it."""
        scores = [record | score for record in records for score in record["scores"]]
        about = [f"- **{record['model']}**: {_about(record)}" for record in records]
        return [*listing(_FIELDS, scores, words=3), "", *about, ""]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return error and rank correlation over m, a column for each limit by sampling."""
        sampled = [record for record in records if _limit_by(record) == "sampling"]
        return {cls.name: _figure(sampled or records)}


def _distance(quality: Tensor) -> Tensor:
    """Mean distance from Q, the inverse of Eq. 1's outer part."""
    return -torch.logit(quality / 2)


def _score(
    estimator: str, passes: int | None, runs: Sequence[tuple[Tensor, Tensor]], limit: Tensor
) -> Record:
    """What an estimator with one m reached; errors are of the mean distance, not of Q.

    ``"error"``: mean relative error over faces and seeds. ``"bias"``: relative error of the mean
    over both. ``"spearman"``: mean over seeds of the rank correlation with the limit.
    ``"stated_error"``: root mean square of the stated standard errors of Q over the actual scatter
    of Q from seed to seed: 1 is right, more is cautious; ``None`` where nothing is drawn.
    """
    from scipy.stats import spearmanr

    quality, stated = (torch.stack(x) for x in zip(*runs, strict=True))
    distance = _distance(quality)
    correlations = [float(spearmanr(d.numpy(), limit.numpy()).statistic) for d in distance]
    scatter = quality.std(0).square().mean().sqrt() if len(runs) > 1 else None
    return {
        "estimator": estimator,
        "passes": passes,
        "repeats": len(runs),
        "error": float((distance / limit - 1).abs().mean()),
        "bias": float(distance.mean() / limit.mean() - 1),
        "spearman": math.fsum(correlations) / len(correlations),
        "stated_error": scatter and float(stated.square().mean().sqrt() / scatter),
    }


def _limit_by(record: Record) -> str:
    found: str = record.get("reference_estimator", "sampling")  # the first files do not say it
    return found


def _limit(record: Record) -> str:
    how = "independent" if _limit_by(record) == "sampling" else _limit_by(record)
    return f"{record['reference_passes']} {how} passes"


def _about(record: Record) -> str:
    drawn = [score["repeats"] for score in record["scores"] if score["passes"] is not None]
    return (
        f"{record['source']}. {record['faces']} faces ({record['images']}; {record['left_out']} "
        f"unusable), {record['features']} features, {record['embedding']} dimensions, p = "
        f"{record['conditions']['dropout']:g}; distance {record['distance']:.3f}, spread between "
        f"faces {record['spread']:.2%}; {max(drawn, default=0)} seeds each; whole network and head "
        f"differ by at most {record['whole_network']:.0e} in Q; limit: {_limit(record)}. "
        f"{dated(record['conditions'])}."
    )


_FIELDS: tuple[Field, ...] = (
    ("network", "model", ""),
    ("p", lambda x: x["conditions"]["dropout"], "g"),
    ("estimator", lambda x: _LABELS[x["estimator"]], ""),
    ("m", "passes", "d"),
    ("error", "error", ".2%"),
    ("bias", "bias", "+.2%"),
    ("Spearman", "spearman", ".4f"),
    ("stated ÷ actual", "stated_error", ".2f"),
    ("limit's own", lambda x: f"{x['reference_error']:.2%}"
     + " (balanced)" * (_limit_by(x) != "sampling"), ""),
)  # fmt: skip


def _figure(records: Sequence[Record]) -> Figure:
    figure = Figure(figsize=(2.9 * len(records) + 0.6, 5.6), layout="constrained")
    panels = figure.subplots(2, len(records), squeeze=False, sharex="col", sharey="row")
    for (upper, lower), record in zip(panels.T, records, strict=True):
        _draw(upper, record, "error")
        _draw(lower, record, "spearman")
        upper.axhline(record["reference_error"], color="black", linewidth=0.8, linestyle=":")
        upper.set(xscale="log", yscale="log")
        about = f"p = {record['conditions']['dropout']:g}\n{record['faces']} faces"
        upper.set_title(f"{record['model']}, {about}", fontsize=9)
        lower.set_xlabel("passes m", fontsize=8)
        passes = {score["passes"] for score in record["scores"]} - {None}
        ticks_at(lower.xaxis, sorted(passes))
    first = panels[0, 0]
    first.set_ylabel("mean relative error of the distance", fontsize=8)
    panels[1, 0].set_ylabel("Spearman with the limit", fontsize=8)
    log_ticks(first.yaxis, PercentFormatter(1))
    first.lines[-1].set_label("error of the limit itself")
    figure.legend(
        *first.get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8
    )
    given = records[0]["conditions"]
    figure.supxlabel(
        f"Limit: {records[0]['reference_passes']} passes. {given['device_name']}, torch "
        f"{given['versions']['torch']}, commit {given['commit']}, {given['date'][:10]}",
        fontsize=7,
    )
    return figure


def _draw(axes: Axes, record: Record, quantity: str) -> None:
    for name, colour in _COLOURS.items():
        scores = [score for score in record["scores"] if score["estimator"] == name]
        style: dict[str, Any] = {"color": colour, "label": _LABELS[name], "linewidth": 1.5}
        if name == "closed-form":
            axes.axhline(scores[0][quantity], linestyle="--", **style)
        elif scores:
            values = [score[quantity] for score in scores]
            axes.plot([score["passes"] for score in scores], values, marker="o", **style)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=7)
