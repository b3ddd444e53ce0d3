"""What chance and company do to a result: other dropout seeds, other images in the batch.

And what goes beyond chance: whether painting over what a map calls bad raises the quality (Sec. V-A
of the paper). There a person looks at the map and masks what lowers the quality; here the map's
lowest region of a given area is taken, so that any method can be tried and compared with a random
map. The painting itself is :func:`captum_plq.faces.inpaint`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq.metrics.checks import require_finite, require_maps, require_seeds
from captum_plq.metrics.maps import spearman

__all__ = [
    "AssessWithSeed",
    "BatchInvariance",
    "Outcome",
    "QualitySpread",
    "Repeatability",
    "batch_invariance",
    "lowest_region",
    "quality_outcome",
    "quality_spread",
    "repeatability",
]

AssessWithSeed = Callable[[int, int], tuple[Tensor, Tensor]]
"""m, the number of dropout passes, and a seed → score maps (B, H, W) and qualities (B,)."""

Outcome = Literal["improved", "unchanged", "decreased"]
"""What happened to the quality of an image."""


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
    """Measure how maps and qualities repeat over dropout seeds, as a function of m.

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
    require_seeds(seeds)
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
    """Run a function on images together, one by one, and together in another order.

    Not exactly 0 even where the images do not know of each other: kernels chosen by batch size
    round differently, as a rule by some 1e-6 of the result in float32.

    Args:

        function (Callable): Images (B, ...) → a result for each, (B, ...): maps, or qualities.
        images (Tensor): (B, ...), B ≥ 2.
        seed (int): For the other order; the global random state is left alone.

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


class QualitySpread(NamedTuple):
    """Mean quality of each image over several runs, and its standard deviation, (B,) each."""

    mean: Tensor
    sd: Tensor


def lowest_region(score_map: Tensor, area: int, *, pool: int = 5) -> Tensor:
    """Return the pixels that a map calls worst, as a region of a given area.

    The map is first averaged over a box around each pixel (at the edge over what is there of
    it), so that what is found is patches rather than scattered pixels; it need not be in one
    piece. Of ties, the first in reading order are taken.

    Args:

        score_map (Tensor): (H, W), higher is better.
        area (int): In pixels, from 1 to H·W.
        pool (int): Side of the box in pixels, odd; 1 averages nothing.

    Returns:
        *Tensor*: (H, W), bool, true at exactly ``area`` pixels.

    Raises:
        TypeError: if ``score_map`` is no floating-point tensor.
        ValueError: if it is not (H, W) and finite, or ``area`` or ``pool`` is out of range.

    Examples::

        >>> mask = lowest_region(pixel_quality_map, 20 * 20)
        >>> repaired = inpaint(chip, mask.numpy())
    """
    if not isinstance(score_map, Tensor):
        kind = type(score_map).__name__
        raise TypeError(f"score_map must be a floating-point tensor, but got {kind}.")
    if score_map.ndim != 2:
        raise ValueError(f"score_map must be (H, W), but got {tuple(score_map.shape)}.")
    scores = require_maps(score_map[None], "score_map").double()
    if not 1 <= area <= scores.numel():
        raise ValueError(f"area must be from 1 to {scores.numel()} pixels, but got {area}.")
    if pool < 1 or pool % 2 == 0:
        raise ValueError(f"pool must be an odd number of pixels, but got {pool}.")
    pooled = F.avg_pool2d(scores, pool, 1, pool // 2, count_include_pad=False).flatten()
    region = torch.zeros_like(pooled, dtype=torch.bool)
    region[pooled.argsort(stable=True)[:area]] = True
    return region.view_as(score_map)


def quality_spread(
    quality: Callable[[int], Tensor], seeds: Sequence[int] = tuple(range(10))
) -> QualitySpread:
    """Run SER-FIQ several times on the same images (Sec. V-A and Fig. 3: ten times).

    Args:

        quality (Callable): A dropout seed → qualities (B,) of the same images.
        seeds (sequence of int): At least two, all different.

    Returns:
        *QualitySpread*: mean and standard deviation (of a sample: n − 1), (B,) each.

    Raises:
        ValueError: if there are fewer than two different seeds, or a quality is not finite.

    Examples::

        >>> before = quality_spread(lambda seed: SERFIQ(model, seed=seed)(images))
    """
    require_seeds(seeds)
    runs = torch.stack([quality(seed).detach() for seed in seeds])
    require_finite("The qualities", runs)
    return QualitySpread(runs.mean(0), runs.std(0))


def quality_outcome(before: Tensor, after: Tensor, sd: Tensor | float) -> tuple[Outcome, ...]:
    """Return whether each quality rose, fell, or stayed within what chance alone does to it.

    Sec. V-A: a change within the standard deviation of the quality (of ten runs, see
    :func:`quality_spread`) is negligible; beyond it the inpainting improved the image, or the
    quality decreased. The paper does not say whether that of the image before or after; to be
    on the safe side, take the larger: ``torch.maximum(first.sd, second.sd)``.

    Args:

        before (Tensor): (n,), qualities of the images as they were.
        after (Tensor): (n,), those of the same images inpainted.
        sd (Tensor or float): (n,), or one for all: standard deviation, ≥ 0, in units of Q.

    Returns:
        *tuple of str*: n times ``"improved"`` (after − before > sd), ``"decreased"``
        (before − after > sd) or ``"unchanged"``.

    Raises:
        ValueError: if the shapes do not fit, a number is not finite, or ``sd`` is negative.

    Examples::

        >>> quality_outcome(torch.tensor([0.5, 0.5]), torch.tensor([0.7, 0.51]), 0.02)
        ('improved', 'unchanged')
    """
    spread = torch.as_tensor(sd, dtype=before.dtype, device=before.device)
    if before.ndim != 1 or before.shape != after.shape or spread.shape not in ((), before.shape):
        raise ValueError(
            "Qualities before and after must be (n,) each, their standard deviation one number or "
            f"(n,), but got {tuple(before.shape)}, {tuple(after.shape)}, {tuple(spread.shape)}."
        )
    for name, values in (("before", before), ("after", after), ("sd", spread)):
        require_finite(name, values)
    if bool((spread < 0).any()):
        raise ValueError("sd is a standard deviation and cannot be negative.")
    change = after - before
    signs = change.sign() * (change.abs() > spread)
    words: dict[int, Outcome] = {1: "improved", 0: "unchanged", -1: "decreased"}
    return tuple(words[int(sign)] for sign in signs)
