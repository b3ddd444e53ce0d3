"""How Q falls while pixels go in the order of a map: deletion, insertion, and the area between.

To insert the best pixels first is to remove the worst first, read from the end, so two curves say
it all: ``morf`` (most relevant first: the deletion game) and ``lerf`` (least relevant first: the
insertion game). Q is SER-FIQ's with one set of dropout masks, so it does not move along a curve.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.harness.figures import curve_panels
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.pages import by_method, comparisons
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.statistics import grouped, rounded
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.protocols.parts.rings import within_rings
from captum_plq import metrics

IMPUTERS = ("black", "mean", "blur", "road")
"""Black; the image's mean colour; a blur of σ = 5 px at 112 rows; ROAD's linear imputation."""


def imputer_of(name: str, height: int, seed: int = 0) -> metrics.Imputer:
    """Return one of :data:`IMPUTERS`, for 0–255 pixels and images of this height."""
    if name == "road":
        return metrics.road(seed=seed)
    if name == "blur":
        return metrics.blurred(5 * height / 112)
    return {"black": metrics.black, "mean": metrics.mean_colour}[name]


def both_orders(
    curve: Callable[..., metrics.Curve],
    maps: Tensor,
    imputer: str,
    *,
    steps: int,
    rows: int,
    seed: int,
) -> metrics.Curve:
    """Return a curve along maps (B, H, W), worst first and best first: values (B, 2, steps + 1).

    Args:

        curve (Callable): A curve of the images that the maps are of, but for its options.
        maps (Tensor): (B, H, W).
        imputer (str): Of :data:`IMPUTERS`.
        steps (int): In how many equal steps all pixels go.
        rows (int): Images at a time.
        seed (int): Of ties, and of the imputer.
    """
    given = {"steps": steps, "rows": rows, "tie_seed": seed}
    impute = imputer_of(imputer, maps.shape[-2], seed)
    found = [curve(score_map=maps, order=order, impute=impute, **given)
             for order in ("lowest-first", "highest-first")]  # fmt: skip
    return metrics.Curve(found[0].fractions, torch.stack([one.values for one in found], 1))


@dataclass(frozen=True, kw_only=True)
class Curves(MapStudy):
    """Perturbation curves on Q.

    Pixels go in the order of a map, and Q is measured on what is left. Means over faces; in
    brackets 95 % bootstrap intervals over faces. On clean faces this asks which pixels are
    *important*; which are *defects* is asked by random masks and inpainting, and one map may not
    win both.

    Inserting the best pixels first is removing the worst first, backwards, so `morf` is also the
    deletion area and `lerf` the insertion area. Neither says anything alone: both depend on what
    removed pixels become. A map of a network with random weights is measured on that network, and
    its areas compare with nothing but its own `srg` with 0.

    Columns:

        srg: area of lerf − area of morf: 0 for chance, under any imputation; what knows only where
            faces are, a Gaussian in the centre, has much of it
        srg_rings: the same, pixels ordered by their rank among those at the same distance from the
            centre, so that the same share of each ring goes in each step: what the map knows
            beyond that distance; the Gaussian has next to none
        morf: mean Q while the best pixels go first (deletion), low for a faithful map
        lerf: mean Q while the worst pixels go first (insertion), high for a faithful map

    Args:

        imputers (tuple[str, ...]): What removed pixels become.
        steps (int): In how many equal steps all pixels go.
    """

    name: ClassVar[str] = "curves"
    quick = MapStudy.quick | {"imputers": "mean,road", "steps": "5"}
    forms: ClassVar[dict[str, str]] = {
        "srg": "+.4f", "srg_rings": "+.4f", "morf": ".4f", "lerf": ".4f"
    }  # fmt: skip
    conditions: ClassVar[tuple[str, ...]] = ("imputer",)
    compared: ClassVar[tuple[str, ...]] = ("srg", "srg_rings")
    difference: ClassVar[str] = "+.4f"
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("SRG, mean", "area between removing worst first and best first; 0 is chance",
                 estimate_of("srg", "imputer=mean"), "+.3f"),
        Headline("SRG in rings, mean", "the same within rings of equal distance from the centre, "
                 "where knowing this distance is worth 0",
                 estimate_of("srg_rings", "imputer=mean"), "+.3f"),
        Headline("SRG, ROAD", "SRG with ROAD's imputation",
                 estimate_of("srg", "imputer=road"), "+.3f"),
    )  # fmt: skip

    imputers: Annotated[tuple[str, ...], some_of(IMPUTERS)] = ("mean", "road")
    steps: PositiveInt = 10

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, imputer and method."""
        rows: list[Row] = []
        given = {"steps": self.steps, "rows": context.subject.rows, "seed": self.seed}
        for method, maps in context.maps(images).items():
            quality = context.network_for(method).quality
            curve = partial(metrics.perturbation_curve, quality, images)
            rings = within_rings(maps)
            for imputer in self.imputers:
                both = both_orders(curve, maps, imputer, **given)
                lerf, morf = metrics.area_under_curve(both).double().T
                ringed = both_orders(curve, rings, imputer, **given)
                worst, best = metrics.area_under_curve(ringed).double().T
                numbers = {"srg": lerf - morf, "srg_rings": worst - best}
                numbers |= {"morf": morf, "lerf": lerf}
                numbers["curves"] = rounded(both.values.flip(1).tolist())
                rows += rows_of(names, numbers, method=method, imputer=imputer)
        return rows

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add the mean curves: imputer → method → ``[morf, lerf]``, Q at each step."""
        means = {
            imputer: {m: np.mean([row["curves"] for row in own], axis=0) for m, own in of.items()}
            for imputer, of in grouped(study.rows, "imputer", "method").items()
        }
        return super().summary(study, context) | {"curves": rounded(means)}

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return one table of all imputers."""
        shown = [
            replace(x, head=f"{x.metric}, {imputer}", bounds=x.metric in cls.compared)
            for imputer in record["settings"]["imputers"]
            for x in cls.shown(f"imputer={imputer}")
        ]
        return [*by_method(record, shown), *comparisons(record, cls.difference)]

    @classmethod
    def figures(cls, records: Sequence[Record]) -> dict[str, Figure]:
        """Return Q along the mean curves."""
        figure = curve_panels(records, lambda _, own: own, lambda _: "Q", width=5.2, unit="faces")
        return {cls.name: figure}
