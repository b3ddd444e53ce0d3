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
from typing import Any

import torch
from captum import attr
from torch import Tensor

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
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

__all__ = ["METRICS", "PERTURBATIONS", "SIGNED", "CaptumMetrics", "Signed"]

METRICS = {
    "infidelity_node": "infidelity on the quality node M_Q, the image's own, as a share of that of "
    "an attribution of zero: 0 predicts every change, 1 none",
    "infidelity_serfiq": "the same on the SER-FIQ score Q",
    "sensitivity": "greatest change of the map among draws of slight noise, relative to its length",
    "gini": "Gini index of the map: 0 all pixels alike, near 1 few of them hold all",
    "complexity": "entropy of the map's shares, in nats",
}
"""What each number of a row is. The last two say how a map looks, not whether it is right."""

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


@dataclass(frozen=True)
class CaptumMetrics:
    """The protocol.

    Args:

        perturbations (tuple[str, ...]): Of :data:`PERTURBATIONS`.
        samples (int): Perturbations of each image, for infidelity.
        draws (int): For sensitivity.
        radius (float): Of these, as a share of each image's range.
        seed (int): Of both.
    """

    perturbations: tuple[str, ...] = ("noise", "square")
    samples: int = 30
    draws: int = 5
    radius: float = 0.02
    seed: int = 0
    name: str = "captum"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.perturbations) - set(PERTURBATIONS))
        if unknown or not self.perturbations:
            raise ValueError(f"Unknown perturbations {unknown}; there are {list(PERTURBATIONS)}.")
        if self.samples < 1 or self.draws < 1 or not self.radius > 0:
            raise ValueError(
                "samples and draws must be at least 1 and radius above 0, but got "
                f"{self.samples}, {self.draws} and {self.radius}."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON."""
        fields = ("perturbations", "samples", "draws", "radius", "seed")
        return {name: getattr(self, name) for name in fields}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face and method, and one more for each further perturbation."""
        rows: list[Row] = []
        methods = {method.name: method for method in context.methods}
        nothing: dict[tuple[int, str, str], Tensor] = {}
        for name, maps in context.maps(images).items():
            subject = context.network_for(methods[name])
            steady: list[float | None] = list(self._sensitivity(context, methods[name], images))
            gini, spread = _sparseness(maps)
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


def _sparseness(maps: Tensor) -> tuple[list[float | None], list[float | None]]:
    """Gini index and complexity; none of a map that is zero everywhere."""
    gini: list[float | None] = [None] * len(maps)
    spread: list[float | None] = [None] * len(maps)
    for i, one in enumerate(maps.split(1)):
        if bool(one.any()):
            gini[i], spread[i] = float(gini_index(one)), float(complexity(one))
    return gini, spread
