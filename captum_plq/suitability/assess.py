"""Whether SER-FIQ is informative on a network: measured on images that are degraded on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_plq.faces.disturb.degrade import STANDARD_DEGRADATIONS, Degradation
from captum_plq.functional import quality_with_standard_error
from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.embedding_layer import OutputSelector, chosen_layer
from captum_plq.network.tap import EmbeddingTap
from captum_plq.quality.spatial import SpatialSERFIQ
from captum_plq.suitability.result import Reading, Suitability, Trial, verdict_on
from captum_plq.suitability.separation import auroc, auroc_gain, separation
from captum_plq.suitability.sites import DropoutSite, find_dropout_sites

__all__ = ["assess_suitability", "check_images_to_degrade", "degraded_batches"]

_USUAL_DROPOUT = 0.5
_LEAST_IMAGES = 20


def assess_suitability(
    model: nn.Module | SpatialSERFIQ,
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
    """Measure whether SER-FIQ's quality falls on this network when images get worse.

    A useful quality score is lower for blurred, noisy, covered or coarse images. On some networks
    SER-FIQ's is, on others it is not, and only a measurement shows which. All images are degraded
    and scored with dropout at every usable place (see
    :func:`~captum_plq.suitability.sites.find_dropout_sites`) and every p, in one forward per
    place. The first half of the images chooses the best setting; the second half judges it,
    and the usual one, so that no figure is tuned on the images it is reported on. Another
    setting than the usual one is chosen only if its mean AUROC is significantly higher
    (:func:`~captum_plq.suitability.separation.auroc_gain`).

    Examples::

        >>> suitability = assess_suitability(load_model("dlib"), chips)
        >>> suitability.verdict  # of 200 faces of LFW: 'weakly informative'
        >>> print(suitability)
        >>> assess_suitability(SpatialSERFIQ(model), chips).usual.site.kind
        'last spatial map'

    Args:

        model (nn.Module or SpatialSERFIQ): Takes (B, 3, H, W), floating point, RGB, 0–255, such as
            a :class:`~captum_plq.models.FaceModel`; float32 or float64, on any device. It is
            left as it was. A :class:`~captum_plq.SpatialSERFIQ`, whose Q
            :class:`~captum_plq.LocalQuality` divides over places, is judged at its own place and
            p alone: its Q ranks images the same at every p, and takes no passes.
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
        progress (Callable, optional): Called with a sentence after each batch.

    Returns:
        *Suitability*: the verdict, and the figures it rests on.

    Raises:
        ValueError: for wrong or too few images, or a bad parameter; as
            :class:`~captum_plq.network.embedding_layer.EmbeddingLayerError` if the network
            cannot be used with SER-FIQ at all.
        MissingExtraError: if Pillow (extra ``faces``) is not installed.
    """
    check_images_to_degrade(images, degradations, batch_size)
    parameter = next(model.parameters(), torch.empty(0))
    if isinstance(model, SpatialSERFIQ) and (embedding_layer, output) != (None, None):
        raise ValueError("A SpatialSERFIQ has a place and an output of its own: give neither.")
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"The model must be float32 or float64, but is {parameter.dtype}.")

    def batch_of(chips: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(chips).permute(0, 3, 1, 2).to(parameter)

    settings: list[tuple[DropoutSite, float]]
    if isinstance(model, SpatialSERFIQ):
        passes, usual = 0, 0
        settings = [(_site_of(model, batch_of(images[:2])), model.dropout)]
        score = partial(_spatial_qualities, model)
    else:
        layer = chosen_layer(model, embedding_layer)
        sites = find_dropout_sites(model, batch_of(images[:2]), layer, output)
        rates = sorted({_USUAL_DROPOUT, *dropouts})
        usual = rates.index(_USUAL_DROPOUT)  # at the first site
        settings = [(site, rate) for site in sites for rate in rates]
        taps = [(EmbeddingTap(x.layer, output), _MasksOfRates(passes, rates, seed)) for x in sites]
        score = partial(_qualities, model, taps)
    found: list[Tensor] = []
    for chips in degraded_batches(images, degradations, seed, batch_size, progress):
        scores = score(batch_of(chips))
        found.append(scores.unflatten(-1, (1 + len(degradations), -1)))
    half = len(images) // 2
    # (settings, Q and its error, clean and degradations, images)
    choosing, judging = torch.cat(found, dim=-1).tensor_split([half], dim=-1)
    trials = [
        Trial(*setting, sum(auroc(clean, worse) for worse in degraded) / len(degraded))
        for setting, (clean, *degraded) in zip(settings, choosing[:, 0], strict=True)
    ]
    bootstrap: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}

    def read(number: int) -> Reading:
        (clean, *degraded), error = judging[number, 0], judging[number, 1, 0]
        each = {
            name: separation(clean, worse, **bootstrap)
            for name, worse in zip(degradations, degraded, strict=True)
        }
        return Reading(
            *settings[number],
            degradations=each,
            quality=float(clean.mean()),
            spread=float(clean.std()),
            standard_error=float(error.square().mean().sqrt()),
            verdict=verdict_on(list(each.values())),
        )

    best = max(range(len(trials)), key=lambda i: trials[i].auroc)
    if auroc_gain(choosing[best, 0], choosing[usual, 0], **bootstrap).low <= 0:
        best = usual
    usual_reading = read(usual)
    return Suitability(
        usual=usual_reading,
        best=usual_reading if best == usual else read(best),
        trials=trials,
        images_choosing=half,
        images_judging=len(images) - half,
        passes=passes,
        **bootstrap,
    )


class _MasksOfRates(DropoutMasks):
    """The masks of several dropout rates, one rate after another, so that one forward serves all.

    The scale of each rate is part of its masks, (rates · m, ...), float32.
    """

    def __init__(self, passes: int, rates: Sequence[float], seed: int) -> None:
        super().__init__(passes * len(rates), rates[0], seed)
        self.scale = 1.0
        self.of_rates = [DropoutMasks(passes, rate, seed) for rate in rates]

    def for_features(self, shape: torch.Size, device: torch.device) -> Tensor:
        return torch.cat([x.for_features(shape, device) * x.scale for x in self.of_rates])


def check_images_to_degrade(
    images: NDArray[np.uint8], degradations: Mapping[str, Degradation], batch_size: int
) -> None:
    """Raise a ``ValueError`` unless these are enough images, and there is a degradation."""
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


def degraded_batches(
    images: NDArray[np.uint8],
    degradations: Mapping[str, Degradation],
    seed: int,
    batch_size: int,
    progress: Callable[[str], object] | None,
) -> Iterator[NDArray[np.uint8]]:
    """Yield images, some at a time, each batch followed by all degraded versions of it.

    Args:

        images (ndarray): (n, H, W, 3), uint8.
        degradations (mapping): Name → function of an image and a seed.
        seed (int): Image i is given seed + i.
        batch_size (int): Images at a time, b.
        progress (Callable, optional): Called with a sentence once a batch is done with.

    Yields:
        *ndarray*: ((1 + degradations) · b, H, W, 3), uint8.
    """
    for first in range(0, len(images), batch_size):
        chips = images[first : first + batch_size]
        numbered = list(enumerate(chips, seed + first))
        worse = [
            np.stack([apply(chip, i) for i, chip in numbered]) for apply in degradations.values()
        ]
        yield np.concatenate([chips, *worse])
        if progress is not None:
            progress(f"{first + len(chips)} of {len(images)} images")


def _qualities(
    model: nn.Module, taps: Sequence[tuple[EmbeddingTap, _MasksOfRates]], batch: Tensor
) -> Tensor:
    """Q and its standard error at every site and rate, (sites · rates, 2, B), on the CPU.

    The same as ``SERFIQ(model, dropout=p).assess(batch, standard_error=True)`` for each rate p.
    """
    found: list[Tensor] = []
    with torch.no_grad():
        for tap, masks in taps:
            _, embeddings = tap.run(model, (batch,), masks)
            by_rate = embeddings.flatten(2).unflatten(1, (len(masks.of_rates), -1))
            found.append(torch.stack(quality_with_standard_error(by_rate)).permute(2, 0, 1).cpu())
    return torch.cat(found)


def _site_of(spatial: SpatialSERFIQ, batch: Tensor) -> DropoutSite:
    features = spatial.tail.run(spatial.model, (batch,), spatial.dropout).features
    return DropoutSite(str(spatial.tail.layer_name), "last spatial map", tuple(features.shape[1:]))


def _spatial_qualities(spatial: SpatialSERFIQ, batch: Tensor) -> Tensor:
    """Q, and that it has no sampling error, (1, 2, B), on the CPU."""
    quality = spatial(batch).cpu()
    return torch.stack([quality, torch.zeros_like(quality)])[None]
