"""What is a good score: where a Q stands among good faces, and how often such images fail.

The first is the percentile of Q among the high-quality faces of the calibration. The second needs
pairs of images of the same people: the share of them that are not matched (false non-match rate,
FNMR) at the threshold of a stated false match rate (FMR), as a function of Q. The Q of a pair is
the lower of its two, so the rate is that of an image with this Q against a photo that is no worse.
It holds for images like those it was measured on, which ``source`` states.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq._base.fields import require_field_types
from captum_plq.metrics.failure import FailureCurve, quality_at_failure

__all__ = ["FMRS", "FailureRates", "QualityThresholds"]

FMRS = (1e-3, 1e-2)
"""False match rates at which failures are measured; the first is the one that is told."""

TARGETS = (0.01, 0.05, 0.1)
"""False non-match rates for which the Q is told that reaches them."""

_LEVELS = 101
_ENDS = ("rate", "low", "high")
_HARDLY, _OFTEN = 0.001, 0.4
"""Rates below and above which "1 in" says little."""


@dataclass(frozen=True)
class FailureRates:
    """How often mated pairs fail at the threshold of one false match rate.

    Args:

        fmr (float): The false match rate.
        threshold (float): The cosine from which on a pair matches.
        non_mated (int): How many pairs of different people the threshold comes from.
        curve (FailureCurve): The false non-match rate by the lower Q of a pair.
    """

    fmr: float
    threshold: float
    non_mated: int
    curve: FailureCurve


@dataclass(frozen=True)
class QualityThresholds:
    """What a Q means for one network.

    Args:

        good (tuple[float, ...]): The 101 percentiles, 0 to 100, of Q of high-quality faces.
        failures (tuple[FailureRates, ...]): How often pairs fail, by false match rate; empty: not
            measured.
        pairs (int): How many mated pairs that was measured on.
        people (int): Of how many people.
        source (str): Which images they were, for readers.

    Raises:
        ValueError: for values of other types, or that no measurement gives.

    Examples::

        >>> good = QualityThresholds.percentiles(np.linspace(0.6, 0.8, 50))
        >>> curve = FailureCurve((0.4, 0.6), (0.5, 0.1), (0.4, 0.0), (0.6, 0.2))
        >>> failures = (FailureRates(1e-3, 0.3, 5000, curve),)
        >>> thresholds = QualityThresholds(good, failures, 300, 150, "my photos")
        >>> thresholds.in_words(0.58)
        'lower than all good faces; 1 in 7 such images fails at FMR 1e-3 (4.0–24 %)'
        >>> round(float(thresholds.percentile(0.71)))
        55
        >>> [round(float(x), 3) for x in thresholds.quality_at(0.3)]
        [0.5, 0.45, 0.55]
    """

    good: tuple[float, ...]
    failures: tuple[FailureRates, ...] = ()
    pairs: int = 0
    people: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        require_field_types(self)
        _require(len(self.good) == _LEVELS and _rising(self.good), f"{_LEVELS} rising percentiles")
        _require(0 <= self.people <= self.pairs, "no more people than pairs")
        for found in self.failures:
            require_field_types(found)
            require_field_types(found.curve)
            quality, rate, low, high = found.curve
            _require(0 < found.fmr < 1 and found.non_mated >= 1, "false match rates within (0, 1)")
            _require(
                len({len(x) for x in found.curve}) == 1
                and len(quality) >= 2
                and all(a < b for a, b in pairwise(quality)),
                "failure rates at rising qualities",
            )
            _require(
                all(_rising(x[::-1]) for x in (rate, low, high))
                and all(0 <= a <= b <= c <= 1 for a, b, c in zip(low, rate, high, strict=True)),
                "failure rates that fall within their intervals, from 0 to 1",
            )

    @staticmethod
    def percentiles(quality: ArrayLike) -> tuple[float, ...]:
        """Return ``good`` from Q of n high-quality faces."""
        return tuple(np.percentile(np.asarray(quality, dtype=float), range(_LEVELS)).tolist())

    def percentile(self, quality: ArrayLike) -> NDArray[np.float64]:
        """Return which per cent of good faces have a lower Q.

        Args:

            quality (array-like): Q, of any shape.

        Returns:
            *ndarray*: of that shape, 0 to 100; NaN where Q is NaN.
        """
        q = np.asarray(quality, dtype=np.float64)
        found: NDArray[np.float64] = np.interp(q, self.good, np.arange(_LEVELS))
        return found

    def failure_rate(
        self, quality: ArrayLike, fmr: float = FMRS[0]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return which share of images with this Q is not matched, and its 95 % interval.

        Args:

            quality (array-like): Q, of any shape. Beyond the Q that was measured, the rate at its
                end is returned: it is higher below, and lower above.
            fmr (float): One of those measured. Default: 0.001.

        Returns:
            *tuple[ndarray, ndarray, ndarray]*: of that shape, in [0, 1]; NaN where Q is NaN.

        Raises:
            ValueError: if it was not measured.
        """
        return self._at(fmr).curve.at(quality)

    def quality_at(self, rate: float, fmr: float = FMRS[0]) -> tuple[float, float, float]:
        """Return the Q from which on images fail no more often than ``rate``.

        Args:

            rate (float): The false non-match rate, in (0, 1).
            fmr (float): One of those measured. Default: 0.001.

        Returns:
            *tuple[float, float, float]*: as of :func:`~captum_plq.metrics.quality_at_failure`.

        Raises:
            ValueError: if it was not measured, or ``rate`` is not in (0, 1).
        """
        return quality_at_failure(self._at(fmr).curve, rate)

    def in_words(self, quality: float) -> str:
        """Return what a Q means, in one line.

        Args:

            quality (float): Q, finite.
        """
        words = [_rank(self, quality)]
        if self.failures:
            words.append(_often(self.failures[0], quality))
        return "; ".join(words)

    def records(self, quality: Sequence[float]) -> list[dict[str, object]]:
        """Return what each Q means, ready for JSON.

        Args:

            quality (sequence of float): Q of n faces, finite.

        Returns:
            *list[dict]*: n: ``"percentile"``; of each false match rate measured, its rate
            ``"fmr"`` with ``"rate"``, ``"low"`` and ``"high"`` under ``"failures"``; ``"words"``.
        """
        return [
            {
                "percentile": float(self.percentile(q)),
                "failures": [
                    {
                        "fmr": found.fmr,
                        **dict(zip(_ENDS, map(float, found.curve.at(q)), strict=True)),
                    }
                    for found in self.failures
                ],
                "words": self.in_words(q),
            }
            for q in quality
        ]

    def lines(self) -> list[str]:
        """Return the thresholds in a few lines, for those who measured them."""
        lines = []
        for found in self.failures:
            reached = []
            for rate in TARGETS:
                q, low, high = quality_at_failure(found.curve, rate)
                reached.append(f"{rate:.0%}: {_quality(q, low, high)}")
            lines.append(
                f"failures at FMR {found.fmr:g} (cosine below {found.threshold:.3f}), Q from which "
                f"on they are at most {'; '.join(reached)}"
            )
        if self.failures:
            lines.append(f"measured on {self.measured_on()}")
        return lines

    def measured_on(self) -> str:
        """Return which images the failure rates hold for; empty if there are none."""
        if not self.failures:
            return ""
        of = f": {self.source}" if self.source else ""
        return f"{self.pairs} mated pairs of {self.people} people{of}"

    def _at(self, fmr: float) -> FailureRates:
        for found in self.failures:
            if math.isclose(found.fmr, fmr):
                return found
        known = ", ".join(f"{found.fmr:g}" for found in self.failures) or "none"
        raise ValueError(
            f"Failure rates at FMR {fmr:g} were not measured, but at {known}: see "
            "`captum-plq calibrate --pairs`."
        )

    def in_file(self) -> dict[str, object]:
        """Return them as a file holds them."""
        return {
            **asdict(self),
            "failures": [
                {**asdict(found), "curve": found.curve._asdict()} for found in self.failures
            ],
        }

    @classmethod
    def from_file(cls, found: object) -> QualityThresholds:
        """Return what :meth:`in_file` gave.

        Raises:
            ValueError: if it is something else.
        """
        if not isinstance(found, Mapping) or not isinstance(found.get("failures"), list):
            raise ValueError("thresholds: expected values by name")
        try:
            failures = tuple(
                FailureRates(
                    **{
                        **one,
                        "curve": FailureCurve(**{k: tuple(v) for k, v in one["curve"].items()}),
                    }
                )
                for one in found["failures"]
            )
            return cls(**{**found, "good": tuple(found["good"]), "failures": failures})
        except (TypeError, AttributeError, KeyError) as error:
            raise ValueError(f"thresholds: not as they are written ({error})") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"thresholds: expected {what}")


def _rising(values: Sequence[float]) -> bool:
    return all(a <= b for a, b in pairwise(values))


def _rank(found: QualityThresholds, quality: float) -> str:
    """Where a Q stands among good faces, in words."""
    if quality < found.good[0] or quality > found.good[-1]:
        return f"{'lower' if quality < found.good[0] else 'higher'} than all good faces"
    p = min(99, max(1, round(float(found.percentile(quality)))))
    ending = "th" if 10 < p < 14 else {1: "st", 2: "nd", 3: "rd"}.get(p % 10, "th")
    return f"{p}{ending} percentile of good faces"


def _often(found: FailureRates, quality: float) -> str:
    """How often images of a Q fail, in words."""
    rate, low, high = (float(x) for x in found.curve.at(quality))
    at = f"at FMR {found.fmr:.0e}".replace("e-0", "e-")
    if quality < found.curve.quality[0]:
        least = f"at least {_number(low)} % of such images fail {at}"
        return f"{least} (Q is below all that were measured)"
    between = f"({_number(low)}–{_number(high)} %)"
    if rate < _HARDLY:
        return f"hardly any such image fails {at} {between}"
    often = f"1 in {1 / rate:.0f} such images fails"
    if rate > _OFTEN:
        often = f"{_number(rate)} % of such images fail"
    bound = "at most " if quality > found.curve.quality[-1] else ""
    return f"{bound}{often} {at} {between}"


def _number(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.1 or share == 0 else f"{100 * share:.1f}"


def _quality(q: float, low: float, high: float) -> str:
    if math.isinf(q):
        return "every Q measured" if q < 0 else "no Q measured"
    least = f"{low:.3f}" if math.isfinite(low) else "lower than measured"
    most = f"{high:.3f}" if math.isfinite(high) else "higher than measured"
    return f"{q:.3f} ({least} to {most})"
