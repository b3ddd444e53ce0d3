"""From numbers to causes: one table.

A rule is a cause, the conditions that must all hold, and the sentence that a person is told. The
table is read from top to bottom: whether it is a face at all, then what damages the whole image,
then what covers a part of it, since blur takes quality away everywhere.

What conditions are about:

- a measure of the whole image, by its name in :class:`~captum_plq.feedback.ImageMeasures`;
- ``detector_score``: of the detection, and ``cut_off``: the share of the face, as it is aligned,
  that lies beyond the photo's edge; neither is known of an aligned crop;
- ``scaled_quality``: Q̂, from 0 to 1;
- ``GROUP share``: the part of all that regions lose which a group of regions loses, 0 to 1;
- ``GROUP unusual``: how unusual that is for a high-quality face, in standard deviations, in the
  region of the group where it is most unusual, see
  :meth:`~captum_plq.calibration.regions.RegionLosses.unusual`.

The limits were set on people of LFW's fold 4, with causes drawn on their faces, and measured on
fold 5 (``benchmarks/results/feedback.md``): for the highest macro F1, with a price on more than
2.5 % of the faces on which nothing was drawn not being left alone. Those of regions are for the
network that is shipped, in units that are made to hold for others. The limit on ``cut_off`` is one
of those that call none of these people's whole faces cut off, and all that lack a quarter
(``benchmarks/results/photos.md``); that on ``detector_score`` is where detections are called weak.

Good faces, too, lose what they lose somewhere, and the eyes are the most frequent place: turned
heads, shade under a brim, narrow eyes. That alone is no reason to take a photo again, so the
rule on eyes asks for a low Q̂ besides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq.calibration.regions import RegionLosses
from captum_plq.faces import REGIONS
from captum_plq.faces.detect import WEAK_SCORE
from captum_plq.feedback.measures import ImageMeasures

__all__ = [
    "CUT_OFF",
    "GROUPS",
    "NO_FACE",
    "RULES",
    "Condition",
    "Rule",
    "at_least",
    "at_most",
    "quantities",
]

GROUPS: dict[str, tuple[str, ...]] = {
    "eyes": ("left_eye", "right_eye"),
    "lower face": ("mouth", "chin"),
    "forehead": ("forehead",),
    "middle": ("nose", "left_cheek", "right_cheek"),
}
"""The groups of regions that rules are about."""

_CLEAR = 0.2
"""By how much of a limit a number must pass it for the evidence not to be weak."""

_LEAST_LOSS = 1e-6


@dataclass(frozen=True)
class Condition:
    """A limit on a number.

    Args:

        quantity (str): Which number, as above.
        side (str): ``"at least"`` or ``"at most"``.
        limit (float): The limit, > 0.
    """

    quantity: str
    side: Literal["at least", "at most"]
    limit: float

    def holds(self, values: ArrayLike, by: float = 0.0) -> NDArray[np.bool_]:
        """Return where it holds; nowhere where a number is NaN, which stands for not known.

        Args:

            values (array-like): Of the quantity.
            by (float): By what share of the limit it must be passed.
        """
        found = np.asarray(values, dtype=np.float64)
        if self.side == "at least":
            return np.asarray(found >= self.limit * (1 + by))
        return np.asarray(found <= self.limit * (1 - by))


@dataclass(frozen=True)
class Rule:
    """A cause, when it is seen, and what to do about it.

    Args:

        cause (str): In a word or two.
        when (tuple[Condition, ...]): All must hold.
        sentence (str): What a person is told: what is wrong, and an action.
        group (str): Of the regions that are its evidence; ``""``: the whole image.
    """

    cause: str
    when: tuple[Condition, ...]
    sentence: str
    group: str = ""

    def holds(self, values: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
        """Return where it holds, of :func:`quantities`, or of columns of them."""
        each = [one.holds(values[one.quantity]) for one in self.when]
        return np.asarray(np.all(each, axis=0))

    def is_clear(self, values: Mapping[str, float]) -> bool:
        """Return whether each limit is passed by a fifth of it."""
        return all(bool(one.holds(values[one.quantity], _CLEAR)) for one in self.when)


def at_least(quantity: str, limit: float) -> Condition:
    """Return the condition that a number is not below a limit."""
    return Condition(quantity, "at least", limit)


def at_most(quantity: str, limit: float) -> Condition:
    """Return the condition that a number is not above a limit."""
    return Condition(quantity, "at most", limit)


NO_FACE = Rule(
    "perhaps no face",
    (at_most("detector_score", WEAK_SCORE),),
    "Perhaps no face was found: retake the photo with the whole face visible, nothing over it, and "
    "turned to the camera.",
)
"""Where it holds, what else is found may be about a piece of the background."""

CUT_OFF = Rule(
    "cut off",
    (at_least("cut_off", 0.08),),
    "The face is cut off by the photo's edge: move back, and retake it with the whole face in the "
    "photo.",
)
"""Where it holds, what is missing is black, and darkens and covers the face for other rules."""

RULES: tuple[Rule, ...] = (
    NO_FACE,
    CUT_OFF,
    Rule(
        "too dark",
        (at_most("luminance_mean", 0.2),),
        "The face is too dark: turn towards a window or a lamp.",
    ),
    Rule(
        "overexposed",
        (at_least("over_exposure", 0.06),),
        "The face is overexposed: move out of the glare, or lower the exposure.",
    ),
    Rule(
        "too small",
        (at_most("inter_eye_distance", 16),),
        "The face is too small in the photo: come closer, or use a larger photo.",
    ),
    Rule(
        "blurred",
        (at_most("sharpness", 0.7),),
        "The whole image is blurred: hold still, focus, and clean the lens.",
    ),
    Rule(
        "forehead covered",
        (at_least("forehead share", 0.3), at_least("forehead unusual", 4.4)),
        "The forehead or brows are covered: take off the cap, or move the hair away.",
        "forehead",
    ),
    Rule(
        "lower face covered",
        (at_least("lower face share", 0.2), at_least("lower face unusual", 9)),
        "The lower face is covered: take off the mask or scarf.",
        "lower face",
    ),
    Rule(
        "eyes covered",
        (
            at_least("eyes share", 0.46),
            at_least("eyes unusual", 3),
            at_most("lower face share", 0.14),
            at_most("scaled_quality", 0.6),
        ),
        "The eyes are dark or covered: take off dark glasses, or move the hair away.",
        "eyes",
    ),
    Rule(
        "face partly covered",
        (at_least("middle unusual", 6), at_least("eyes unusual", 3)),
        "A part of the face is covered: take your hand, or what else is there, away from it.",
        "middle",
    ),
    Rule(
        "unclear",
        (at_most("scaled_quality", 0.3),),
        "The quality is low and no cause stands out: face the camera in even light and try again.",
    ),
)
"""The table."""


def quantities(
    measures: ImageMeasures,
    scaled_quality: float | None = None,
    lost: ArrayLike | None = None,
    losses: RegionLosses | None = None,
    *,
    detector_score: float | None = None,
    cut_off: float | None = None,
) -> dict[str, float]:
    """Return all numbers that rules may be about.

    Args:

        measures (ImageMeasures): Of the whole image.
        scaled_quality (float, optional): Q̂.
        lost (array-like, optional): (9,), what each of :data:`~captum_plq.faces.REGIONS` loses.
        losses (RegionLosses, optional): What high-quality faces lose there.
        detector_score (float, optional): Of the detection, by
            :func:`~captum_plq.faces.detect_faces`.
        cut_off (float, optional): Of :func:`~captum_plq.faces.cut_off_share`.

    Returns:
        *dict[str, float]*: NaN for what is not known.

    Examples::

        >>> numbers = quantities(measure_image(chip, "arcface"), 0.7, lost, losses)
        >>> numbers["eyes share"], numbers["eyes unusual"]
    """
    numbers = measures._asdict() | {
        "scaled_quality": scaled_quality,
        "detector_score": detector_score,
        "cut_off": cut_off,
    }
    found = {name: math.nan if x is None else float(x) for name, x in numbers.items()}
    unusual = np.full(len(REGIONS), math.nan)
    share = unusual.copy()
    if lost is not None:
        share = shares(lost)
        if losses is not None:
            unusual = losses.unusual(np.asarray(lost)[None])[0]
    for group, regions in GROUPS.items():
        where = [REGIONS.index(region) for region in regions]
        found[f"{group} share"] = float(share[where].sum())
        found[f"{group} unusual"] = float(unusual[where].max())
    return found


def shares(lost: ArrayLike) -> NDArray[np.float64]:
    """Return which part of all that regions lose is lost in each; those that gain have none.

    Args:

        lost (array-like): (9,), in units of Q.

    Returns:
        *ndarray*: (9,), of sum 1; all 0 where no region loses anything.
    """
    losing = np.maximum(np.asarray(lost, dtype=np.float64), 0)
    return np.asarray(losing / max(float(losing.sum()), _LEAST_LOSS))
