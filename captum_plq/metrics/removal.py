"""In which order pixels go, how many at a time, and what is measured of each image on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq.metrics.checks import require_finite
from captum_plq.metrics.imputation import Imputer

__all__ = ["Curve", "Order", "area_under_curve", "measure_along", "removal_rank"]

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


def area_under_curve(curve: Curve) -> Tensor:
    """Area under a curve by the trapezoidal rule: its mean over the share of pixels.

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
    """At which place of the order each pixel comes.

    ``"highest-first"`` is ``"lowest-first"`` backwards, pixels of equal score included.

    Args:

        score_map (Tensor): (B, H, W), a score per pixel, finite.
        order (str): ``"lowest-first"`` or ``"highest-first"``.
        tie_seed (int, optional): Pixels of equal score come in a random order, the same for all
            images, so that a map that is constant gets the curve of chance and not one from top
            to bottom. ``None``: by position, row by row ("lowest-first" from top left).

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
    """Measures each image at each step of its removal, a bounded number at a time.

    Step k of n removes the first round(k/n · H·W) pixels of the order from the image *as it
    is*, halves rounded to even: nothing accumulates. To insert, the first pixels of the order
    stay and the others are removed.

    Args:

        measure (Callable): Images (n, C, H, W), and which of ``images`` each was made from,
            (n,), → (n,). Called without autograd.
        images (Tensor): (B, C, H, W), floating point.
        score_map (Tensor): (B, H, W).
        order (str): see :func:`removal_rank`.
        impute (Imputer): What removed pixels become.
        steps (int): n, at least 1.
        rows (int): How many images to make and measure at a time, at least 1.
        tie_seed (int, optional): see :func:`removal_rank`.
        insert (bool): Insert rather than remove.

    Returns:
        *Curve*: ``values`` is (B, steps + 1).

    Raises:
        ValueError: if an argument is not as above, ``steps`` exceeds the number of pixels, or
            ``measure`` returns another shape.
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
