"""How Q falls while pixels go in the order of a map: deletion, insertion, and the area between.

To insert the best pixels first is to remove the worst first, read from the end, so two curves say
it all: ``morf`` (most relevant first: the deletion game) and ``lerf`` (least relevant first: the
insertion game). Q is SER-FIQ's with one set of dropout masks, so it does not move along a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.harness.context import StudyContext
from benchmarks.harness.study import Row
from captum_plq.metrics import (
    Imputer,
    area_under_curve,
    black,
    blurred,
    mean_colour,
    perturbation_curve,
    road,
)

__all__ = ["IMPUTERS", "METRICS", "Curves", "imputer_of", "require_imputers"]

METRICS = {
    "srg": "area of lerf − area of morf: 0 for chance, under any imputation",
    "morf": "mean Q while the best pixels go first (deletion), low for a faithful map",
    "lerf": "mean Q while the worst pixels go first (insertion), high for a faithful map",
}
"""What each number of a row is."""


IMPUTERS = ("black", "mean", "blur", "road")
"""Black; the image's mean colour; a blur of σ = 5 px at 112 rows; ROAD's linear imputation."""


def imputer_of(name: str, height: int, seed: int = 0) -> Imputer:
    """One of :data:`IMPUTERS`, for 0–255 pixels and images of this height."""
    if name == "road":
        return road(seed=seed)
    if name == "blur":
        return blurred(5 * height / 112)
    return {"black": black, "mean": mean_colour}[name]


def require_imputers(names: Sequence[str]) -> None:
    """Raises ValueError unless these are some of :data:`IMPUTERS`."""
    unknown = sorted(set(names) - set(IMPUTERS))
    if unknown or not names:
        raise ValueError(f"Unknown imputers {unknown}; there are {', '.join(IMPUTERS)}.")


@dataclass(frozen=True)
class Curves:
    """The protocol.

    Args:

        imputers (tuple[str, ...]): Of :data:`IMPUTERS`.
        steps (int): In how many equal steps all pixels go.
        seed (int): Of ROAD's noise, and of the order of equal scores.
    """

    imputers: tuple[str, ...] = ("mean", "road")
    steps: int = 10
    seed: int = 0
    name: str = "curves"

    def __post_init__(self) -> None:
        require_imputers(self.imputers)
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, but got {self.steps}.")

    @property
    def settings(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {name: getattr(self, name) for name in ("imputers", "steps", "seed")}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """One row per face, imputer and method."""
        rows: list[Row] = []
        methods = {method.name: method for method in context.methods}
        for method, maps in context.maps(images).items():
            quality = context.network_for(methods[method]).quality
            for imputer in self.imputers:
                impute = imputer_of(imputer, images.shape[-2], self.seed)
                lerf, morf = (
                    perturbation_curve(
                        quality,
                        images,
                        maps,
                        order=order,
                        impute=impute,
                        steps=self.steps,
                        rows=context.subject.rows,
                        tie_seed=self.seed,
                    )
                    for order in ("lowest-first", "highest-first")
                )
                areas = area_under_curve(lerf).tolist(), area_under_curve(morf).tolist()
                for i, (name, high, low) in enumerate(zip(names, *areas, strict=True)):
                    rows.append(
                        {
                            "image": name,
                            "method": method,
                            "imputer": imputer,
                            "srg": high - low,
                            "morf": low,
                            "lerf": high,
                            "curves": [
                                [float(f"{q:.5g}") for q in curve.values[i].tolist()]
                                for curve in (morf, lerf)
                            ],
                        }
                    )
        return rows
