r"""Perturbation curves: how a score falls when pixels go in the order of a map.

The conventions, here and throughout this package:

- A score map is (B, H, W), and **higher is better**: the more useful pixel. So "most relevant
  first" (MoRF) is ``order="highest-first"``, and "least relevant first" (LeRF) is
  ``order="lowest-first"``.
- The score is of the whole image, higher is better, one number per image.
- A faithful map gives a *low* area when its highest pixels are removed first, and a *high* one
  when they are inserted first or its lowest are removed first. No area says anything alone:
  compare it with that of a random map, under the same imputer.
- Whatever is measured along a curve must be the same function at each step, as a
  :class:`~captum_plq.SERFIQ` is, whose dropout masks are seeded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq.metrics.checks import require_finite
from captum_plq.metrics.imputation import Imputer

__all__ = [
    "Curve",
    "Order",
    "Score",
    "area_under_curve",
    "insertion_curve",
    "measure_along",
    "perturbation_curve",
    "removal_rank",
    "srg",
]

Score = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) → their scores (n,), higher is better."""

Order = Literal["lowest-first", "highest-first"]
"""Which pixels come first: those of lowest score, or those of highest."""


class Curve(NamedTuple):
    """What was measured while more and more pixels were removed, or inserted.

    Args:

        fractions (Tensor): (steps + 1,), float64: the share of pixels removed (or inserted),
            from 0 to 1.
        values (Tensor): (..., steps + 1): what was measured there, of each image.
    """

    fractions: Tensor
    values: Tensor


def perturbation_curve(
    score: Score,
    images: Tensor,
    score_map: Tensor,
    *,
    order: Order,
    impute: Imputer,
    steps: int = 20,
    rows: int = 64,
    tie_seed: int | None = 0,
) -> Curve:
    """Measure a score while pixels are removed in the order of a map (deletion).

    Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", IEEE
    TNNLS 2017, by single pixels; with ``"highest-first"`` the deletion game of Petsiuk et al.,
    "RISE", BMVC 2018. Step k of n removes the first round(k/n · H·W) pixels from the image as
    it is, in all channels.

    Args:

        score (Callable): Images (n, C, H, W) → (n,), higher is better. Called without autograd.
        images (Tensor): (B, C, H, W), floating point, in the units ``score`` takes.
        score_map (Tensor): (B, H, W), higher is better; no NaN.
        order (str): ``"highest-first"`` removes the best pixels first, ``"lowest-first"`` the
            worst.
        impute (Imputer): What removed pixels become, see :mod:`captum_plq.metrics.imputation`.
        steps (int): n; the curve has n + 1 points. Default: 20, 5 % of the pixels at a time.
        rows (int): How many images to put through ``score`` at a time. Bounds memory; does not
            change results. Default: 64.
        tie_seed (int, optional): For the order of pixels of equal score, the same for all images,
            so that a constant map gets the curve of chance. ``None``: by position, row by row.

    Returns:
        *Curve*: ``values`` is (B, steps + 1), first of the images as they are, last of images
        without any pixel; ``fractions`` is (steps + 1,), the share removed.

    Raises:
        ValueError: if an argument is not as above, or ``score`` returns another shape.

    Examples::

        >>> serfiq = SERFIQ(model)
        >>> curve = perturbation_curve(
        ...     serfiq, images, maps, order="highest-first", impute=mean_colour
        ... )
        >>> area_under_curve(curve)  # (B,), low for a faithful map
    """
    return measure_along(
        lambda x, _: score(x),
        images,
        score_map,
        order=order,
        impute=impute,
        steps=steps,
        rows=rows,
        tie_seed=tie_seed,
        insert=False,
    )


def insertion_curve(
    score: Score,
    images: Tensor,
    score_map: Tensor,
    *,
    order: Order,
    impute: Imputer,
    steps: int = 20,
    rows: int = 64,
    tie_seed: int | None = 0,
) -> Curve:
    """Measure a score while pixels are put back, in the order of a map, into an image without any.

    With ``"highest-first"`` and :func:`~captum_plq.metrics.blurred` the insertion game of Petsiuk
    et al., "RISE", BMVC 2018. Step k of n inserts the first round(k/n · H·W) pixels; the others
    are imputed from the image as it is.

    To insert the highest first is to remove the lowest first, read from the end (up to the
    rounding of half a pixel).

    Args:

        score (Callable): as for :func:`perturbation_curve`, like the other arguments.
        images (Tensor): (B, C, H, W).
        score_map (Tensor): (B, H, W).
        order (str): ``"highest-first"`` inserts the best pixels first.
        impute (Imputer): What pixels show before they are inserted.
        steps (int): n.
        rows (int): How many images at a time.
        tie_seed (int, optional): For the order of pixels of equal score.

    Returns:
        *Curve*: ``values`` is (B, steps + 1), first without any pixel, last of the images as
        they are; ``fractions`` is (steps + 1,), the share inserted.

    Raises:
        ValueError: as :func:`perturbation_curve`.

    Examples::

        >>> curve = insertion_curve(
        ...     serfiq, images, maps, order="highest-first", impute=blurred(5.0)
        ... )
        >>> area_under_curve(curve)  # (B,), high for a faithful map
    """
    return measure_along(
        lambda x, _: score(x),
        images,
        score_map,
        order=order,
        impute=impute,
        steps=steps,
        rows=rows,
        tie_seed=tie_seed,
        insert=True,
    )


def srg(
    score: Score,
    images: Tensor,
    score_map: Tensor,
    *,
    impute: Imputer,
    steps: int = 20,
    rows: int = 64,
    tie_seed: int | None = 0,
) -> Tensor:
    r"""Return the symmetric relevance gain: the area between the two orders of removal.

    .. math:: \mathrm{SRG} = \mathrm{AUC}(\text{lowest first}) - \mathrm{AUC}(\text{highest first})

    Blücher, Vielhaben and Strodthoff, "Decoupling Pixel Flipping and Occlusion Strategy for
    Consistent XAI Benchmarks", TMLR 2024. Lowest first is their LIF (or LeRF), highest first
    their MIF (or MoRF). What a random order would give cancels, and with it most of what the
    imputer does: methods rank alike under different imputers.

    Args:

        score (Callable): as for :func:`perturbation_curve`, like the other arguments.
        images (Tensor): (B, C, H, W).
        score_map (Tensor): (B, H, W).
        impute (Imputer): What removed pixels become.
        steps (int): n.
        rows (int): How many images at a time.
        tie_seed (int, optional): For the order of pixels of equal score.

    Returns:
        *Tensor*: (B,), in the units of the score. Above 0 if the map ranks pixels better than
        chance, whose expected value is 0; the negated map has the opposite value.

    Raises:
        ValueError: as :func:`perturbation_curve`.

    Examples::

        >>> srg(serfiq, images, maps, impute=road()).mean()
    """
    along = partial(perturbation_curve, score, images, score_map, impute=impute, tie_seed=tie_seed)
    lowest = along(order="lowest-first", steps=steps, rows=rows)
    highest = along(order="highest-first", steps=steps, rows=rows)
    return area_under_curve(lowest) - area_under_curve(highest)


def area_under_curve(curve: Curve) -> Tensor:
    """Return the area under a curve by the trapezoidal rule: its mean over the share of pixels.

    Args:

        curve (Curve): its ``values`` are (..., steps + 1).

    Returns:
        *Tensor*: (...,), in the units of ``values``, since the fractions go from 0 to 1; NaN
        where a value is not finite.

    Raises:
        ValueError: if a fraction is not finite.

    Examples::

        >>> fractions = torch.tensor([0.0, 0.5, 1.0])
        >>> area_under_curve(Curve(fractions, torch.tensor([1.0, 0.5, 0.2])))
        tensor(0.5500)
    """
    require_finite("fractions", curve.fractions)
    values = torch.where(curve.values.isfinite(), curve.values, torch.nan)
    return torch.trapezoid(values, curve.fractions.to(values), dim=-1)


def removal_rank(score_map: Tensor, order: Order, *, tie_seed: int | None = 0) -> Tensor:
    """Return at which place of the order each pixel comes.

    ``"highest-first"`` is ``"lowest-first"`` backwards, pixels of equal score included.

    Args:

        score_map (Tensor): (B, H, W), a score per pixel, finite.
        order (str): ``"lowest-first"`` or ``"highest-first"``.
        tie_seed (int, optional): as for :func:`perturbation_curve`.

    Returns:
        *Tensor*: (B, H, W), int64: 0 for the pixel that comes first, H·W − 1 for the last.

    Raises:
        ValueError: if ``score_map`` is not (B, H, W) and finite, or ``order`` is unknown.

    Examples::

        >>> removal_rank(torch.tensor([[[0.1, 0.9], [0.5, 0.3]]]), "highest-first")
        tensor([[[3, 0],
                 [1, 2]]])
    """
    require_choice("order", order, Order)
    if score_map.ndim != 3 or score_map.numel() == 0:
        raise ValueError(
            "score_map must be (B, H, W), channels merged, not empty, but got "
            f"{tuple(score_map.shape)}."
        )
    require_finite("score_map", score_map)
    scores = score_map.detach().flatten(1)
    pixels = scores.shape[1]
    if tie_seed is None:
        shuffled = torch.arange(pixels, device=scores.device)
    else:
        generator = torch.Generator().manual_seed(tie_seed)
        shuffled = torch.randperm(pixels, generator=generator).to(scores.device)
    sequence = shuffled[scores[:, shuffled].argsort(dim=1, stable=True)]
    if order == "highest-first":
        sequence = sequence.flip(1)
    places = torch.arange(pixels, device=scores.device).expand_as(sequence)
    return torch.empty_like(sequence).scatter_(1, sequence, places).view(score_map.shape)


def measure_along(
    measure: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    score_map: Tensor,
    *,
    order: Order,
    impute: Imputer,
    steps: int,
    rows: int,
    tie_seed: int | None,
    insert: bool,
) -> Curve:
    """Measure each image at each step of its removal, a bounded number at a time.

    ``measure`` takes images (n, C, H, W), and which of ``images`` each was made from, (n,), and
    returns (n,). Pixels are removed from the image *as it is*, halves rounded to even: nothing
    accumulates. To insert, the first pixels of the order stay and the others are removed. The other
    arguments, the result and the errors are those of :func:`perturbation_curve`.
    """
    rank = removal_rank(score_map, order, tie_seed=tie_seed).to(images.device)
    if images.ndim != 4 or (images.shape[0], *images.shape[2:]) != rank.shape:
        raise ValueError(
            "images must be (B, C, H, W) and score_map (B, H, W) of the same size, but got "
            f"{tuple(images.shape)} and {tuple(score_map.shape)}."
        )
    require_finite("images", images)
    pixels = rank[0].numel()
    if not 1 <= steps <= pixels:
        raise ValueError(f"steps must be from 1 to the image's {pixels} pixels, but got {steps}.")
    if rows < 1:
        raise ValueError(f"rows must be at least 1, but got {rows}.")
    counts = torch.tensor([round(k * pixels / steps) for k in range(steps + 1)])
    made_from = torch.arange(len(images)).repeat_interleave(steps + 1).to(images.device)
    taken = counts.repeat(len(images)).to(images.device)
    parts = []
    with torch.no_grad():
        for index, count in zip(made_from.split(rows), taken.split(rows), strict=True):
            first = rank[index] < count[:, None, None]
            found = measure(impute(images[index], ~first if insert else first), index)
            if found.shape != index.shape:
                raise ValueError(
                    f"The score of {len(index)} images must be ({len(index)},), one number each, "
                    f"but its shape is {tuple(found.shape)}."
                )
            parts.append(found)
    return Curve(counts.double() / pixels, torch.cat(parts).view(len(images), steps + 1))
