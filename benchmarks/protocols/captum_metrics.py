"""Captum's own metrics of every map: infidelity, maximum sensitivity; and how sparse it is.

Infidelity is of signed attributions, so only methods that have such take part: a relative or a
pooled map is a comparison and says nothing of directions. It is given as a share of what an
attribution that is zero everywhere gets, which has no unit and can be read: 1 explains nothing.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from captum import attr
from torch import Tensor

from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.subjects.attributions import METHODS as ATTRIBUTIONS
from benchmarks.subjects.methods import Attribute, Build, Method, trained_name
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import metrics
from captum_plq.metrics.captum_own import Perturbation
from captum_plq.network.output import select_embedding

PERTURBATIONS: dict[str, Perturbation] = {
    "noise": metrics.GaussianNoise(0.02),
    "square": metrics.RemovedSquare(0.25),
}
"""What changes an image for infidelity: noise of 2 % of its range; a square, a quarter of the
side, filled with its mean colour."""


def _sum_gradient(subject: ExplainedNetwork) -> Attribute:
    method = attr.Saliency(lambda x: select_embedding(subject.model(x)).flatten(1).sum(1))
    return lambda images: method.attribute(images, abs=False).detach()


def _noise(subject: ExplainedNetwork) -> Attribute:
    def draw(image: Tensor) -> Tensor:
        seed = subject.seed + zlib.crc32(image.detach().cpu().numpy().tobytes())
        return torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))

    return lambda images: torch.stack([draw(image) for image in images]).to(images)


_TIMES_PIXEL = ("input-x-gradient", "integrated-gradients", "gradient-shap")
"""Methods whose attributions hold the pixel as a factor, Captum's ``multiplies_by_inputs``."""

SIGNED: dict[str, Build] = {
    "plq": ATTRIBUTIONS["plq"].build,
    "plq-serfiq": ATTRIBUTIONS["plq-serfiq-target"].build,
    "saliency-sum": _sum_gradient,
    **{
        name: ATTRIBUTIONS[name].build
        for name in ("saliency", "guided-backprop", "smoothgrad", *_TIMES_PIXEL)
    },
    "random": _noise,
}
"""The maps that have signed attributions behind them, by the name of the map."""


@dataclass(frozen=True, kw_only=True)
class CaptumMetrics(MapStudy):
    """Captum's own metrics.

    Means over faces; in brackets 95 % bootstrap intervals over faces. A map on random weights is
    measured on that network. Sensitivity and sparseness do not depend on what an image is changed
    to for infidelity, and stand in the first table only.

    Columns:

        infidelity_node: infidelity on the quality node M_Q, the image's own, as a share of that of
            an attribution of zero: 0 predicts every change, 1 none
        infidelity_serfiq: the same on the SER-FIQ score Q
        sensitivity: greatest change of the map among draws of slight noise, relative to its length
        gini: Gini index of the map: 0 all pixels alike, near 1 few of them hold all
        complexity: entropy of the map's shares, in nats

    Args:

        perturbations (tuple[str, ...]): What changes an image for infidelity.
        samples (int): Perturbations of each image, for infidelity.
        draws (int): Of slight noise, for sensitivity.
    """

    name: ClassVar[str] = "captum"
    quick = MapStudy.quick | {"samples": "10", "draws": "3"}
    conditions: ClassVar[tuple[str, ...]] = ("perturbation",)
    compared: ClassVar[tuple[str, ...]] = ("infidelity_node", "infidelity_serfiq", "sensitivity")
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("sensitivity", "Captum's max-sensitivity: how far a map may move under small "
                 "noise", estimate_of("sensitivity"), ".2f", "lower"),
        Headline("infidelity", "of the gradient against a square put on the image, normalised; 1 "
                 "is that of a map of zeros",
                 estimate_of("infidelity_node", "perturbation=square"), ".3f", "lower"),
    )  # fmt: skip
    radius: ClassVar[float] = 0.02
    """Of the draws of noise, as a share of each image's range."""

    perturbations: Annotated[tuple[str, ...], some_of(PERTURBATIONS)] = ("noise", "square")
    samples: PositiveInt = 30
    draws: PositiveInt = 5

    def settings(self) -> dict[str, Any]:
        """Return the options and the radius."""
        return super().settings() | {"radius": self.radius}

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add the groups that have a table each."""
        groups = [f"perturbation={name}" for name in self.perturbations]
        return super().summary(study, context) | {"groups": groups}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face and method, and one more for each further perturbation."""
        rows: list[Row] = []
        methods = {method.name: method for method in context.methods}
        nothing: dict[tuple[int, str, str], Tensor] = {}
        for name, maps in context.maps(images).items():
            parts = context.positive(name, maps).split(1)
            lit = [one if bool(one.any()) else None for one in parts]
            once: dict[str, Any] = {
                "sensitivity": self._sensitivity(context, methods[name], images),
                "gini": [None if one is None else float(metrics.gini_index(one)) for one in lit],
                "complexity": [
                    None if one is None else float(metrics.complexity(one)) for one in lit
                ],
            }
            for turn, perturbation in enumerate(self.perturbations):
                numbers = self._infidelities(
                    name, context.network_for(name), images, perturbation, nothing
                )
                numbers |= once if turn == 0 else {}
                rows += rows_of(names, numbers, method=name, perturbation=perturbation)
        return rows

    def _sensitivity(self, context: StudyContext, method: Method, images: Tensor) -> Tensor:
        with warnings.catch_warnings():  # Captum tells that it asks the images for gradients
            warnings.simplefilter("ignore")
            return metrics.sensitivity_max(
                context.explain(method),
                images,
                radius=self.radius,
                samples=self.draws,
                rows=context.subject.rows,
                seed=self.seed,
            )

    def _infidelities(
        self,
        name: str,
        subject: ExplainedNetwork,
        images: Tensor,
        perturbation: str,
        nothing: dict[tuple[int, str, str], Tensor],
    ) -> dict[str, list[float | None]]:
        """Shares by target, if there are signed attributions; ``nothing`` keeps what zero gets."""
        name, _ = trained_name(name)
        if name not in SIGNED:
            return {}
        node = subject.node(images)
        with warnings.catch_warnings():  # as above
            warnings.simplefilter("ignore")
            attributions = SIGNED[name](subject)(images)
        found: dict[str, list[float | None]] = {}
        for target, score in (
            ("node", partial(metrics.infidelity, subject.quality_model, node=node)),
            ("serfiq", partial(metrics.infidelity, subject.serfiq(), node=None)),
        ):
            score = partial(
                score,
                images,
                perturbation=PERTURBATIONS[perturbation],
                samples=self.samples,
                rows=subject.rows,
                seed=self.seed,
            )
            key = (id(subject), target, perturbation)
            if key not in nothing:
                nothing[key] = score(torch.zeros_like(images), multiplies_by_inputs=False)
            own = score(attributions, multiplies_by_inputs=name in _TIMES_PIXEL)
            shares = zip(own.double().tolist(), nothing[key].double().tolist(), strict=True)
            found[f"infidelity_{target}"] = [mine / x if x > 0 else None for mine, x in shares]
        return found
