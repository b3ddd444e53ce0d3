"""What chance and company do to a result: other dropout seeds, other images in the batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_plq.metrics.checks import require_finite, require_maps
from captum_plq.metrics.similarity import spearman

__all__ = [
    "AssessWithSeed",
    "BatchInvariance",
    "Repeatability",
    "batch_invariance",
    "repeatability",
]

AssessWithSeed = Callable[[int, int], tuple[Tensor, Tensor]]
"""m, the number of dropout passes, and a seed → score maps (B, H, W) and qualities (B,)."""


@dataclass(frozen=True)
class Repeatability:
    """How far two runs of different seeds agree at one number of passes.

    Each number is a mean over the pairs of seeds, those of maps and differences also over the
    images. A relative difference is the length of the difference over the mean length of both,
    in [0, 2].

    Args:

        passes (int): m.
        map_spearman (float): Rank correlation of an image's two maps. 1 by construction for
            the paper's map, which chance only scales.
        map_difference (float): Relative difference of an image's two maps.
        quality_spearman (float): Rank correlation of the images' qualities; NaN for one image,
            or if a run gives all the same quality.
        quality_difference (float): Relative difference of an image's two qualities.
    """

    passes: int
    map_spearman: float
    map_difference: float
    quality_spearman: float
    quality_difference: float


def repeatability(
    assess: AssessWithSeed, passes: Sequence[int] = (10, 30, 100), seeds: Sequence[int] = (0, 1, 2)
) -> tuple[Repeatability, ...]:
    """How maps and qualities repeat over dropout seeds, as a function of m.

    Args:

        assess (Callable): m and a seed → maps (B, H, W) and qualities (B,) of the same images.
        passes (sequence of int): The m to try.
        seeds (sequence of int): At least two, all different; every pair is compared.

    Returns:
        *tuple[Repeatability, ...]*: one for each m, in the order given.

    Raises:
        TypeError: if ``assess`` returns no floating-point tensors.
        ValueError: if there are fewer than two different seeds, or maps and qualities are not
            (B, H, W) and (B,) and finite.

    Examples::

        >>> def assess(passes, seed):
        ...     plq = PixelQualityAttribution(SERFIQ(model, passes=passes, seed=seed))
        ...     attributions, quality = plq.attribute(images, return_quality=True)
        ...     return merge_channels(attributions), quality
        >>> [found.quality_spearman for found in repeatability(assess)]  # say, 0.67, 0.84, 0.94
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least two different numbers, but got {tuple(seeds)}.")
    return tuple(_agreement(m, [_checked(*assess(m, seed)) for seed in seeds]) for m in passes)


def _agreement(passes: int, runs: list[tuple[Tensor, Tensor]]) -> Repeatability:
    numbers = []
    for (maps, quality), (other_maps, other_quality) in itertools.combinations(runs, 2):
        across = spearman(quality.view(1, 1, -1), other_quality.view(1, 1, -1))
        numbers.append(
            (
                spearman(maps, other_maps).mean(),
                _relative_difference(maps, other_maps).mean(),
                across.squeeze(0),
                _relative_difference(quality[:, None], other_quality[:, None]).mean(),
            )
        )
    means = (torch.stack(column).mean().item() for column in zip(*numbers, strict=True))
    return Repeatability(passes, *means)


def _relative_difference(values: Tensor, others: Tensor) -> Tensor:
    """(B, ...) each → (B,): length of the difference over the mean length; 0 if both are 0."""
    values, others = values.flatten(1), others.flatten(1)
    length = (values.norm(dim=1) + others.norm(dim=1)) / 2
    apart: Tensor = (values - others).norm(dim=1)
    return apart / torch.where(length > 0, length, 1.0)


def _checked(maps: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    maps = require_maps(maps, "The maps of assess").double()
    if quality.shape != maps.shape[:1]:
        raise ValueError(
            f"The qualities of assess must be ({len(maps)},), one per map, but got "
            f"{tuple(quality.shape)}."
        )
    require_finite("The qualities of assess", quality)
    return maps, quality.detach().double()


@dataclass(frozen=True)
class BatchInvariance:
    """How far an image's result depends on the images it comes with.

    Args:

        alone (float): Greatest absolute difference between an image alone and in the batch, in
            the units of the result.
        order (float): The same between the batch in another order and as it was.
    """

    alone: float
    order: float


def batch_invariance(
    function: Callable[[Tensor], Tensor], images: Tensor, *, seed: int = 0
) -> BatchInvariance:
    """Runs a function on images together, one by one, and together in another order.

    Not exactly 0 even where the images do not know of each other: kernels chosen by batch size
    round differently, as a rule by some 1e-6 of the result in float32.

    Args:

        function (Callable): Images (B, ...) → a result for each, (B, ...): maps, or qualities.
        images (Tensor): (B, ...), B ≥ 2.
        seed (int): Of the other order; the global random state is left alone.

    Returns:
        *BatchInvariance*: the two greatest differences.

    Raises:
        ValueError: if there are fewer than two images, or ``function`` does not return one
            finite result per image.

    Examples::

        >>> batch_invariance(SERFIQ(model), images).alone < 1e-5
        True
    """
    count = len(images)
    if count < 2:
        raise ValueError("images must be at least two, but got one: a batch is to be compared.")

    def run(batch: Tensor) -> Tensor:
        result = function(batch).detach()
        require_finite("What function returns", result)
        if result.ndim == 0 or len(result) != len(batch):
            raise ValueError(
                f"function must return one result per image, but {len(batch)} images gave "
                f"{tuple(result.shape)}."
            )
        return result.double()

    together = run(images)
    alone = torch.cat([run(image) for image in images.split(1)])
    generator = torch.Generator().manual_seed(seed)
    turn = int(torch.randint(1, count, (), generator=generator))
    order = torch.randperm(count, generator=generator)
    if torch.equal(order, torch.arange(count)):
        order = order.roll(turn)
    order = order.to(images.device)
    reordered = run(images[order])
    return BatchInvariance(
        alone=float((alone - together).abs().max()),
        order=float((reordered - together[order.to(together.device)]).abs().max()),
    )
