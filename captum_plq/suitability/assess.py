"""Whether SER-FIQ means anything on a network: measured on images made worse on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_plq.faces.disturb.degrade import STANDARD_DEGRADATIONS, Degradation
from captum_plq.functional import quality_with_standard_error
from captum_plq.functional.masks import MasksOfRates
from captum_plq.network.embedding_layer import OutputSelector, chosen_layer
from captum_plq.network.tap import EmbeddingTap
from captum_plq.suitability.result import Reading, Suitability, Trial, Verdict, verdict_on
from captum_plq.suitability.separation import auroc, auroc_gain, separation
from captum_plq.suitability.sites import find_dropout_sites

__all__ = ["Reading", "Suitability", "Trial", "Verdict", "assess_suitability", "verdict_on"]

_USUAL_DROPOUT = 0.5
_LEAST_IMAGES = 20


def assess_suitability(
    model: nn.Module,
    images: NDArray[np.uint8],
    *,
    passes: int = 100,
    dropouts: Sequence[float] = (0.1, 0.3, 0.5, 0.7),
    degradations: Mapping[str, Degradation] = STANDARD_DEGRADATIONS,
    embedding_layer: str | None = None,
    output: OutputSelector = None,
    seed: int = 0,
    confidence: float = 0.95,
    resamples: int = 2000,
    batch_size: int = 4,
    progress: Callable[[str], object] | None = None,
) -> Suitability:
    """Measures whether SER-FIQ's quality falls on this network when images get worse.

    A quality score that is worth its name is lower for blurred, noisy, covered or coarse
    images. On some networks SER-FIQ's is, on others it is not, and nothing but a measurement
    tells. All images are degraded and scored with dropout at every usable place (see
    :func:`~captum_plq.suitability.sites.find_dropout_sites`) and every p, in one forward per
    place. The first half of the images chooses the best setting; the second half judges it,
    and the usual one, so that no figure is tuned on the images it is reported on. Another
    setting than the usual one is chosen only if its mean AUROC is surely higher
    (:func:`~captum_plq.suitability.separation.auroc_gain`).

    Args:

        model (nn.Module): Takes (B, 3, H, W), floating point, RGB, 0–255, such as a
            :class:`~captum_plq.models.FaceModel`; float32 or float64, on any device. It is
            left as it was.
        images (ndarray): (n, H, W, 3), uint8, RGB, n ≥ 20: faces aligned as the network
            expects, of ordinary quality, best of n people, or else sorted so that no person
            is in both halves. 200 give intervals of about ±0.04.
        passes (int): m, at least 3.
        dropouts (sequence of float): p to try; 0.5 is tried in any case.
        degradations (mapping): Name → function of an image (H, W, 3) and a seed. Default:
            blur, noise, a block, the lower face covered, few pixels; see
            :data:`~captum_plq.faces.disturb.degrade.STANDARD_DEGRADATIONS`.
        embedding_layer (str, optional): Where SER-FIQ usually drops out. ``None``: stated by
            the model, as for :class:`~captum_plq.SERFIQ`, or found.
        output (int, str, Callable or None): Which part of the model's output is the
            embedding, if it is not a tensor.
        seed (int): Of masks, degradations (image i is given seed + i) and resampling. ≥ 0.
        confidence (float): Of the intervals.
        resamples (int): Of the bootstrap over images.
        batch_size (int): Images at a time, each with all its degradations.
        progress (Callable, optional): Told in words how far it is.

    Returns:
        *Suitability*: the verdict, and the figures it rests on.

    Raises:
        ValueError: for wrong or too few images, or a bad parameter; as
            :class:`~captum_plq.network.embedding_layer.EmbeddingLayerError` if the network
            cannot be used with SER-FIQ at all.
        MissingExtraError: if Pillow (extra ``faces``) is not installed.

    Examples::

        >>> suitability = assess_suitability(load_model("dlib"), chips)
        >>> suitability.verdict  # of 200 faces of LFW: 'weakly informative'
        >>> print(suitability)
    """
    _check(images, degradations, batch_size)
    rates = sorted({_USUAL_DROPOUT, *dropouts})
    parameter = next(model.parameters(), torch.empty(0))
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"The model must be float32 or float64, but is {parameter.dtype}.")

    def batch_of(chips: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(chips).permute(0, 3, 1, 2).to(parameter)

    layer = chosen_layer(model, embedding_layer)
    sites = find_dropout_sites(model, batch_of(images[:2]), layer, output)
    taps = [(EmbeddingTap(x.layer, output), MasksOfRates(passes, rates, seed)) for x in sites]
    found: list[Tensor] = []
    for first in range(0, len(images), batch_size):
        chips = images[first : first + batch_size]
        seeds = range(seed + first, seed + first + len(chips))
        variants = [chips, *(_degraded(chips, apply, seeds) for apply in degradations.values())]
        batch = batch_of(np.concatenate(variants))
        of_batch = [_qualities(model, tap, masks, batch, len(rates)) for tap, masks in taps]
        found.append(torch.stack(of_batch).unflatten(-1, (len(variants), len(chips))))
        if progress is not None:
            progress(f"{first + len(chips)} of {len(images)} images")
    # (sites, rates, Q and its error, clean and degradations, images)
    scores = torch.cat(found, dim=-1)
    half = len(images) // 2
    settings = [
        (site, rate, scores[i, j]) for i, site in enumerate(sites) for j, rate in enumerate(rates)
    ]
    trials = [Trial(site, rate, _mean_auroc(x[0, :, :half])) for site, rate, x in settings]

    def read(number: int) -> Reading:
        site, rate, values = settings[number]
        quality, error = values[0, :, half:], values[1, 0, half:]
        each = {
            name: separation(
                quality[0], worse, confidence=confidence, resamples=resamples, seed=seed
            )
            for name, worse in zip(degradations, quality[1:], strict=True)
        }
        return Reading(
            site=site,
            dropout=rate,
            degradations=each,
            quality=float(quality[0].mean()),
            spread=float(quality[0].std()),
            standard_error=float(error.square().mean().sqrt()),
            verdict=verdict_on(list(each.values())),
        )

    usual = rates.index(_USUAL_DROPOUT)  # at the first site
    best = max(range(len(trials)), key=lambda i: trials[i].auroc)
    gain = auroc_gain(
        *(settings[i][2][0, :, :half] for i in (best, usual)),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )
    if gain.low <= 0:  # not surely better
        best = usual
    usual_reading = read(usual)
    return Suitability(
        usual=usual_reading,
        best=usual_reading if best == usual else read(best),
        trials=trials,
        images_choosing=half,
        images_judging=len(images) - half,
        passes=passes,
        seed=seed,
        confidence=confidence,
        resamples=resamples,
    )


def _check(
    images: NDArray[np.uint8], degradations: Mapping[str, Degradation], batch_size: int
) -> None:
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        raise ValueError(
            "images must be RGB of shape (n, H, W, 3) and type uint8, but got shape "
            f"{images.shape} and type {images.dtype}."
        )
    if len(images) < _LEAST_IMAGES:
        raise ValueError(
            f"Suitability takes at least {_LEAST_IMAGES} images (better 200), half to choose the "
            f"setting and half to judge it, but got {len(images)}."
        )
    if not degradations:
        raise ValueError("There must be at least one degradation.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but got {batch_size}.")


def _degraded(
    chips: NDArray[np.uint8], apply: Degradation, seeds: Sequence[int]
) -> NDArray[np.uint8]:
    return np.stack([apply(chip, seed) for chip, seed in zip(chips, seeds, strict=True)])


def _qualities(
    model: nn.Module, tap: EmbeddingTap, masks: MasksOfRates, batch: Tensor, rates: int
) -> Tensor:
    """Q and its standard error at every rate, (rates, 2, B), on the CPU.

    What ``SERFIQ(model, dropout=p).assess(batch, standard_error=True)`` gives for each rate p.
    """
    with torch.no_grad():
        _, embeddings = tap.run(model, (batch,), masks)
        by_rate = embeddings.flatten(2).unflatten(1, (rates, -1))
        quality, error = quality_with_standard_error(by_rate)
    return torch.stack([quality, error]).permute(2, 0, 1).cpu()


def _mean_auroc(quality: Tensor) -> float:
    """Of (1 + degradations, n) qualities, the clean ones first."""
    return sum(auroc(quality[0], worse) for worse in quality[1:]) / (len(quality) - 1)
