"""Whether feedback names the right cause, and whether it takes a map to do so."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.harness.options import PositiveInt
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.harness.statistics import rounded
from benchmarks.protocols.parts.drawn_causes import CAUSES, draw_cause
from benchmarks.protocols.parts.feedback_tables import (
    EIGENFACES,
    MAP,
    RANDOM,
    WHOLE,
    feedback_tables,
)
from benchmarks.protocols.parts.photo_time import seconds_a_photo
from benchmarks.protocols.parts.region_evidence import (
    MapEvidence,
    RegionEvidence,
    of_eigenfaces,
)
from benchmarks.protocols.parts.rule_scores import NOTHING, fitted, named_causes, scores
from benchmarks.subjects.faces import as_images, spec_landmarks, usable_chips
from benchmarks.subjects.pairs import people_of_folds
from captum_plq._base.whole_file import whole_file
from captum_plq.calibration.settings import network_digest
from captum_plq.explanation import matching_calibration
from captum_plq.feedback import RULES, Rule, measure_image, quantities
from captum_plq.functional import scale_quality
from captum_plq.metrics import with_random_weights
from captum_plq.models import FaceModel, load_model

_BATCH = 32
_ASKED = sorted({one.quantity for rule in RULES for one in rule.when})

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class FeedbackCauses(Protocol):
    """Feedback.

    Is the right cause named? One face of each person is taken as it is and with each of eight
    things wrong, drawn in varied ways: colour, height, side, strength, and landmarks that are off
    by 1.5 px. The cause that feedback names first is compared with what was drawn. Limits are set
    on the people of one fold, and measured on those of another. Intervals (95 %) are over people.

    Beside the rules with local quality stand the same rules without regions; with local quality of
    the network with random weights; and with the distance from eigenfaces, which asks no network.
    "limits set for it": the limits on regions are set anew for that evidence, on the same people
    as the others, so that none is judged by limits of another. The majority class names one cause
    for all.

    What the columns cannot say: things were drawn and not worn, so this is easier than life. A low
    resolution is known from the distance between the eyes in the photo alone; of a crop that was
    enlarged before, it is told as blur.

    Args:

        images (Path): Folder laid out like LFW.
        pairs (Path): CSV: fold, first, second, mated; tells the people of each fold.
        set_on (str): Fold on whose people limits are set.
        report_on (str): Fold on whose people is reported.
        faces (int): People that is reported on, at most.
        set_faces (int): People that limits are set on, at most.
        reference (int): People of the other folds that evidence is standardised on, where the
            calibration of the network does not say what good faces lose.
        random_networks (int): How many networks with random weights.
    """

    name: ClassVar[str] = "feedback"

    images: Path
    pairs: Path
    set_on: str = "4"
    report_on: str = "5"
    faces: PositiveInt = 250
    set_faces: PositiveInt = 120
    reference: PositiveInt = 150
    random_networks: PositiveInt = 2

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield what the rules name, by each kind of evidence."""
        network = load_model(model)
        with self.environment(passes=100, dropout=0.5, rows=_BATCH) as (device, environment):
            network = network.to(device)
            folds = people_of_folds(self.pairs, self._folds(), self.seed)
            counts = zip(self._folds(), (self.set_faces, self.faces), strict=True)
            seen = [self._chips(network, folds[fold], count) for fold, count in counts]
            others = [name for fold, own in folds.items() if fold not in self._folds()
                      for name in own]  # fmt: skip
            reference = self._tensor(self._chips(network, others, self.reference), device)
            calibration = matching_calibration(network)

            @cache
            def evidence() -> tuple[MapEvidence, dict[str, RegionEvidence]]:
                own = MapEvidence(network, reference, calibration)
                return own, self._controls(network, reference)

            set_on, report_on = (
                self._part(fold, network, chips, evidence)
                for fold, chips in zip(self._folds(), seen, strict=True)
            )
            record = {
                "model": network.spec.name,
                "source": network.spec.source,
                "images": self.images.name,
                "people": {fold: len(own) for fold, own in zip(self._folds(), seen, strict=True)},
                "reference": len(reference),
                "calibrated": calibration is not None and calibration.region_losses is not None,
                **_results(set_on, report_on, self.seed),
                "seconds": rounded(seconds_a_photo(network, calibration)),
                "conditions": environment,
            }
        yield f"feedback-{network.spec.name}", record

    def _part(
        self,
        fold: str,
        network: FaceModel,
        chips: dict[str, NDArray[np.uint8]],
        evidence: Callable[[], tuple[MapEvidence, dict[str, RegionEvidence]]],
    ) -> _Part:
        """Measure the people of a fold, or read what an earlier run with these options measured."""
        nulls = [f"{RANDOM} {number}" for number in range(self.random_networks)]
        controls = [*nulls, EIGENFACES]
        told = (network_digest(network), sorted(chips), controls, self.reference, self.seed, _ASKED)
        known = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
        path = self.output / "raw" / f"feedback-{network.spec.name}-{fold}-{known}.npz"
        if path.is_file():
            self.progress(network.spec.name, f"fold {fold}: read from {path}")
            return _Part.load(path)
        part = _Part.of(network, chips, *evidence(), self)
        part.save(path)
        return part

    def _folds(self) -> tuple[str, str]:
        return self.set_on, self.report_on

    def _chips(
        self, network: FaceModel, names: Sequence[str], count: int
    ) -> dict[str, NDArray[np.uint8]]:
        chips: dict[str, NDArray[np.uint8]] = {}
        for name, chip in usable_chips(self.images, names, network.spec, {}):
            chips[name] = chip
            if len(chips) == count:
                break
        return chips

    @staticmethod
    def _tensor(chips: dict[str, NDArray[np.uint8]], device: torch.device) -> Tensor:
        return as_images(chips.values()).float().to(device)

    def _controls(self, network: FaceModel, reference: Tensor) -> dict[str, RegionEvidence]:
        found: dict[str, RegionEvidence] = {}
        for number in range(self.random_networks):
            self.progress(network.spec.name, f"random weights {number}")
            null = with_random_weights(network, self.seed + number, images=reference)
            found[f"{RANDOM} {number}"] = MapEvidence(cast("FaceModel", null), reference)
        found[EIGENFACES] = of_eigenfaces(reference, network.spec)
        return found

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the tables of one network."""
        return [f"## {record['model']}", "", *feedback_tables(record)]


@dataclass(frozen=True)
class _Part:
    """The drawn faces of one fold: what was drawn, on whom, and the rules' numbers.

    Args:

        drawn (ndarray): (n,), keys of :data:`CAUSES`.
        people (ndarray): (n,), names of images.
        columns (dict): Evidence → quantity → (n,).
    """

    drawn: NDArray[np.str_]
    people: NDArray[np.str_]
    columns: dict[str, Columns]

    @classmethod
    def of(
        cls,
        network: FaceModel,
        chips: dict[str, NDArray[np.uint8]],
        own: MapEvidence,
        controls: dict[str, RegionEvidence],
        study: FeedbackCauses,
    ) -> _Part:
        """Draw all causes on all faces, and measure them."""
        calibration, spec = matching_calibration(network), network.spec
        points, device = spec_landmarks(spec), next(network.parameters()).device
        names = (MAP, *controls, WHOLE)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for cause in CAUSES:
            study.progress(spec.name, f"{cause}, {len(chips)} faces")
            made = [draw_cause(x, points, cause, name, study.seed) for name, x in chips.items()]
            images = as_images(x.chip for x in made).float().to(device)
            lost, q = own.with_quality(images)
            scaled = None if calibration is None else scale_quality(q, calibration.scaling)
            qualities = [None] * len(made) if scaled is None else scaled.tolist()
            measures = [measure_image(x.chip, spec.alignment, x.landmarks) for x in made]
            both = list(zip(measures, qualities, strict=True))
            rows[WHOLE] += [quantities(m, quality) for m, quality in both]
            found = {MAP: (lost, own.losses)}
            found |= {name: (control(images), control.losses) for name, control in controls.items()}
            for name, (values, losses) in found.items():
                rows[name] += [
                    quantities(m, quality, each, losses)
                    for (m, quality), each in zip(both, values, strict=True)
                ]
        columns = {
            name: {key: np.array([row[key] for row in own]) for key in own[0]}
            for name, own in rows.items()
        }
        drawn, people = np.repeat(list(CAUSES), len(chips)), np.tile(list(chips), len(CAUSES))
        return cls(drawn, people, columns)

    def save(self, path: Path) -> None:
        """Write it to a file."""
        columns = {f"{e}/{q}": x for e, own in self.columns.items() for q, x in own.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            np.savez_compressed(file, drawn=self.drawn, people=self.people, **columns)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> _Part:
        """Read what :meth:`save` wrote."""
        columns: dict[str, Columns] = {}
        with np.load(path, allow_pickle=False) as found:
            for name in found.files:
                evidence, _, quantity = name.partition("/")
                if quantity:
                    columns.setdefault(evidence, {})[quantity] = found[name]
            return cls(found["drawn"], found["people"], columns)


def _results(set_on: _Part, report_on: _Part, seed: int) -> Record:
    """Score all evidence on the people of one fold, with limits of the table and set on others."""
    found: Record = {"evidence": {}, "limits": {}}
    for name in set_on.columns:
        best = RULES if name == WHOLE else fitted(set_on.columns[name], set_on.drawn, RULES)
        found["limits"][name] = _limits(best)
        found["evidence"][name] = {
            key: rounded(_scored(report_on, name, rules, seed))
            for key, rules in (("table", RULES), ("set", best))
        }
        found["evidence"][name]["where_set"] = rounded(
            _scored(set_on, name, best, seed)["macro_f1"]
        )
    most = scores(np.full(len(report_on.drawn), NOTHING), report_on.drawn, report_on.people, seed)
    found["majority"] = rounded(most["macro_f1"])
    found["retake"] = rounded(_retaken(report_on))
    found["weak"] = rounded(_weak(report_on))
    return found


def _scored(part: _Part, name: str, rules: Sequence[Rule], seed: int) -> Record:
    named = named_causes(part.columns[name], rules)
    return scores(named, part.drawn, part.people, seed)


def _retaken(part: _Part) -> Record:
    """Return the share of faces to be taken again, by what was drawn, with and without regions."""
    found: Record = {}
    for name in (MAP, WHOLE):
        named = named_causes(part.columns[name], RULES)
        found[name] = {c: float((named[part.drawn == c] != NOTHING).mean()) for c in CAUSES}
    return found


def _weak(part: _Part) -> Record:
    """Return how often a first reason is right, of those that are called weak and the others."""
    columns = part.columns[MAP]
    named = named_causes(columns, RULES)
    right = named == np.array([CAUSES[cause] for cause in part.drawn.tolist()])
    clear = np.zeros(len(named), dtype=bool)
    for rule in RULES[:-1]:
        for i in np.flatnonzero(named == rule.cause):
            clear[i] = rule.is_clear({key: float(values[i]) for key, values in columns.items()})
    found: Record = {}
    for word, which in (("weak", ~clear & (named != NOTHING)), ("not weak", clear)):
        share = float(right[which].mean()) if which.any() else None
        found[word] = {"reasons": int(which.sum()), "right": share}
    return found


def _limits(rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    return {r.cause: {f"{x.quantity} {x.side}": x.limit for x in r.when} for r in rules}
