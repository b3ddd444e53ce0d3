"""Which quality score is informative on a network: all of them on the same degraded images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_plq.faces.disturb.degrade import STANDARD_DEGRADATIONS, Degradation
from captum_plq.network.output import OutputSelector
from captum_plq.quality.scores import SCORES, QualityScore, make_score
from captum_plq.quality.serfiq import SERFIQ
from captum_plq.suitability.assess import check_images_to_degrade, degraded_batches
from captum_plq.suitability.result import RULE, Verdict, verdict_on
from captum_plq.suitability.separation import Estimate, Separation, auroc_gain, separation

__all__ = ["ScoreComparison", "ScoreReading", "compare_scores"]

_AGAINST = "serfiq"


@dataclass(frozen=True)
class ScoreReading:
    """What one score makes of images and of the same images degraded.

    Args:

        degradations (dict[str, Separation]): Degradation → share of images whose score falls, and
            AUROC, clean against degraded, with intervals.
        auroc (float): Mean over the degradations.
        gain (Estimate, optional): By how much that exceeds SER-FIQ's, paired by image. ``None``:
            this is SER-FIQ, or it was not tried.
        verdict (str): see :func:`~captum_plq.suitability.result.verdict_on`.
    """

    degradations: dict[str, Separation]
    auroc: float
    gain: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class ScoreComparison:
    """Several scores of a network on the same images, the highest mean AUROC first.

    The first of several is flattered by having been chosen: ``gain`` tells whether it is better
    than SER-FIQ, and other images whether that holds.

    Args:

        readings (dict[str, ScoreReading]): Score → what it makes of the images.
        failed (dict[str, str]): Score → why this network has none.
        images (int): How many.
        seed (int), confidence (float), resamples (int): Of degradations and bootstrap.
        rule (str): How verdicts are reached.
    """

    readings: dict[str, ScoreReading]
    failed: dict[str, str]
    images: int
    seed: int
    confidence: float
    resamples: int
    rule: str = RULE

    def to_json(self) -> dict[str, Any]:
        """Return everything as dicts, lists, numbers and strings."""
        return asdict(self)

    def table(self) -> str:
        """Format it, a row per score, as plain text without a final newline."""
        names = list(next(iter(self.readings.values())).degradations) if self.readings else []
        width = max(map(len, ("score", *self.readings))) + 2
        cells = [len(name) + 2 if len(name) > 7 else 9 for name in names]
        lines = [
            f"Scores on {self.images} images, clean against degraded; seed {self.seed}; "
            f"[{self.confidence:.0%} intervals]",
            "",
            f"{'AUROC':{width}}{'mean':7}{'over serfiq':24}"
            + "".join(f"{name:{cell}}" for name, cell in zip(names, cells, strict=True))
            + "verdict",
        ]
        for name, x in self.readings.items():
            own = [x.degradations[each].auroc.value for each in names]
            gain = "" if x.gain is None else f"{x.gain.value:+.3f} {_ends(x.gain)}"
            lines.append(
                f"{name:{width}}{x.auroc:<7.3f}{gain:24}"
                + "".join(f"{value:<{cell}.3f}" for value, cell in zip(own, cells, strict=True))
                + x.verdict
            )
        lines += ["", *(f"{name}: {why}" for name, why in self.failed.items())]
        return "\n".join([*lines, "", f"Rule: {self.rule}."])

    def __str__(self) -> str:
        return self.table()


def compare_scores(
    model: nn.Module,
    images: NDArray[np.uint8],
    *,
    scores: Sequence[str] | Mapping[str, QualityScore] = tuple(SCORES),
    degradations: Mapping[str, Degradation] = STANDARD_DEGRADATIONS,
    output: OutputSelector = None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
    batch_size: int = 4,
    progress: Callable[[str], object] | None = None,
) -> ScoreComparison:
    """Measure which quality scores fall on this network when images get worse.

    Examples::

        >>> comparison = compare_scores(model, chips, scores=("serfiq", "embedding-norm"))
        >>> print(comparison)

    Args:

        model (nn.Module): Takes (B, 3, H, W), floating point, RGB, 0–255, such as a
            :class:`~captum_plq.models.FaceModel`, on any device. It is left as it was.
        images (ndarray): (n, H, W, 3), uint8, RGB, n ≥ 20, as for
            :func:`~captum_plq.suitability.assess_suitability`.
        scores (sequence or mapping): Names of :data:`~captum_plq.quality.scores.SCORES`, or name →
            score of the model. Default: all names.
        degradations (mapping): Name → function of an image (H, W, 3) and a seed.
        output (int, str, Callable or None): Which part of the model's output is the embedding.
        seed (int): Of degradations (image i is given seed + i) and resampling. ≥ 0.
        confidence (float): Of the intervals.
        resamples (int): Of the bootstrap over images.
        batch_size (int): Images at a time, each with all its degradations.
        progress (Callable, optional): Called with a sentence after each batch.

    Returns:
        *ScoreComparison*: of the scores that the network has, and why it lacks the others.

    Raises:
        ValueError: for wrong or too few images, a bad parameter, or if the network has none of the
            scores.
        MissingExtraError: if Pillow (extra ``faces``) is not installed.
    """
    check_images_to_degrade(images, degradations, batch_size)
    parameter, failed = next(model.parameters(), torch.empty(0)), dict[str, str]()
    made = dict(scores) if isinstance(scores, Mapping) else dict[str, QualityScore]()
    for name in scores if not isinstance(scores, Mapping) else ():
        if name not in SCORES:
            make_score(name, model)  # says so
        try:
            made[name] = make_score(name, model, output=output)
        except ValueError as error:
            failed[name] = str(error)
    found: dict[str, list[Tensor]] = {name: [] for name in made}
    for chips in degraded_batches(images, degradations, seed, batch_size, progress):
        batch = torch.from_numpy(chips).permute(0, 3, 1, 2).to(parameter)
        for name in list(found):
            try:
                values = _scored(made[name], batch)
            except ValueError as error:
                failed[name] = str(error)
                del found[name]
                continue
            found[name].append(values.unflatten(0, (1 + len(degradations), -1)))
    if not found:
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
        raise ValueError(f"The network has none of these scores. {reasons}")
    values_of = {name: torch.cat(parts, dim=1) for name, parts in found.items()}
    bootstrap: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    against = values_of.get(_AGAINST)

    def read(name: str, own: Tensor) -> ScoreReading:
        clean, *degraded = own
        each = {
            key: separation(clean, x, **bootstrap)
            for key, x in zip(degradations, degraded, strict=True)
        }
        other = None if name == _AGAINST else against
        return ScoreReading(
            each,
            auroc=sum(x.auroc.value for x in each.values()) / len(each),
            gain=None if other is None else auroc_gain(own, other, **bootstrap),
            verdict=verdict_on(list(each.values())),
        )

    readings = {name: read(name, own) for name, own in values_of.items()}
    ordered = sorted(readings, key=lambda name: -readings[name].auroc)
    return ScoreComparison(
        {name: readings[name] for name in ordered}, failed, images=len(images), **bootstrap
    )


def _scored(score: QualityScore, batch: Tensor) -> Tensor:
    """Scores (b,), float64, on the CPU; a ``ValueError`` where there is no closed form."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No closed form")  # told as the reason of a failure
        values = score(batch).double().cpu()
    if isinstance(score, SERFIQ) and score.fallback_reason is not None:
        raise ValueError(score.fallback_reason)
    return values


def _ends(x: Estimate) -> str:
    return f"[{x.low:+.3f}, {x.high:+.3f}]"
