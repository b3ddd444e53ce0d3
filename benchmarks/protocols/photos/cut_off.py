"""Whether faces that are cut off or covered are found in photos, and what is said of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.environment import dated
from benchmarks.harness.options import PositiveInt, some_of
from benchmarks.harness.pages import table
from benchmarks.harness.protocol import Protocol, Record
from benchmarks.harness.statistics import rounded
from benchmarks.protocols.parts.drawn_causes import draw_cause
from benchmarks.protocols.photos.making import ENLARGED, SIDES, cut, photo_of
from benchmarks.subjects.faces import spec_landmarks, usable_chips
from benchmarks.subjects.pairs import people_of_folds
from captum_plq.explanation import Explainer, matching_calibration
from captum_plq.faces import AlignedFace, aligned_faces
from captum_plq.feedback import give_feedback
from captum_plq.feedback.rules import CUT_OFF, NO_FACE
from captum_plq.models import FaceModel, ModelSpec, load_model

_LIMITS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15)
_COVERED = ("mask", "dark glasses", "hand over a cheek", "cap over the brows")
_NEAR = 0.25  # of the distance between the eyes
_SAID = ("not found", "perhaps no face", "cut off", "neither")
_WHOLE, _TIGHT = "whole", "whole, the crop alone"


class _Seen(NamedTuple):
    """What is found in a photo; NaN where no face is."""

    score: float = float("nan")
    cut_off: float = float("nan")
    away: float = float("nan")


@dataclass(frozen=True, kw_only=True)
class Photos(Protocol):
    """Photos.

    What is said of a face that the edge of its photo cuts off, or that something covers? An aligned
    crop of one face of each person, twice enlarged, with a margin around it that goes on as the
    crop ends, is cut so that a known share of the face is missing at one side; or something is
    drawn on it. The face is then found and aligned anew, as any photo's.

    *Not found*: the detector finds nothing, which is said. *Perhaps no face*: the detection is
    weak. *Cut off*: it is not, and the rule holds. *Neither*: no rule on the detection holds.
    *Elsewhere*: of the photos in which something is found, the share where its landmarks lie
    further from those of the face than a quarter of the distance between the eyes, in the mean; *of
    weak ones*: of weak detections. The limit of the rule is set on the people of one fold, and
    reported on those of another.

    What it cannot say: a margin that is made is plainer than life. A crop that is enlarged and
    aligned anew is softer than it was, so that more whole faces are called blurred than of crops as
    they are.

    Args:

        images (Path): Folder laid out like LFW, of crops that are aligned as the network wants.
        pairs (Path): CSV: fold, first, second, mated; tells the people of each fold.
        set_on (str): Fold on whose people the limit is set.
        report_on (str): Fold on whose people is reported.
        faces (int): People of each, at most.
        shares (tuple[float, ...]): Of the face that are cut off, 0 to 1.
    """

    name: ClassVar[str] = "photos"

    images: Path
    pairs: Path
    set_on: str = "4"
    report_on: str = "5"
    faces: PositiveInt = 120
    shares: Annotated[tuple[float, ...], some_of()] = (0.1, 0.25, 0.35)

    def measure(self, model: str) -> Iterator[tuple[str, Record]]:
        """Yield what is found in the photos of both folds."""
        network = load_model(model)
        folds = people_of_folds(self.pairs, (self.set_on, self.report_on), self.seed)
        with self.environment(passes=100, dropout=0.5) as (device, environment):
            explainer = Explainer(network.to(device), calibration=matching_calibration(network))
            record: Record = {"model": network.spec.name, "images": self.images.name, "folds": {}}
            for role, fold in (("set_on", self.set_on), ("report_on", self.report_on)):
                record[role] = fold
                record["folds"][fold] = self._fold(network, explainer, folds[fold], fold)
            record["limit"] = CUT_OFF.when[0].limit
            record["conditions"] = environment
        yield f"photos-{network.spec.name}", record

    def _fold(
        self, network: FaceModel, explainer: Explainer, names: Sequence[str], fold: str
    ) -> Record:
        spec = network.spec
        seen: dict[str, list[_Seen]] = {}
        verdicts: dict[str, Counter[str]] = defaultdict(Counter)
        people = 0
        for name, chip in usable_chips(self.images, names, spec, {}):
            if people % 10 == 0:
                self.progress(spec.name, f"fold {fold}, {people} people")
            for what, photo, place in self._photos(chip, name, spec):
                face, found = _seen(photo, spec, place)
                seen.setdefault(what, []).append(found)
                if what == _WHOLE and face is not None:
                    for rules, verdict in _verdicts(explainer, face).items():
                        verdicts[rules].update([verdict])
            people += 1
            if people == self.faces:
                break
        columns = {what: np.array(found) for what, found in seen.items()}
        limits = {str(limit): _fired(columns, limit) for limit in _LIMITS}
        return {
            "people": people,
            "photos": {what: rounded(_told(found)) for what, found in columns.items()},
            "limits": rounded(limits),
            "verdicts": {rules: dict(found) for rules, found in verdicts.items()},
        }

    def _photos(
        self, chip: NDArray[np.uint8], name: str, spec: ModelSpec
    ) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.float64]]]:
        """Yield what is done to a face, the photo, and where the landmarks lie in it."""
        points = spec_landmarks(spec)
        for what, margin in ((_WHOLE, True), (_TIGHT, False)):
            photo, around = photo_of(chip, margin=margin)
            yield what, photo, ENLARGED * points + around
        photo, around = photo_of(chip)
        for side in SIDES:
            for share in self.shares:
                part = cut(chip, spec.alignment, side, share)
                place = ENLARGED * points + around
                if side in ("left", "top"):
                    place = place - (np.array(photo.shape[1::-1]) - part.shape[1::-1])
                yield f"{side} {share:.0%}", part, place
        for cause in _COVERED:
            made = draw_cause(chip, points, cause, name, self.seed)
            photo, around = photo_of(made.chip)
            yield cause, photo, ENLARGED * points + around

    @classmethod
    def section(cls, record: Record) -> list[str]:
        """Return the tables of one network."""
        own, other = (record["folds"][record[role]] for role in ("report_on", "set_on"))
        rows = [
            [
                what,
                *(f"{x[key]:.1%}" for key in _SAID),
                _spread(x["cut_off"]),
                _percent(x["elsewhere"]),
                _percent(x["weak elsewhere"]),
            ]
            for what, x in own["photos"].items()
        ]
        limits = [
            [limit, *(_percent(fold["limits"][limit][key]) for fold in (other, own)
                      for key in ("whole", "cut"))]
            for limit in own["limits"]
        ]  # fmt: skip
        heads = [
            f"{word}, fold {record[role]}"
            for role in ("set_on", "report_on")
            for word in ("whole", "cut by a quarter or more")
        ]
        told = [
            f"- {rules}: {'; '.join(f'{verdict} {count}' for verdict, count in counts.items())}"
            for rules, counts in own["verdicts"].items()
        ]
        return [
            f"## {record['model']}", "",
            f"{own['people']} people of fold {record['report_on']}, limit {record['limit']}:", "",
            *table(["face", *_SAID, "beyond the edge", "elsewhere", "of weak ones"], rows), "",
            "Beyond the edge: the share of the face, as it is measured, median and 90 % range.", "",
            "Photos called cut off by limit, of those in which a face is found, and not weakly; of "
            "whole faces where it is most, of cut ones at the side where it is fewest:", "",
            *table(["limit", *heads], limits), "",
            "Verdicts on whole faces with a margin:", "", *told, "",
            f"Limit set on {other['people']} people of fold {record['set_on']} of "
            f"{record['images']}. {dated(record['conditions'])}.", "",
        ]  # fmt: skip


def _seen(
    photo: NDArray[np.uint8], spec: ModelSpec, place: NDArray[np.float64]
) -> tuple[AlignedFace | None, _Seen]:
    """Find the face of a photo, and how far from where it is, in distances between the eyes."""
    try:
        (found,) = aligned_faces(photo, template=spec.alignment, size=spec.input_size)
    except ValueError:  # no face, or none of its landmarks lies in the photo
        return None, _Seen()
    if found.face is None:
        return None, _Seen()
    eyes = float(np.linalg.norm(place[:2].mean(0) - place[2:4].mean(0)))
    away = float(np.linalg.norm(found.face.landmarks - place, axis=1).mean()) / eyes
    return found, _Seen(found.face.score, found.cut_off, away)


def _verdicts(explainer: Explainer, aligned: AlignedFace) -> dict[str, str]:
    if aligned.chip is None or aligned.face is None:
        return {}
    found = explainer(aligned.chip[None])
    known: dict[str, Any] = {
        "landmarks": aligned.face.landmarks,
        "scaled_quality": None if found.scaled_quality is None else found.scaled_quality[0],
        "lost": None if found.local is None else found.local.lost[0],
        "calibration": explainer.calibration,
    }
    score, cut_off = aligned.face.score, aligned.cut_off
    chip, spec = aligned.chip, explainer.spec
    with_all = give_feedback(chip, spec, detector_score=score, cut_off=cut_off, **known)
    return {
        "all rules": with_all.verdict,
        "without those on the detection": give_feedback(chip, spec, **known).verdict,
    }


def _told(found: NDArray[np.float64]) -> dict[str, Any]:
    """Return what is said of photos, as shares of them."""
    score, cut_off, away = found.T
    there, weak = np.isfinite(score), NO_FACE.holds({"detector_score": score})
    fired = there & ~weak & CUT_OFF.holds({"cut_off": cut_off})
    sure = cut_off[there & ~weak]
    off = away > _NEAR
    return {
        "count": len(found),
        "not found": float((~there).mean()),
        "perhaps no face": float(weak.mean()),
        "cut off": float(fired.mean()),
        "neither": float((there & ~weak & ~fired).mean()),
        "cut_off": np.quantile(sure, [0.05, 0.5, 0.95]).tolist() if len(sure) else None,
        "elsewhere": float(off[there].mean()) if there.any() else None,
        "weak elsewhere": float(off[weak].mean()) if weak.any() else None,
    }


def _fired(columns: dict[str, NDArray[np.float64]], limit: float) -> dict[str, float | None]:
    """Return how many sure detections have a share above a limit: whole faces, and cut ones."""
    shares: dict[str, float] = {}
    for what, found in columns.items():
        score, cut_off, _ = found.T
        sure = np.isfinite(score) & ~NO_FACE.holds({"detector_score": score})
        if sure.any():
            shares[what] = float((cut_off[sure] >= limit).mean())
    deep = [
        share for what, share in shares.items()
        if what.startswith(SIDES) and int(what.split()[1].removesuffix("%")) >= 25
    ]  # fmt: skip
    whole = [share for what, share in shares.items() if what in (_WHOLE, _TIGHT)]
    return {"whole": max(whole, default=None), "cut": min(deep, default=None)}


def _spread(values: Sequence[float] | None) -> str:
    return "" if values is None else "{1:.2f} [{0:.2f}, {2:.2f}]".format(*values)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
