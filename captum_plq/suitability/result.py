"""What :mod:`captum_plq.suitability` finds: figures, a verdict by a stated rule, a table."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from captum_plq.suitability.separation import Estimate, Separation
from captum_plq.suitability.sites import DropoutSite

__all__ = ["Reading", "Suitability", "Trial", "Verdict", "verdict_on"]

Verdict = Literal["informative", "weakly informative", "not informative"]
"""What the readings amount to, see :func:`verdict_on`."""

_CLEARLY = 0.75
_NAME, _CELL, _LINE = 22, 19, 100

RULE = (
    f"informative: AUROC surely above {_CLEARLY:g} (lower bound) for every degradation; weakly: "
    "AUROC and share surely above 0.5 for more than half of them"
)
"""The rule of :func:`verdict_on` in one sentence."""


@dataclass(frozen=True)
class Trial:
    """One setting tried on the images that choose.

    Args:

        site (DropoutSite): Where features are dropped.
        dropout (float): p.
        auroc (float): Mean over the degradations.
    """

    site: DropoutSite
    dropout: float
    auroc: float


@dataclass(frozen=True)
class Reading:
    """One setting on the images that judge.

    Args:

        site (DropoutSite): Where features are dropped.
        dropout (float): p.
        degradations (dict[str, Separation]): Degradation → share of images whose Q falls, and
            AUROC of Q, clean against degraded, with intervals.
        quality (float): Mean Q of the clean images.
        spread (float): Standard deviation of Q between the clean images.
        standard_error (float): Of the Q of one clean image, from the finite number of passes
            (root mean square). In a ranking part of it cancels, as images share the masks.
        verdict (str): see :func:`verdict_on`.
    """

    site: DropoutSite
    dropout: float
    degradations: dict[str, Separation]
    quality: float
    spread: float
    standard_error: float
    verdict: Verdict


@dataclass(frozen=True)
class Suitability:
    """Whether SER-FIQ is informative on a network.

    Args:

        usual (Reading): As :class:`~captum_plq.SERFIQ` does by default: before the last
            linear map, p = 0.5.
        best (Reading): The setting with the highest mean AUROC on the images that chose,
            read on the others; ``usual`` itself, if no other was surely better there.
        trials (list[Trial]): All settings, on the images that chose.
        images_choosing (int), images_judging (int): How many images did what.
        passes (int), seed (int): m, and the seed of masks, degradations and resampling.
        confidence (float): Of the intervals.
        resamples (int): Of the bootstrap.
        rule (str): How verdicts are reached.
    """

    usual: Reading
    best: Reading
    trials: list[Trial]
    images_choosing: int
    images_judging: int
    passes: int
    seed: int
    confidence: float
    resamples: int
    rule: str = RULE

    @property
    def verdict(self) -> Verdict:
        """That of the usual setting, which one gets without asking for another."""
        return self.usual.verdict

    def to_json(self) -> dict[str, Any]:
        """All of it, verdict first, as dicts, lists, numbers and words."""
        return {"verdict": self.verdict, **asdict(self)}

    def table(self) -> str:
        """The verdict, the figures of the usual and the best setting, and all settings tried.

        Returns:
            *str*: plain text without a final newline, of about 100 columns, and at most 25
            lines with the standard degradations.
        """
        readings = {"usual": self.usual}
        if self.best != self.usual:
            readings["best"] = self.best
        lines = [
            f"SER-FIQ as usual on this network: {self.verdict}",
            f"{self.images_choosing} images chose the best setting, {self.images_judging} others "
            f"judge; m = {self.passes}, seed {self.seed}; [{self.confidence:.0%} intervals]",
            "",
            *(f"{name:5}  {_setting(x)}: {x.verdict}" for name, x in readings.items()),
        ]
        if len(readings) == 1:
            lines.append("best   the usual setting: no other is surely better")
        lines += [
            "",
            _row("", [cell for name in readings for cell in (f"{name}: Q falls", "AUROC")]),
            *(
                _row(name, [_cell(y) for x in readings.values() for y in _pair(x, name)])
                for name in self.usual.degradations
            ),
            _row("Q, clean images", [y for x in readings.values() for y in _quality(x)]),
            _row("sampling error of Q", [y for x in readings.values() for y in _error(x)]),
            "",
            "Mean AUROC of all settings, on the images that chose",
            *_trials(self.trials),
            "",
            *textwrap.wrap(f"Rule: {self.rule}.", _LINE),
        ]
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.table()


def verdict_on(degradations: Sequence[Separation]) -> Verdict:
    """What the intervals of several degradations amount to.

    *Informative*: for each, the lower bound of the AUROC is above 0.75, so that three in four
    pairs of a clean and a degraded image are surely ordered rightly. *Weakly informative*:
    for more than half of them, the lower bounds of both AUROC and share are above 0.5. *Not
    informative*: all else, a Q that rises where images get worse included. Few images make
    wide intervals, which can only lower the verdict.

    Args:

        degradations (sequence of Separation): At least one.

    Returns:
        *str*: ``"informative"``, ``"weakly informative"`` or ``"not informative"``.

    Raises:
        ValueError: if there are none, or a number is not finite.
    """
    if not degradations:
        raise ValueError("A verdict needs at least one degradation.")
    given = [value for x in degradations for of in (x.auroc, x.share) for value in astuple(of)]
    if not all(map(math.isfinite, given)):
        raise ValueError("There is no verdict on an AUROC or a share that is NaN or infinite.")
    if all(x.auroc.low > _CLEARLY for x in degradations):
        return "informative"
    noticed = [x.auroc.low > 0.5 and x.share.low > 0.5 for x in degradations]
    return "weakly informative" if 2 * sum(noticed) > len(noticed) else "not informative"


def _setting(reading: Reading) -> str:
    return f"p = {reading.dropout:g} before {_site(reading.site)}"


def _site(site: DropoutSite) -> str:
    return f"{site.layer or 'the model itself'} ({site.kind})"


def _row(name: str, cells: list[str]) -> str:
    return f"{name:{_NAME}}" + "".join(f"{cell:{_CELL}}" for cell in cells)


def _pair(reading: Reading, name: str) -> tuple[Estimate, Estimate]:
    return reading.degradations[name].share, reading.degradations[name].auroc


def _cell(x: Estimate) -> str:
    return f"{x.value:.2f} [{x.low:.2f}, {x.high:.2f}]"


def _quality(reading: Reading) -> tuple[str, str]:
    return f"mean {reading.quality:.4f}", f"spread {reading.spread:.4f}"


def _error(reading: Reading) -> tuple[str, str]:
    if not reading.spread > 0:  # also NaN
        return f"{reading.standard_error:.4f}", "there is no spread"
    return (
        f"{reading.standard_error:.4f}",
        f"{reading.standard_error / reading.spread:.0%} of spread",
    )


def _trials(trials: Sequence[Trial]) -> list[str]:
    sites = list(dict.fromkeys(trial.site for trial in trials))
    width = max(len(_site(site)) for site in sites) + 2
    rates = "".join(f"p = {t.dropout:<6g}" for t in trials if t.site == sites[0])
    of_site = {
        site: "".join(f"{t.auroc:<10.3f}" for t in trials if t.site == site) for site in sites
    }
    return [
        f"{'before':{width}}{rates}",
        *(f"{_site(site):{width}}{values}" for site, values in of_site.items()),
    ]
