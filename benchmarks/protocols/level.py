"""Does the mean of a map rank images as Q does? Places of one image are another question.

A gradient is sensitivity, which rises where contrast falls: its map can be right within an image
and say of a blurred image that it is the better one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.options import PositiveInt
from benchmarks.harness.pages import Shown, by_method
from benchmarks.harness.protocol import Headline, Record
from benchmarks.harness.statistics import ALL, by_network, over_networks, rounded
from benchmarks.harness.study import MapStudy, Row, Study, StudyContext, estimate_of, rows_of
from benchmarks.subjects.faces import as_chip, as_image
from benchmarks.subjects.methods import Method, control, null_name
from captum_plq.faces import STANDARD_DEGRADATIONS
from captum_plq.faces.disturb.degrade import Degradation
from captum_plq.faces.disturb.standards import change_exposure

CLEAN = "clean"
DEGRADATIONS: dict[str, Degradation] = {
    **STANDARD_DEGRADATIONS,
    "dark, -4 stops": lambda chip, _: change_exposure(chip, -4),
}
"""What is done to each face."""

Values = NDArray[np.float64]

_QUALITY = "Q"
_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Level(MapStudy):
    """Level.

    Does a map's mean over the image rank images as Q does? Each face is taken as it is, with each
    of the standard degradations, and in the dark: four stops less light, a pixel of 128 becomes 31.
    In brackets 95 % bootstrap intervals over faces; the first column is the mean over
    degradations. The row *Q* is SER-FIQ's quality itself. Maps on random weights are held against
    the trained network's Q, too.

    A map may be right within an image and wrong between images; these tables show only the latter.
    Maps are without α and r: Eq. 2 would multiply the whole map of the paper by the image's Q̂.

    Columns:

        auroc: probability that a clean face has a higher mean than a degraded one, over all pairs
            of both; ½ is chance
        falls: share of faces whose own mean falls when they are degraded; ties count half
        spearman: rank correlation of the mean with Q, over clean and degraded faces together
    """

    name: ClassVar[str] = "level"
    quick = MapStudy.quick | {"random-networks": "2"}
    conditions: ClassVar[tuple[str, ...]] = ("condition",)
    controls: ClassVar[tuple[Method, ...]] = (
        control(_QUALITY, "SER-FIQ's quality of the network"),
        control(null_name(_QUALITY), "SER-FIQ's quality of the untrained network"),
    )
    headlines: ClassVar[tuple[Headline, ...]] = (
        Headline("level, AUROC", "of the map's mean, for clean faces against degraded ones; mean "
                 "over six degradations; ½ is chance", estimate_of("auroc"), ".2f", first=True),
        Headline("level, Spearman", "of the map's mean with Q, over clean and degraded faces",
                 estimate_of("spearman"), ".2f", first=True),
    )  # fmt: skip

    random_networks: PositiveInt = 3

    def settings(self) -> dict[str, Any]:
        """Return the options and the degradations."""
        return super().settings() | {"degradations": list(DEGRADATIONS)}

    def rows(self, context: StudyContext, images: Tensor, names: Sequence[str]) -> list[Row]:
        """Return one row per face, condition and method, of Q too."""
        rows: list[Row] = []
        clean: dict[str, Tensor] = {}
        for condition in (CLEAN, *DEGRADATIONS):
            given = images if condition == CLEAN else self._degraded(images, names, condition)
            maps = context.maps(given)
            quality = context.subject.quality(given)
            levels = {_QUALITY: quality}
            levels |= {name: own.double().mean((1, 2)) for name, own in maps.items()}
            for number in context.nulls:
                untrained = context.subject.untrained(number)
                levels[null_name(_QUALITY, number)] = untrained.quality(given)
            for name, level in levels.items():
                numbers = {"level": level, "quality": quality}
                if condition == CLEAN:
                    clean[name] = level
                elif name in clean:
                    numbers["falls"] = ((clean[name] - level).sign() + 1) / 2
                rows += rows_of(names, numbers, method=name, condition=condition)
        return rows

    def _degraded(self, images: Tensor, names: Sequence[str], condition: str) -> Tensor:
        degrade = DEGRADATIONS[condition]
        seeds = [self.seed + zlib.crc32(name.encode()) for name in names]
        chips = (degrade(as_chip(x), seed) for x, seed in zip(images, seeds, strict=True))
        return torch.stack([as_image(chip, images) for chip in chips])

    def summary(self, study: Study, context: StudyContext) -> Record:
        """Add what is of all faces together."""
        found = super().summary(study, context)
        rows: dict[str, list[Row]] = {}
        for row in study.rows:
            rows.setdefault(row["method"], []).append(row)
        for method, of_method in rows.items():
            networks = [
                ranked(_by_condition(own, "level"), _by_condition(own, "quality"), seed=self.seed)
                for own in by_network(of_method)
            ]
            for metric in networks[0]:
                shared = [
                    key for key in networks[0][metric] if all(key in x[metric] for x in networks)
                ]
                cells = {key: over_networks([x[metric][key] for x in networks]) for key in shared}
                if cells:
                    found["estimates"][metric][method] = rounded(cells)
        return found

    @classmethod
    def tables(cls, record: Record) -> list[str]:
        """Return a table of AUROC by degradation, with the correlation, and one of falls."""
        lines: list[str] = []
        for title, metric in (("AUROC, clean against degraded", "auroc"),
                              ("Share of faces whose mean falls", "falls")):  # fmt: skip
            shown = [Shown("all" if metric == "falls" else "mean", metric, form=".2f")]
            shown += [
                Shown(name, metric, f"condition={name}", ".2f")
                for name in record["settings"]["degradations"]
            ]
            if metric == "auroc":
                shown.append(Shown("Spearman with Q", "spearman", form=".2f"))
                shown.append(Shown("clean only", "spearman", f"condition={CLEAN}", ".2f"))
            lines += [f"### {title}", "", *by_method(record, shown, nulls_beside=True)]
        return lines


def ranked(
    levels: Mapping[str, Values], qualities: Mapping[str, Values], *, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return how numbers of images rank clean ones above degraded ones, and images as Q does.

    Args:

        levels (mapping): Condition, :data:`CLEAN` first → (n,) one number per person, the same
            people in the same order in all conditions.
        qualities (mapping): Likewise, Q.
        seed (int): Of the bootstrap over people, all images of a person staying together.

    Returns:
        *dict*: ``"auroc"`` → ``"all"``, the mean over degradations, and ``"condition=…"``, and
        ``"spearman"`` → ``"all"`` and ``"condition=clean"`` → ``"mean"``, the value, with ``"low"``
        and ``"high"`` of its 95 % percentile interval (``None`` for one person), and numbers of
        ``"images"``, i.e. people, and ``"rows"``. A correlation that does not exist, as all
        numbers are equal, is left out.
    """
    degraded = [name for name in levels if name != CLEAN]
    n = len(levels[CLEAN])
    drawn = np.random.default_rng(seed).integers(n, size=(_RESAMPLES if n > 1 else 0, n))
    samples = np.concatenate([np.arange(n)[None], drawn])
    counts = np.stack([np.bincount(sample, minlength=n) for sample in samples]).astype(np.float64)
    areas = {
        name: np.einsum("si,ij,sj->s", counts, _wins(levels[CLEAN], levels[name]), counts,
                        optimize=True) / n**2
        for name in degraded
    }  # fmt: skip
    auroc = {ALL: np.mean([*areas.values()], axis=0)}
    auroc |= {f"condition={name}": own for name, own in areas.items()}
    of_all = _correlations(
        np.stack([*levels.values()]), np.stack([qualities[name] for name in levels]), samples
    )
    of_clean = _correlations(levels[CLEAN][None], qualities[CLEAN][None], samples)
    correlation = {ALL: of_all, f"condition={CLEAN}": of_clean}
    return {
        "auroc": {
            group: _cell(own, n, n * (1 + (len(degraded) if group == ALL else 1)))
            for group, own in auroc.items()
        },
        "spearman": {
            group: _cell(own, n, n * (len(levels) if group == ALL else 1))
            for group, own in correlation.items()
            if np.isfinite(own[0])
        },
    }


def _wins(clean: Values, degraded: Values) -> Values:
    """(n, n): 1 where the clean number is higher, ½ where both are equal."""
    return (np.sign(clean[:, None] - degraded) + 1) / 2


def _correlations(levels: Values, qualities: Values, samples: NDArray[np.int64]) -> Values:
    """Spearman of (conditions, n) numbers with Q for each sample of people; NaN: none exists."""
    from scipy.stats import rankdata

    correlations = []
    for people in samples:
        x, y = (rankdata(values[:, people].ravel()) for values in (levels, qualities))
        x, y = x - x.mean(), y - y.mean()
        length = np.sqrt((x @ x) * (y @ y))
        correlations.append(x @ y / length if length > 0 else np.nan)
    return np.array(correlations)


def _cell(values: Values, people: int, rows: int) -> dict[str, Any]:
    """The value of the sample, and the interval of those resamples in which it exists."""
    resampled = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(resampled, [2.5, 97.5]).tolist() if len(resampled) else (None, None)
    return {"mean": float(values[0]), "low": low, "high": high, "images": people, "rows": rows}


def _by_condition(rows: Sequence[Row], key: str) -> dict[str, Values]:
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["condition"], []).append(row[key])
    return {condition: np.array(own, dtype=np.float64) for condition, own in found.items()}
