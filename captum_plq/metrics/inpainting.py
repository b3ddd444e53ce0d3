"""Whether painting over what a map calls bad raises the quality (Sec. V-A of the paper).

There a person looks at the map and masks what lowers the quality; here the map's lowest region
of a given area is taken, so that any method can be tried and compared with a random map. The
painting itself is :func:`captum_plq.faces.inpaint`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq.metrics.checks import require_finite, require_maps

__all__ = ["Outcome", "QualitySpread", "lowest_region", "quality_outcome", "quality_spread"]

Outcome = Literal["improved", "unchanged", "decreased"]
"""What happened to the quality of an image."""


class QualitySpread(NamedTuple):
    """Mean quality of each image over several runs, and its standard deviation, (B,) each."""

    mean: Tensor
    sd: Tensor


def lowest_region(score_map: Tensor, area: int, *, pool: int = 5) -> Tensor:
    """The pixels a map calls worst, as a region of a given area.

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
    """Quality of images over several runs of SER-FIQ (Sec. V-A and Fig. 3: ten).

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
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be at least two different numbers, but got {tuple(seeds)}.")
    runs = torch.stack([quality(seed).detach() for seed in seeds])
    require_finite("The qualities", runs)
    return QualitySpread(runs.mean(0), runs.std(0))


def quality_outcome(before: Tensor, after: Tensor, sd: Tensor | float) -> tuple[Outcome, ...]:
    """Whether each quality rose, fell, or stayed within what chance alone does to it.

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
