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
from typing import Annotated, Any, ClassVar

import torch
from captum import attr
from torch import Tensor

from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.study import Column, MapStudy, Row, Study, StudyContext, estimate_of
from benchmarks.subjects.attributions import METHODS as ATTRIBUTIONS
from benchmarks.subjects.methods import RANDOM_WEIGHTS, Attribute, Build, Method
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.metrics import (
    GaussianNoise,
    RemovedSquare,
    complexity,
    gini_index,
    infidelity,
    sensitivity_max,
)
from captum_plq.metrics.captum_own import Perturbation
from captum_plq.network.output import select_embedding

__all__ = ["PERTURBATIONS", "SIGNED", "CaptumMetrics", "Signed"]

PERTURBATIONS: dict[str, Perturbation] = {
    "noise": GaussianNoise(0.02),
    "square": RemovedSquare(0.25),
}
"""What changes an image for infidelity: noise of 2 % of its range; a square, a quarter of the
side, filled with its mean colour."""


@dataclass(frozen=True)
class Signed:
    """Signed attributions of a method.

    Args:

        build (Callable): Prepares the method for a network.
        multiplies_by_inputs (bool): As in Captum: whether they hold the pixel as a factor.
    """

    build: Build
    multiplies_by_inputs: bool = False


def _sum_gradient(subject: ExplainedNetwork) -> Attribute:
    method = attr.Saliency(lambda x: select_embedding(subject.model(x)).flatten(1).sum(1))
    return lambda images: method.attribute(images, abs=False).detach()


def _noise(subject: ExplainedNetwork) -> Attribute:
    def draw(image: Tensor) -> Tensor:
        seed = subject.seed + zlib.crc32(image.detach().cpu().numpy().tobytes())
        return torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))

    return lambda images: torch.stack([draw(image) for image in images]).to(images)


SIGNED: dict[str, Signed] = {
    "plq": Signed(ATTRIBUTIONS["plq"].build),
    "plq-serfiq": Signed(ATTRIBUTIONS["plq-serfiq-target"].build),
    "saliency-sum": Signed(_sum_gradient),
    "saliency": Signed(ATTRIBUTIONS["saliency"].build),
    "input-x-gradient": Signed(ATTRIBUTIONS["input-x-gradient"].build, True),
    "guided-backprop": Signed(ATTRIBUTIONS["guided-backprop"].build),
    "smoothgrad": Signed(ATTRIBUTIONS["smoothgrad"].build),
    "integrated-gradients": Signed(ATTRIBUTIONS["integrated-gradients"].build, True),
    "gradient-shap": Signed(ATTRIBUTIONS["gradient-shap"].build, True),
    "random": Signed(_noise),
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
    quick: ClassVar[dict[str, str]] = MapStudy.quick | {"samples": "10", "draws": "3"}
    columns: ClassVar[tuple[Column, ...]] = (
        Column("infidelity_node"),
        Column("infidelity_serfiq"),
        Column("sensitivity"),
        Column("gini"),
        Column("complexity"),
    )
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
            subject = context.network_for(name)
            steady: list[float | None] = list(self._sensitivity(context, methods[name], images))
            lit = [one if bool(one.any()) else None for one in maps.split(1)]
            gini = [None if one is None else float(gini_index(one)) for one in lit]
            spread = [None if one is None else float(complexity(one)) for one in lit]
            signed = SIGNED.get(name.removesuffix(RANDOM_WEIGHTS))
            for turn, perturbation in enumerate(self.perturbations):
                shares = self._infidelities(signed, subject, images, perturbation, nothing)
                once = {"sensitivity": steady, "gini": gini, "complexity": spread}
                for i, image in enumerate(names):
                    row: Row = {"image": image, "method": name, "perturbation": perturbation}
                    row |= {f"infidelity_{key}": values[i] for key, values in shares.items()}
                    row |= {key: values[i] for key, values in once.items() if turn == 0}
                    rows.append(row)
        return rows

    def _sensitivity(self, context: StudyContext, method: Method, images: Tensor) -> list[float]:
        with warnings.catch_warnings():  # Captum tells that it asks the images for gradients
            warnings.simplefilter("ignore")
            found: list[float] = sensitivity_max(
                context.explain(method),
                images,
                radius=self.radius,
                samples=self.draws,
                rows=context.subject.rows,
                seed=self.seed,
            ).tolist()
        return found

    def _infidelities(
        self,
        signed: Signed | None,
        subject: ExplainedNetwork,
        images: Tensor,
        perturbation: str,
        nothing: dict[tuple[int, str, str], Tensor],
    ) -> dict[str, list[float | None]]:
        """Shares by target, if there are signed attributions; ``nothing`` keeps what zero gets."""
        if signed is None:
            return {}
        node = subject.node(images)
        with warnings.catch_warnings():  # as above
            warnings.simplefilter("ignore")
            attributions = signed.build(subject)(images)
        found: dict[str, list[float | None]] = {}
        for target, f, weights in (
            ("node", subject.quality_model, node),
            ("serfiq", subject.serfiq(), None),
        ):

            def score(given: Tensor, multiplies: bool, f: Any = f, node: Any = weights) -> Tensor:
                return infidelity(
                    f,
                    images,
                    given,
                    node=node,
                    perturbation=PERTURBATIONS[perturbation],
                    multiplies_by_inputs=multiplies,
                    samples=self.samples,
                    rows=subject.rows,
                    seed=self.seed,
                ).double()

            key = (id(subject), target, perturbation)
            if key not in nothing:
                nothing[key] = score(torch.zeros_like(images), False)
            own = score(attributions, signed.multiplies_by_inputs)
            found[target] = [
                mine / whole if whole > 0 else None
                for mine, whole in zip(own.tolist(), nothing[key].tolist(), strict=True)
            ]
        return found
