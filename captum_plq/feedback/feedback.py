"""A verdict on a photo of a face, and at most three reasons with their evidence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq.calibration.file import Calibration
from captum_plq.faces import REGION_WORDS, REGIONS
from captum_plq.faces.detect import WEAK_SCORE
from captum_plq.feedback.measures import ImageMeasures, measure_image
from captum_plq.feedback.rules import CUT_OFF, GROUPS, NO_FACE, RULES, Rule, quantities, shares
from captum_plq.models import ModelSpec

__all__ = ["Feedback", "Reason", "Verdict", "give_feedback"]

Verdict = Literal["nothing to correct", "retake", "perhaps no face", "not assessed"]
"""The third: a weak detection, see :attr:`~captum_plq.faces.Face.weak`; such a photo is to be
taken again, too. The last: neither Q̂ nor regions are known, and nothing else is wrong."""

_MOST = 3
_WORDS = {
    "cut_off": "{1:.0%} of the face lies beyond the edge",
    "detector_score": f"detector score {{1:.2f}}, where most faces exceed {WEAK_SCORE}",
}
"""How a number is told, by name ({0}) and value ({1}), if not as ``name value``."""


@dataclass(frozen=True)
class Reason:
    """Why a photo should be taken again.

    Args:

        cause (str): In a word or two, as in :data:`~captum_plq.feedback.RULES`.
        sentence (str): What is wrong, and what to do.
        weak (bool): Whether the evidence is weak: a limit is passed by less than a fifth of it; a
            damage of the whole image, or a cut by the photo's edge, explains the loss as well; or
            it is perhaps no face.
        evidence (dict): Number → value: those that the rule is about, by the names that it has for
            them.
        region (str, optional): Of the regions that are evidence, the one that loses most.
        lost (float, optional): What is lost in it, in units of Q.
        share (float, optional): Which part of all that is lost in regions.
        unusual (float, optional): How unusual that is for a high-quality face, in standard
            deviations.
    """

    cause: str
    sentence: str
    weak: bool
    evidence: dict[str, float]
    region: str | None = None
    lost: float | None = None
    share: float | None = None
    unusual: float | None = None

    def evidence_in_words(self) -> str:
        """Return the evidence in a few words."""
        if self.region is None or self.lost is None or self.share is None:
            words = ", ".join(
                _WORDS.get(name, "{0} {1:.2g}").format(name.replace("_", " "), x)
                for name, x in self.evidence.items()
                if not math.isnan(x)
            )
        else:
            words = (
                f"{REGION_WORDS[self.region]}: {self.share:.0%} of what is lost, {self.lost:.3f} "
                f"of Q, {self.unusual:.1f} standard deviations from good faces"
            )
        return f"weak evidence; {words}" if self.weak else words


@dataclass(frozen=True)
class Feedback:
    """What to tell the person on a photo.

    Args:

        verdict (str): See :data:`Verdict`.
        reasons (tuple[Reason, ...]): At most three, the most important first; empty if there is
            nothing to correct, or nothing is known.
        measures (ImageMeasures): Of the whole image.
        without_map (str): Why no reason rests on regions of the face; ``""`` if they were looked
            at.
    """

    verdict: Verdict
    reasons: tuple[Reason, ...]
    measures: ImageMeasures
    without_map: str = ""

    def lines(self) -> list[str]:
        """Return verdict and reasons as lines of text."""
        found: list[str] = [self.verdict]
        if self.verdict == "not assessed":
            found.append(
                "The whole image shows nothing wrong, but the quality of this face is not known."
            )
        found += [f"{x.sentence} ({x.evidence_in_words()})" for x in self.reasons]
        if self.without_map:
            found.append(f"Parts of the face were not looked at: {self.without_map}")
        return found

    def record(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            "verdict": self.verdict,
            "reasons": [vars(reason) for reason in self.reasons],
            "measures": self.measures._asdict(),
            "without_map": self.without_map,
        }


def give_feedback(
    chip: NDArray[np.uint8],
    spec: ModelSpec,
    *,
    landmarks: NDArray[np.float64] | None = None,
    detector_score: float | None = None,
    cut_off: float | None = None,
    scaled_quality: float | None = None,
    lost: ArrayLike | None = None,
    calibration: Calibration | None = None,
) -> Feedback:
    """Find out what is wrong with a photo of a face, if anything is.

    Without ``lost``, or a calibration that says what good faces lose, only measures of the whole
    image, the detection and Q̂ are looked at.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB, aligned as ``spec`` says.
        spec (ModelSpec): Of the network.
        landmarks (ndarray, optional): (5, 2), in the photo; ``None``: the photo is not known, and
            neither is the size of the face in it.
        detector_score (float, optional): Of the detection; ``None``, for an aligned crop: whether
            it is a face is not asked.
        cut_off (float, optional): Which share of the face lies beyond the photo's edge, of
            :func:`~captum_plq.faces.cut_off_share`; ``None``, for an aligned crop: not known.
        scaled_quality (float, optional): Q̂; ``None``: no rule that is about it holds.
        lost (array-like, optional): (9,), what each region loses, of
            :attr:`~captum_plq.explanation.LocalMaps.lost`.
        calibration (Calibration, optional): Of the network.

    Returns:
        *Feedback*: the verdict, and the reasons.

    Raises:
        ValueError: if an argument is not as above.

    Examples::

        >>> explanation = Explainer(model, calibration=calibration)(chip[None])
        >>> feedback = give_feedback(
        ...     chip, model.spec, lost=explanation.local.lost[0], calibration=calibration
        ... )
        >>> feedback.verdict
        'nothing to correct'
    """
    losses = None if calibration is None else calibration.region_losses
    without = ""
    if lost is None:
        without = "there is no local quality"
        without += (
            "." if calibration is not None else ", for want of a calibration that holds here."
        )
    elif losses is None:
        without = "the calibration has no losses of regions; make one with this version."
    elif np.shape(lost) != (len(REGIONS),) or not np.isfinite(lost).all():
        raise ValueError(f"lost must be {len(REGIONS)} finite numbers.")
    measures = measure_image(chip, spec.alignment, landmarks)
    known = None if without else lost
    numbers = quantities(
        measures, scaled_quality, known, losses, detector_score=detector_score, cut_off=cut_off
    )
    seen = [rule for rule in RULES if rule.holds(numbers)]
    if len(seen) > 1:  # the last says that no cause was found
        seen = [rule for rule in seen if rule is not RULES[-1]]
    if NO_FACE in seen:  # then regions may be those of a piece of the background
        seen = [rule for rule in seen if not rule.group]
    scores = np.full(len(REGIONS), math.nan)
    if known is not None and losses is not None:
        scores = losses.unusual(np.asarray(known)[None])[0]
    reasons = tuple(_reason(rule, numbers, known, scores, seen) for rule in seen[:_MOST])
    verdict: Verdict = "retake" if reasons else "nothing to correct"
    if NO_FACE in seen:
        verdict = "perhaps no face"
    elif not reasons and without and math.isnan(numbers["scaled_quality"]):
        verdict = "not assessed"
    return Feedback(verdict, reasons, measures, without)


def _reason(
    rule: Rule,
    numbers: dict[str, float],
    lost: ArrayLike | None,
    scores: NDArray[np.float64],
    seen: list[Rule],
) -> Reason:
    explained = bool(rule.group) and any(not other.group for other in seen)
    doubtful = NO_FACE in seen or (CUT_OFF in seen and rule is not CUT_OFF)
    evidence = {one.quantity: numbers[one.quantity] for one in rule.when}
    weak = doubtful or explained or rule is RULES[-1] or not rule.is_clear(numbers)
    if not rule.group or lost is None:
        return Reason(rule.cause, rule.sentence, weak, evidence)
    values = np.asarray(lost, dtype=np.float64)
    region = max(GROUPS[rule.group], key=lambda name: values[REGIONS.index(name)])
    place = REGIONS.index(region)
    return Reason(
        rule.cause,
        rule.sentence,
        weak,
        evidence,
        region,
        float(values[place]),
        float(shares(values)[place]),
        float(scores[place]),
    )
