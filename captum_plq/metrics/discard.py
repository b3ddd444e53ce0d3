"""Error versus discard: whether errors fall when pairs of low quality are left out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_plq.metrics.checks import require_finite

__all__ = ["DiscardCurve", "error_versus_discard", "partial_area"]


class DiscardCurve(NamedTuple):
    """A step function: from one discarded share up to the next the error stays as it is.

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
    """False non-match rate of mated pairs while those of lowest quality are discarded.

    Schlett et al., "Considerations on the Evaluation of Biometric Quality Assessment
    Algorithms", IEEE T-BIOM 2024; also ISO/IEC 29794-1. The quality of a pair is the lower of
    its two; pairs of equal quality are discarded together, as a threshold of quality would; the
    decision threshold stays.

    Args:

        comparison_scores (Tensor): (n,), similarities of mated pairs, finite.
        quality_first (Tensor): (n,), quality of the first image of each pair, finite.
        quality_second (Tensor): (n,), of the second.
        threshold (float): A pair matches if its score is at or above it, see
            :func:`~captum_plq.metrics.recognition.threshold_at_fmr`.

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
    """Area under an error-versus-discard curve from 0 to ``limit``, as the step function it is.

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
