"""How Q falls while pixels go in the order of a map: deletion, insertion, and the area between.

To insert the best pixels first is to remove the worst first, read from the end, so two curves say
it all: ``morf`` (most relevant first: the deletion game) and ``lerf`` (least relevant first: the
insertion game). Q is SER-FIQ's with one set of dropout masks, so it does not move along a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.figures import curve_panels
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.pages import Shown, by_method, comparisons
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.statistics import rounded
from benchmarks.harness.study import Column, MapStudy, Row, Study, StudyContext, estimate_of
from captum_plq.metrics import (
    Imputer,
    area_under_curve,
    black,
    blurred,
    mean_colour,
    perturbation_curve,
    road,
)

__all__ = ["IMPUTERS", "Curves", "imputer_of"]

IMPUTERS = ("black", "mean", "blur", "road")
"""Black; the image's mean colour; a blur of σ = 5 px at 112 rows; ROAD's linear imputation."""


def imputer_of(name: str, height: int, seed: int = 0) -> Imputer:
    """Return one of :data:`IMPUTERS`, for 0–255 pixels and images of this height."""
    if name == "road":
        return road(seed=seed)
    if name == "blur":
        return blurred(5 * height / 112)
    return {"black": black, "mean": mean_colour}[name]


@dataclass(frozen=True, kw_only=True)
class Curves(MapStudy):
    """Perturbation curves on Q.

    Pixels go in the order of a map, and Q is measured on what is left. Means over faces; in
    brackets 95 % bootstrap intervals over faces.

    Inserting the best pixels first is removing the worst first, backwards, so `morf` is also the
    deletion area and `lerf` the insertion area. Neither says anything alone: both depend on what
    removed pixels become. A map of a network with random weights is measured on that network, and
    its areas compare with nothing but its own `srg` with 0.

    Columns:

        srg: area of lerf − area of morf: 0 for chance, under any imputation
        morf: mean Q while the best pixels go first (deletion), low for a faithful map
        lerf: mean Q while the worst pixels go first (insertion), high for a faithful map

    Args:

        imputers (tuple[str, ...]): What removed pixels become.
        steps (int): In how many equal steps all pixels go.
    """

    name: ClassVar[str] = "curves"
    quick: ClassVar[dict[str, str]] = MapStudy.quick | {"imputers": "mean,road", "steps": "5"}
    columns: ClassVar[tuple[Column, ...]] = (
        Column("srg", "+.4f"),
        Column("morf", ".4f"),
        Column("lerf", ".4f"),
    )
    conditions: ClassVar[tuple[str, ...]] = ("imputer",)
    compared: ClassVar[tuple[str, ...]] = ("srg",)
    difference: ClassVar[str] = "+.4f"
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("SRG, mean", "area between removing worst first and best first; 0 is chance",
                 estimate_of("srg", "imputer=mean"), "+.3f"),
        Headline("SRG, ROAD", "the same with ROAD's imputation",
                 estimate_of("srg", "imputer=road"), "+.3f"),
    )  # fmt: skip

    imputers: Annotated[tuple[str, ...], some_of(IMPUTERS)] = ("mean", "road")
    steps: PositiveInt = 10

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, imputer and method."""
        rows: list[Row] = []
        for method, maps in context.maps(images).items():
            quality = context.network_for(method).quality
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
                    row: Row = {"image": name, "method": method, "imputer": imputer}
                    row |= {"srg": high - low, "morf": low, "lerf": high}
                    row["curves"] = rounded([x.values[i].tolist() for x in (morf, lerf)])
                    rows.append(row)
        return rows

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add the mean curves: imputer → method → ``[morf, lerf]``, Q at each step."""
        curves: dict[str, dict[str, list[Any]]] = {}
        for row in study.rows:
            of = curves.setdefault(row["imputer"], {})
            of.setdefault(row["method"], []).append(row["curves"])
        means = {k: {m: np.mean(x, axis=0).tolist() for m, x in of.items()} for k, of in
                 curves.items()}  # fmt: skip
        return super().summary(study, context) | {"curves": rounded(means)}

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return one table of all imputers."""
        shown = [
            Shown(f"{c.name}, {imputer}", c.name, f"imputer={imputer}", c.form, c.name == "srg")
            for imputer in record["settings"]["imputers"]
            for c in cls.columns
        ]
        return [*by_method(record, shown), *comparisons(record, cls.difference)]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return Q along the mean curves."""
        figure = curve_panels(records, lambda _, own: own, lambda _: "Q", width=5.2, unit="faces")
        return {cls.name: figure}
