r"""Perturbation curves: how a score falls when pixels go in the order of a map.

The conventions, here and throughout this package:

- A score map is (B, H, W), and **higher is better**: the more useful pixel. So "most relevant
  first" (MoRF) is ``order="highest-first"``, and "least relevant first" (LeRF) is
  ``order="lowest-first"``.
- The score is of the whole image, higher is better, one number per image.
- A faithful map gives a *low* area when its highest pixels are removed first, and a *high* one
  when they are inserted first or its lowest are removed first. No area says anything alone:
  compare it with that of a random map, under the same imputer.
- Whatever is measured along a curve must be the same function at each step. A
  :class:`~captum_plq.SERFIQ` is: its dropout masks are seeded, the same for all images and calls,
  so it does not move from step to step, and needs no freezing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from captum_plq.metrics.imputation import Imputer
from captum_plq.metrics.removal import Curve, Order, area_under_curve, measure_along

__all__ = ["Score", "insertion_curve", "perturbation_curve", "srg"]

Score = Callable[[Tensor], Tensor]
"""Images (n, C, H, W) → their scores (n,), higher is better."""


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
    """The score while pixels are removed in the order of a map (deletion).

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
        tie_seed (int, optional): Of the order of pixels of equal score, the same for all
            images. ``None``: by position. See :func:`~captum_plq.metrics.removal.removal_rank`.

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
        lambda rows_of_images, _: score(rows_of_images),
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
    """The score while pixels are put back, in the order of a map, into an image without any.

    With ``"highest-first"`` and :func:`~captum_plq.metrics.imputation.blurred` the insertion
    game of Petsiuk et al., "RISE", BMVC 2018. Step k of n inserts the first round(k/n · H·W)
    pixels; the others are imputed from the image as it is.

    It holds nothing that deletion does not: to insert the highest first is to remove the lowest
    first, read from the end (and up to the rounding of half a pixel).

    Args:

        score (Callable): as for :func:`perturbation_curve`.
        images (Tensor): as for :func:`perturbation_curve`.
        score_map (Tensor): as for :func:`perturbation_curve`.
        order (str): ``"highest-first"`` inserts the best pixels first.
        impute (Imputer): What pixels show before they are inserted.
        steps (int): as for :func:`perturbation_curve`.
        rows (int): as for :func:`perturbation_curve`.
        tie_seed (int, optional): as for :func:`perturbation_curve`.

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
        lambda rows_of_images, _: score(rows_of_images),
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
    r"""Symmetric relevance gain: the area between the two orders of removal.

    .. math:: \mathrm{SRG} = \mathrm{AUC}(\text{lowest first}) - \mathrm{AUC}(\text{highest first})

    Blücher, Vielhaben and Strodthoff, "Decoupling Pixel Flipping and Occlusion Strategy for
    Consistent XAI Benchmarks", TMLR 2024. Lowest first is their LIF (or LeRF), highest first
    their MIF (or MoRF). What a random order would give cancels, and with it most of what the
    imputer does: methods rank alike under different imputers.

    Args:

        score (Callable): as for :func:`perturbation_curve`.
        images (Tensor): as for :func:`perturbation_curve`.
        score_map (Tensor): as for :func:`perturbation_curve`.
        impute (Imputer): as for :func:`perturbation_curve`.
        steps (int): as for :func:`perturbation_curve`.
        rows (int): as for :func:`perturbation_curve`.
        tie_seed (int, optional): as for :func:`perturbation_curve`.

    Returns:
        *Tensor*: (B,), in the units of the score. Above 0 if the map ranks pixels better than
        chance, whose expected value is 0; the negated map has the opposite value.

    Raises:
        ValueError: as :func:`perturbation_curve`.

    Examples::

        >>> srg(serfiq, images, maps, impute=road()).mean()
    """
    lowest, highest = (
        area_under_curve(
            perturbation_curve(
                score,
                images,
                score_map,
                order=order,
                impute=impute,
                steps=steps,
                rows=rows,
                tie_seed=tie_seed,
            )
        )
        for order in _ORDERS
    )
    return lowest - highest


_ORDERS: tuple[Order, Order] = ("lowest-first", "highest-first")
