"""Whether the failure rates that a calibration tells by Q hold on other people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from benchmarks.harness.environment import dated
from benchmarks.harness.options import PositiveInt
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.harness.statistics import rounded
from benchmarks.protocols.parts.failure_bins import binned, rate_tables, summary
from benchmarks.subjects.graded_pairs import MIXES, SCORES, GradedPairs
from benchmarks.subjects.pairs import read_pairs_of_folders
from captum_plq.calibration import Calibration, FailureRates
from captum_plq.calibration.settings import network_digest
from captum_plq.calibration.thresholds import FMRS, TARGETS
from captum_plq.metrics import failure_curve, fnmr, quality_at_failure, threshold_at_fmr
from captum_plq.models import load_model


@dataclass(frozen=True, kw_only=True)
class Thresholds(Protocol):
    """Thresholds.

    Is the failure rate that a calibration tells for a Q the one that is met on other people? Set on
    the mated pairs of one fold, with the second image degraded by degrees; reported on those of
    another, at the cosine that the first fold gave. The quality of a pair is the lower of its two.
    Bins of equally many pairs, by quality; *predicted* is the mean of the curve over the pairs of a
    bin, its interval that of the curve; *observed* has the exact 95 % interval of a share, for as
    many pairs as they are worth, since people have several. A bin is met if both intervals overlap,
    and met strictly if the prediction itself lies within the observed interval.

    *Error* is the mean distance between predicted and observed over bins; *Brier* the mean squared
    error of the prediction pair by pair, with that of one constant rate, the mean of the fold that
    reports, for 100 %: lower is better, and what knows nothing has 100 % at best.

    Columns:

        serfiq: Q, sampled, as curves are set and told
        serfiq-closed-form: Q by the closed form, read on the curve of the sampled one
        embedding-norm: length of the embedding, with a curve of its own
        shuffled: Q of other pairs, with a curve of its own: the control

    Args:

        images (Path): Folder laid out like LFW: a subfolder is a person.
        pairs (Path): CSV with the columns fold, first, second, mated.
        set_on (str): Fold that curves are set on.
        report_on (str): Fold that is reported on.
        draws (int): How often the second image of each pair is degraded.
        batch (int): Images at a time.
        calibration (Path, optional): A calibration of the network: the curves of ``serfiq`` are
            saved with it.
    """

    name: ClassVar[str] = "thresholds"

    images: Path
    pairs: Path
    set_on: str = "4"
    report_on: str = "5"
    draws: PositiveInt = 3
    batch: PositiveInt = 16
    calibration: Path | None = None

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield the curves of one fold, and what is met on the other."""
        network = load_model(model).eval()
        pairs = read_pairs_of_folders(self.pairs)
        with self.environment(passes=100, dropout=0.5, rows=self.batch) as (device, environment):
            network = network.to(device)
            folds = [
                GradedPairs(
                    network,
                    self.images,
                    [pair for pair in pairs if pair.fold == fold],
                    draws=self.draws,
                    batch=self.batch,
                    seed=self.seed,
                    progress=partial(self.progress, f"{model}, fold {fold}"),
                )
                for fold in (self.set_on, self.report_on)
            ]
        others = [fold.different_people() for fold in folds]
        at = [self._at(fmr, folds, others) for fmr in FMRS]
        if self.calibration is not None:
            self._save(self.calibration, [curves["serfiq"] for _, curves in at], folds[0])
        yield (
            f"thresholds-{network.spec.name}",
            {
                "model": network.spec.name,
                "network": network_digest(network),
                "images": self.images.name,
                "pairs": self.pairs.name,
                "folds": [self.set_on, self.report_on],
                "mated": [len(fold.pairs) for fold in folds],
                "draws": self.draws,
                "people": [len(set(fold.of("as they are", "serfiq")[2])) for fold in folds],
                "non_mated": [len(scores) for scores in others],
                "left_out": [fold.left_out for fold in folds],
                "at": rounded([found for found, _ in at]),
                "conditions": environment,
            },
        )

    def _at(
        self, fmr: float, folds: Sequence[GradedPairs], others: Sequence[Tensor]
    ) -> tuple[dict[str, Any], dict[str, FailureRates]]:
        """What is found at one false match rate, and the curve of each score."""
        threshold = threshold_at_fmr(others[0], fmr)
        curves = {}
        for name in SCORES:
            if name != "serfiq-closed-form":
                scores, quality, people = folds[0].of("graded", name, self.seed)
                curve = failure_curve(scores, quality, threshold, people, seed=self.seed)
                curves[name] = FailureRates(fmr, threshold, len(others[0]), curve)
        curves["serfiq-closed-form"] = curves["serfiq"]
        found: dict[str, Any] = {
            "fmr": fmr,
            "threshold": threshold,
            "fmr_reported": float((others[1] >= threshold).double().mean()),
            "mixes": {},
            "curve": curves["serfiq"].curve._asdict(),
            "reached": [],
        }
        for mix in MIXES:
            found["mixes"][mix] = {}
            for name in SCORES:
                scores, quality, people = folds[1].of(mix, name, self.seed + 1)
                bins = binned(curves[name].curve, scores < threshold, quality, people)
                found["mixes"][mix][name] = {"bins": bins, **summary(bins)}
        scores, quality, _ = folds[1].of("graded", "serfiq")
        for rate in TARGETS:
            reached = quality_at_failure(curves["serfiq"].curve, rate)
            near = quality >= reached[0]
            row: dict[str, Any] = {"rate": rate}
            row |= {
                key: value if np.isfinite(value) else None
                for key, value in zip(("quality", "low", "high"), reached, strict=True)
            }
            row["kept"] = float(near.double().mean())
            row["observed"] = float(fnmr(scores[near], threshold)) if bool(near.any()) else None
            found["reached"].append(row)
        return found, curves

    def _save(self, path: Path, failures: Sequence[FailureRates], fold: GradedPairs) -> None:
        """Add the curves to a calibration."""
        known = Calibration.load(path)
        if known.thresholds is None or known.network_digest != network_digest(fold.network):
            raise ValueError(f"{path} is of another network, or has no thresholds: calibrate anew.")
        _, _, people = fold.of("graded", "serfiq")
        thresholds = replace(
            known.thresholds,
            failures=tuple(failures),
            pairs=len(people),
            people=len(set(people)),
            source=f"{self.images.name}, fold {self.set_on}, aligned; {MIXES['graded']}",
        )
        replace(known, thresholds=thresholds).save(path)

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the tables of one network."""
        lines = [f"## {record['model']}", ""]
        for at in record["at"]:
            lines += rate_tables(at)
        one, other = record["folds"]
        return [
            *lines,
            f"Network {record['network']}, {record['images']}, {record['pairs']}: set on fold "
            f"{one} ({record['mated'][0]} mated pairs of {record['people'][0]} people, "
            f"{record['draws']} draws each; {record['non_mated'][0]:,} pairs of different people), "
            f"reported on fold {other} ({record['mated'][1]} of {record['people'][1]}; "
            f"{record['non_mated'][1]:,}). {dated(record['conditions'])}.",
            "",
        ]
