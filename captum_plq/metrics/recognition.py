"""Recognition errors while pixels go by a map, or pairs by their quality.

Pixels go in the manner of the deletion and insertion evaluation curves (DEC, IEC) of Huber et al.,
"On Evaluating Pixel-Level Face Image Quality Assessment", EUSIPCO 2022: they are deleted, or
inserted into a blurred image, by their quality, and recognition is measured on the way. Here
only the probe changes. The gallery image stays as it is, and so does the decision threshold,
which comes from clean impostor pairs; what is measured is the false non-match rate. Higher
scores are better, see :mod:`captum_plq.metrics.perturbation`.

The decision throughout: a pair **matches if its score is at or above the threshold**.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq._base.precision import at_least_float32
from captum_plq.metrics.checks import require_finite
from captum_plq.metrics.imputation import Imputer
from captum_plq.metrics.perturbation import Curve, Order, measure_along

__all__ = [
    "DiscardCurve",
    "Way",
    "error_versus_discard",
    "false_non_match_curve",
    "fnmr",
    "partial_area",
    "similarity_curve",
    "threshold_at_fmr",
]

Way = Literal["deletion", "insertion"]
"""Whether pixels are removed from the probe or inserted into one without any."""


def similarity_curve(
    embed: Callable[[Tensor], Tensor],
    probes: Tensor,
    gallery: Tensor,
    score_map: Tensor,
    *,
    way: Way,
    order: Order,
    impute: Imputer,
    steps: int = 20,
    rows: int = 64,
    tie_seed: int | None = 0,
) -> Curve:
    """Measure the cosine similarity of each pair while pixels of its probe go, or come back.

    Args:

        embed (Callable): Images (n, C, H, W) → embeddings (n, d). Called without autograd.
        probes (Tensor): (B, C, H, W), floating point, in the units ``embed`` takes.
        gallery (Tensor): (B, d), the embedding of the image that each probe is compared with;
            it does not change.
        score_map (Tensor): (B, H, W), of the probes, higher is better; finite.
        way (str): ``"deletion"`` or ``"insertion"``.
        order (str): as for :func:`~captum_plq.metrics.perturbation_curve` and
            :func:`~captum_plq.metrics.insertion_curve`, like the arguments from here on.
        impute (Imputer): What removed pixels become, or show before they are inserted.
        steps (int): The curve has one point more.
        rows (int): How many images at a time.
        tie_seed (int, optional): For the order of pixels of equal score.

    Returns:
        *Curve*: ``values`` is (B, steps + 1), in [-1, 1]; NaN where an embedding is not finite,
        0 where one has length 0, as of an image that nothing is left of.

    Raises:
        ValueError: if an argument is not as above, or ``embed`` returns another shape.

    Examples::

        >>> curve = similarity_curve(
        ...     model, probes, model(references), maps,
        ...     way="deletion", order="lowest-first", impute=black,
        ... )
        >>> threshold = threshold_at_fmr(impostor_scores, 1e-3)
        >>> dec = false_non_match_curve(curve, threshold)
        >>> area_under_curve(dec)
    """
    require_choice("way", way, Way)
    if gallery.ndim != 2 or len(gallery) != len(probes):
        raise ValueError(
            "gallery must be (B, d), one embedding per probe, but got "
            f"{tuple(gallery.shape)} for {len(probes)} probes."
        )
    require_finite("gallery", gallery)
    if bool((gallery == 0).all(1).any()):
        raise ValueError("gallery holds an embedding of length 0, which is like no other.")
    references = at_least_float32(gallery.detach()).to(probes.device)

    def cosine(images: Tensor, index: Tensor) -> Tensor:
        embeddings = at_least_float32(embed(images))
        if embeddings.shape != (len(index), references.shape[1]):
            raise ValueError(
                f"embed must give {(len(index), references.shape[1])} for {len(index)} images, "
                f"as the gallery has, but gave {tuple(embeddings.shape)}."
            )
        found = F.cosine_similarity(embeddings, references[index], dim=1)
        return torch.where(embeddings.isfinite().all(1), found, torch.nan)

    return measure_along(
        cosine,
        probes,
        score_map,
        order=order,
        impute=impute,
        steps=steps,
        rows=rows,
        tie_seed=tie_seed,
        insert=way == "insertion",
    )


def threshold_at_fmr(impostor_scores: Tensor, fmr: float = 1e-3) -> float:
    r"""Return the lowest threshold at which the false match rate is not above ``fmr``.

    Of n impostor scores at most k, the largest whole number with k/n ≤ ``fmr``, may be at or
    above it: it is the next number of the scores' precision above the (k+1)-th highest score.
    If that score ties with higher ones, all of them are refused, so the false match rate may be
    below ``fmr``, never above.

    Args:

        impostor_scores (Tensor): (n,), similarities of pairs of different people, finite;
            n ≥ 1/``fmr``, else no false match could be allowed and nothing was measured. (Some
            ten times as many make it precise.)
        fmr (float): In (0, 1). Default: 0.001.

    Returns:
        *float*: t; a pair matches if its score ≥ t.

    Raises:
        ValueError: if the scores are too few, not (n,), or not finite, or ``fmr`` is not in
            (0, 1).

    Examples::

        >>> threshold_at_fmr(torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.25)  # 0.4 alone may match
        0.3000000...
    """
    if not 0 < fmr < 1:
        raise ValueError(f"fmr must be strictly between 0 and 1, but got {fmr}.")
    if impostor_scores.ndim != 1:
        raise ValueError(f"impostor_scores must be (n,), but got {tuple(impostor_scores.shape)}.")
    require_finite("impostor_scores", impostor_scores)
    count = max(1, len(impostor_scores))
    allowed = int(fmr * count) + 1  # from above, since the product may round either way
    while allowed and allowed / count > fmr:
        allowed -= 1
    if allowed == 0:
        raise ValueError(
            f"A false match rate of {fmr:g} needs at least {math.ceil(1 / fmr)} impostor scores, "
            f"but got {len(impostor_scores)}: give more, or a higher fmr."
        )
    scores = at_least_float32(impostor_scores.detach()).sort(descending=True).values
    refused = scores[allowed]
    return float(torch.nextafter(refused, torch.full_like(refused, torch.inf)))


def fnmr(mated_scores: Tensor, threshold: float) -> Tensor:
    """Return the false non-match rate: the share of mated pairs with a score below the threshold.

    Args:

        mated_scores (Tensor): (n, ...), similarities of pairs of the same person, finite.
        threshold (float): A pair matches if its score is at or above it.

    Returns:
        *Tensor*: (...,), float64, in [0, 1].

    Raises:
        ValueError: if there are no pairs, or a score or the threshold is not finite.

    Examples::

        >>> fnmr(torch.tensor([0.2, 0.5, 0.7]), 0.5)
        tensor(0.3333, dtype=torch.float64)
    """
    if mated_scores.ndim < 1 or len(mated_scores) == 0:
        raise ValueError(
            f"mated_scores must be (n, ...), n ≥ 1, but got {tuple(mated_scores.shape)}."
        )
    require_finite("mated_scores", mated_scores)
    require_finite("threshold", threshold)
    return (at_least_float32(mated_scores) < threshold).double().mean(0)


def false_non_match_curve(similarities: Curve, threshold: float) -> Curve:
    """Turn the similarities of mated pairs at each step into the false non-match rate there.

    Args:

        similarities (Curve): of :func:`similarity_curve`, over mated pairs.
        threshold (float): Fixed for the whole curve, as by :func:`threshold_at_fmr`.

    Returns:
        *Curve*: ``values`` is (steps + 1,), in [0, 1].

    Raises:
        ValueError: as :func:`fnmr`.

    Examples::

        >>> dec = false_non_match_curve(curve, threshold)
        >>> area_under_curve(dec)
    """
    require_finite("fractions", similarities.fractions)
    return Curve(similarities.fractions, fnmr(similarities.values, threshold))


class DiscardCurve(NamedTuple):
    """A step function: from one discarded share up to the next, the error stays as it is.

    Args:

        discarded (Tensor): (k,), float64, rising from 0: the share of pairs left out, at each
            quality that occurs.
        errors (Tensor): (k,), float64, in [0, 1]: the false non-match rate of the others. The
            first is the starting error, of all pairs; the last holds up to a share of 1.
    """

    discarded: Tensor
    errors: Tensor

    @property
    def starting_error(self) -> float:
        """The false non-match rate of all pairs, by which areas may be normalised."""
        return float(self.errors[0])


def error_versus_discard(
    comparison_scores: Tensor, quality_first: Tensor, quality_second: Tensor, threshold: float
) -> DiscardCurve:
    """Measure the false non-match rate of mated pairs while those of lowest quality are discarded.

    Schlett et al., "Considerations on the Evaluation of Biometric Quality Assessment
    Algorithms", IEEE T-BIOM 2024; also ISO/IEC 29794-1. The quality of a pair is the lower of
    its two; pairs of equal quality are discarded together, as a threshold of quality would; the
    decision threshold stays.

    Args:

        comparison_scores (Tensor): (n,), similarities of mated pairs, finite.
        quality_first (Tensor): (n,), quality of the first image of each pair, finite.
        quality_second (Tensor): (n,), of the second.
        threshold (float): A pair matches if its score is at or above it, see
            :func:`threshold_at_fmr`.

    Returns:
        *DiscardCurve*: one point per quality that occurs; never without any pair.

    Raises:
        ValueError: if these are not equally many numbers, at least one each, or one is not finite.

    Examples::

        >>> scores = torch.tensor([0.1, 0.8, 0.9, 0.7])
        >>> curve = error_versus_discard(
        ...     scores, torch.tensor([1.0, 2.0, 3.0, 3.0]), torch.tensor([5.0] * 4), 0.5
        ... )
        >>> curve.discarded.tolist(), curve.errors.tolist()
        ([0.0, 0.25, 0.5], [0.25, 0.0, 0.0])
    """
    given = (comparison_scores, quality_first, quality_second)
    count = comparison_scores.numel()
    if count == 0 or any(x.shape != (count,) for x in given):
        raise ValueError(
            "comparison_scores and both qualities must be (n,), n ≥ 1, of the same pairs, but got "
            f"{', '.join(str(tuple(x.shape)) for x in given)}."
        )
    names = ("comparison_scores", "quality_first", "quality_second")
    for name, values in zip(names, given, strict=True):
        require_finite(name, values)
    require_finite("threshold", threshold)
    quality, order = torch.minimum(quality_first, quality_second).sort()
    first_of_its_quality = torch.ones(count, dtype=torch.bool, device=quality.device)
    first_of_its_quality[1:] = quality[1:] > quality[:-1]
    gone = first_of_its_quality.nonzero().flatten()
    wrong = (comparison_scores[order] < threshold).double()
    wrong_left = wrong.flip(0).cumsum(0).flip(0)[gone]
    return DiscardCurve(gone.double() / count, wrong_left / (count - gone))


def partial_area(curve: DiscardCurve, limit: float) -> float:
    """Return the area under an error-versus-discard curve from 0 to ``limit``.

    Args:

        curve (DiscardCurve): of :func:`error_versus_discard`.
        limit (float): The largest share to discard, in (0, 1]; 0.2 and 0.3 are usual.

    Returns:
        *float*: in [0, ``limit``], lower is better. Over ``limit · curve.starting_error`` it is
        relative to a quality that knows nothing.

    Raises:
        ValueError: if ``limit`` is not in (0, 1], or the curve is not finite.

    Examples::

        >>> partial_area(curve, 0.3) / (0.3 * curve.starting_error)
    """
    if not 0 < limit <= 1:
        raise ValueError(f"limit must be above 0 and at most 1, but got {limit}.")
    for name, values in zip(("discarded", "errors"), curve, strict=True):
        require_finite(name, values)
    ends = torch.cat([curve.discarded[1:], curve.discarded.new_ones(1)])
    widths = ends.clamp(max=limit) - curve.discarded.clamp(max=limit)
    return float((widths * curve.errors).sum())
