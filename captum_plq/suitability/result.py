"""The result of :mod:`captum_plq.suitability`: figures, a verdict by a stated rule, a table."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, Literal

from captum_plq.suitability.separation import Separation
from captum_plq.suitability.sites import DropoutSite

__all__ = ["Reading", "Suitability", "Trial", "Verdict", "verdict_on"]

Verdict = Literal["informative", "weakly informative", "not informative"]
"""See :func:`verdict_on`."""

_CLEARLY = 0.75

RULE = (
    f"informative if the lower bound of the AUROC is above {_CLEARLY:g} for every degradation; "
    "weakly informative if those of AUROC and share are above 0.5 for more than half of them"
)
"""The rule of :func:`verdict_on` in one sentence."""


@dataclass(frozen=True)
class Trial:
    """One setting, tried on the first half of the images.

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
    """One setting, evaluated on the second half of the images.

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

        usual (Reading): The default of :class:`~captum_plq.SERFIQ`: before the last
            linear map, p = 0.5. Of a :class:`~captum_plq.SpatialSERFIQ`, its own.
        best (Reading): The setting with the highest mean AUROC on the first half of the images,
            evaluated on the second; ``usual`` itself if no other was significantly better.
        trials (list[Trial]): All settings, on the first half.
        images_choosing (int), images_judging (int): Sizes of the two halves.
        passes (int), seed (int): m, 0 where none are needed, and the seed of masks, degradations
            and resampling.
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
        """The verdict on the usual setting, which is what one gets by default."""
        return self.usual.verdict

    def to_json(self) -> dict[str, Any]:
        """Return everything as dicts, lists, numbers and strings, the verdict first."""
        return {"verdict": self.verdict, **asdict(self)}

    def table(self) -> str:
        """Format the verdict, the figures of the usual and best setting, and all trials.

        Returns:
            *str*: plain text without a final newline, of about 100 columns, and at most 25
            lines with the standard degradations.
        """
        readings = {"usual": self.usual}
        if self.best != self.usual:
            readings["best"] = self.best
        spatial = self.usual.site.is_spatial
        settings, rows = [], defaultdict[str, list[str]](list)
        for name, x in readings.items():
            where = "at" if x.site.is_spatial else "before"
            settings.append(f"{name:5}  p = {x.dropout:g} {where} {x.site}: {x.verdict}")
            rows[""] += [f"{name}: Q falls", "AUROC"]
            for degradation, found in x.degradations.items():
                rows[degradation] += [str(found.share), str(found.auroc)]
            rows["Q, clean images"] += [f"mean {x.quality:.4f}", f"spread {x.spread:.4f}"]
            noise = f"{x.standard_error / x.spread:.0%} of spread" if x.spread > 0 else "no spread"
            if not spatial:
                rows["sampling error of Q"] += [f"{x.standard_error:.4f}", noise]
        if len(readings) == 1 and not spatial:
            settings.append("best   the usual setting: no other is significantly better")
        trials = defaultdict[str, list[Trial]](list)
        for trial in self.trials:
            trials[str(trial.site)].append(trial)
        width = max(map(len, trials)) + 2
        rates = [f"p = {trial.dropout:g}" for trial in trials[str(self.trials[0].site)]]
        title = "SER-FIQ with its usual setting"
        chosen = f"best setting selected on {self.images_choosing} images, evaluation on "
        chosen += f"{self.images_judging} others; m = {self.passes}"
        if spatial:
            title = "SER-FIQ with dropout on the last spatial map, as local quality has it"
            chosen = f"evaluation on {self.images_judging} images; no passes"
        tried = [
            "",
            "Mean AUROC of all settings, on the images used for selection",
            _row("before", rates, width, 10),
            *(_row(x, [f"{t.auroc:.3f}" for t in of], width, 10) for x, of in trials.items()),
        ]
        lines = [
            f"{title}: {self.verdict}",
            f"{chosen}, seed {self.seed}; [{self.confidence:.0%} intervals]",
            "",
            *settings,
            "",
            *(_row(name, cells, 22, 19) for name, cells in rows.items()),
            *([] if spatial else tried),
            "",
            *textwrap.wrap(f"Rule: {self.rule}.", 100),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def verdict_on(degradations: Sequence[Separation]) -> Verdict:
    """Reach a verdict from the intervals of several degradations.

    *Informative*: for each, the lower bound of the AUROC is above 0.75, so that significantly more
    than three in four pairs of a clean and a degraded image are ordered rightly. *Weakly
    informative*: for more than half of them, the lower bounds of both AUROC and share are above
    0.5. *Not informative*: everything else, including a Q that rises where images get worse. Few
    images make wide intervals, which can only lower the verdict.

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


def _row(name: str, cells: Iterable[str], width: int, cell: int) -> str:
    return (f"{name:{width}}" + "".join(f"{x:{cell}}" for x in cells)).rstrip()
