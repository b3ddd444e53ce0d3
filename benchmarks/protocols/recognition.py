"""Recognition while pixels of the probe go in the order of a map (DEC and IEC).

After Huber et al., "On Evaluating Pixel-Level Face Image Quality Assessment", EUSIPCO 2022, in its
manner only: the full text was not at hand. The gallery image and the decision threshold stay as
they are. To insert the best pixels first into a blurred image is to remove the worst first and show
their blur, read from the end: the area of one is the area of the other, so the insertion curve is
``worst first`` under the fill ``blur``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness.old_context import StudyContext
from benchmarks.harness.old_study import Row
from benchmarks.protocols.curves import IMPUTERS, imputer_of
from benchmarks.subjects.methods import Attribute, Method
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.metrics import (
    Curve,
    Imputer,
    area_under_curve,
    fnmr,
    perturbation_curve,
    random_map,
    similarity_curve,
    threshold_at_fmr,
)
from captum_plq.metrics.perturbation import Order
from captum_plq.network.output import select_embedding

__all__ = [
    "METRICS",
    "RANDOM_ORDERS",
    "Recognition",
    "clean_threshold",
    "embed",
    "with_errors",
]

_ORDERS: tuple[Order, Order] = ("lowest-first", "highest-first")
METRICS = {
    "fnmr_gain": "false non-match rate, best first − worst first: 0 for chance, above 0 for a map "
    "whose high pixels serve recognition",
    "fnmr_worst_first": "mean false non-match rate while the worst pixels go first (DEC; under "
    "blur also IEC), low for a faithful map",
    "fnmr_best_first": "the same while the best go first, high for a faithful map",
    "similarity_gain": "cosine to the gallery image, worst first − best first: 0 for chance",
    "similarity_worst_first": "mean cosine while the worst pixels go first",
    "similarity_best_first": "mean cosine while the best pixels go first",
    "quality_gain": "Q, worst first − best first: 0 for chance",
}
"""What each number of a row is."""


def _no_map(subject: ExplainedNetwork) -> Attribute:
    raise ValueError("is an order and has no map")


RANDOM_ORDERS = Method("random orders", "control", _no_map, "mean of several random orders")
"""Described as the methods are; it explains nothing."""


class _Options(TypedDict):
    """What both curves are measured with."""

    impute: Imputer
    steps: int
    rows: int
    tie_seed: int


@dataclass(frozen=True)
class Recognition:
    """The protocol.

    Args:

        gallery (mapping): Probe → the image it is compared with, (3, H, W), 0–255.
        imputers (tuple[str, ...]): Of :data:`~benchmarks.protocols.curves.IMPUTERS`.
        steps (int): In how many equal steps all pixels go.
        orders (int): How many random orders the control is the mean of.
        seed (int): Of these, of ROAD's noise, and of the order of equal scores.
        matcher (nn.Module, optional): The network that recognises. ``None``: the one explained.
        matcher_name (str): Its name, for the settings.
    """

    gallery: Mapping[str, Tensor] = field(repr=False)
    imputers: tuple[str, ...] = IMPUTERS
    steps: int = 20
    orders: int = 10
    seed: int = 0
    matcher: nn.Module | None = field(default=None, repr=False)
    matcher_name: str = ""
    name: str = "recognition"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.orders < 1:
            raise ValueError(
                f"steps and orders must be at least 1, but got {(self.steps, self.orders)}."
            )

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON. The gallery is in the digest of the faces."""
        fields = ("imputers", "steps", "orders", "seed", "matcher_name")
        return {name: getattr(self, name) for name in fields}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per probe, imputer and method, and one for the random orders.

        A map of the network with random weights is judged by the trained one, as all are: it
        knows the image and the architecture, and nothing of faces.
        """
        recognise = context.model if self.matcher is None else self.matcher
        gallery = embed(recognise, torch.stack([self.gallery[name] for name in names]).to(images))
        measure = partial(self._measured, context, recognise, gallery, images)
        orders = [self._drawn(images, names, i) for i in range(self.orders)]
        explained = {method: [maps] for method, maps in context.maps(images).items()}
        rows: list[Row] = []
        for imputer in self.imputers:
            for method, maps in [*explained.items(), (RANDOM_ORDERS.name, orders)]:
                rows += _rows(names, method, imputer, [measure(own, imputer) for own in maps])
        return rows

    def _drawn(self, images: Tensor, names: Sequence[str], order: int) -> Tensor:
        height, width = images.shape[-2:]
        seeds = [zlib.crc32(f"{self.seed} {order} {name}".encode()) for name in names]
        return torch.stack([random_map(height, width, seed) for seed in seeds]).to(images)

    def _measured(
        self,
        context: StudyContext,
        recognise: nn.Module,
        gallery: Tensor,
        images: Tensor,
        maps: Tensor,
        imputer: str,
    ) -> dict[str, Tensor]:
        """``similarity`` and ``quality``, (B, 2, steps + 1): worst first, best first."""
        options = _Options(
            impute=imputer_of(imputer, images.shape[-2], self.seed),
            steps=self.steps,
            rows=context.subject.rows,
            tie_seed=self.seed,
        )
        similarity = [
            similarity_curve(
                lambda x: embed(recognise, x),
                images,
                gallery,
                maps,
                way="deletion",
                order=order,
                **options,
            )
            for order in _ORDERS
        ]
        quality = [
            perturbation_curve(context.subject.quality, images, maps, order=order, **options)
            for order in _ORDERS
        ]
        return {
            name: torch.stack([curve.values for curve in curves], 1).double().cpu()
            for name, curves in (("similarity", similarity), ("quality", quality))
        }


def embed(model: nn.Module, images: Tensor) -> Tensor:
    """Embeddings (B, d) of images (B, 3, H, W), without autograd."""
    with torch.no_grad():
        return select_embedding(model(images)).flatten(1)


def clean_threshold(probes: Tensor, gallery: Tensor, fmr: float = 1e-3) -> float:
    """The threshold for a false match rate, from each probe with each other one's gallery image.

    Args:

        probes (Tensor): (n, d), embeddings of different people.
        gallery (Tensor): (n, d), of the same people in the same order.
        fmr (float): In (0, 1).

    Raises:
        ValueError: if n (n − 1) pairs are too few for this rate.
    """
    cosine = F.normalize(probes.double(), dim=1) @ F.normalize(gallery.double(), dim=1).T
    apart = ~torch.eye(len(cosine), dtype=torch.bool, device=cosine.device)
    return threshold_at_fmr(cosine[apart], fmr)


def with_errors(rows: Sequence[Row], threshold: float | None) -> list[Row]:
    """Rows with the areas of :data:`METRICS`, false non-matches at a threshold included.

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
        similarity = torch.tensor(row["similarity"], dtype=torch.float64)
        errors = None if threshold is None else fnmr(similarity, threshold)
        new = {**row}
        for name, curves in (
            ("fnmr", errors),
            ("similarity", similarity.mean(0)),
            ("quality", torch.tensor(row["quality"], dtype=torch.float64)),
        ):
            new[name] = None if curves is None else curves.tolist()
            new |= _areas(name, curves)
        found.append(new)
    return found


def _areas(name: str, curves: Tensor | None) -> Row:
    """Areas of (2, steps + 1) and the gain: errors rise where the two others fall."""
    worst = best = gain = None
    if curves is not None:
        shares = torch.linspace(0, 1, curves.shape[1], dtype=curves.dtype)
        worst, best = area_under_curve(Curve(shares, curves)).tolist()
        gain = best - worst if name == "fnmr" else worst - best
    return {f"{name}_gain": gain, f"{name}_worst_first": worst, f"{name}_best_first": best}


def _rows(
    names: Sequence[str], method: str, imputer: str, found: Sequence[Mapping[str, Tensor]]
) -> list[Row]:
    """One row per probe: all cosines, since each is held against a threshold; of Q the mean.

    Args:

        names (sequence of str): Of the probes.
        method (str): By which pixels went.
        imputer (str): What they became.
        found (sequence of mapping): Of every order in which they went.
    """
    return [
        {
            "image": name,
            "method": method,
            "imputer": imputer,
            "similarity": [[_rounded(curve) for curve in own["similarity"][i]] for own in found],
            "quality": [
                _rounded(curve) for curve in torch.stack([x["quality"][i] for x in found]).mean(0)
            ],
        }
        for i, name in enumerate(names)
    ]


def _rounded(curve: Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in curve.tolist()]
