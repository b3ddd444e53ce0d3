"""Measures how often mated pairs fail by their quality, at the thresholds of false match rates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import torch
from torch import Tensor

from captum_plq.calibration.thresholds import FMRS, FailureRates
from captum_plq.functional import unit_length
from captum_plq.metrics.checks import require_finite
from captum_plq.metrics.failure import failure_curve
from captum_plq.metrics.recognition import threshold_at_fmr

__all__ = ["measure_failures"]

_AT_MOST = 4000
"""Images of which different people are compared."""


def measure_failures(
    embeddings: Tensor,
    quality: Tensor,
    people: Sequence[Hashable],
    pairs: Sequence[tuple[int, int]],
    *,
    gallery: Sequence[int] | None = None,
    fmrs: Sequence[float] = FMRS,
    seed: int = 0,
) -> tuple[FailureRates, ...]:
    """Measure how often mated pairs fail by their Q, at several false match rates.

    Args:

        embeddings (Tensor): (n, d), of n images, finite.
        quality (Tensor): (n,), their Q.
        people (sequence): n, whom each shows. Images with different entries are taken to show
            different people.
        pairs (sequence of tuple[int, int]): m mated pairs: places among the n images.
        gallery (sequence of int, optional): The images of which different people are compared for
            the thresholds; 4000 of them, drawn, if there are more. ``None``: all.
        fmrs (sequence of float): False match rates.
        seed (int): Of what is drawn.

    Returns:
        *tuple[FailureRates, ...]*: one per rate.

    Raises:
        ValueError: if a pair shows two people, there are too few images for a false match rate or
            too few pairs, an embedding is not finite or has length 0, or Q is not finite.
        MissingExtraError: without SciPy (the extra ``metrics``).

    Examples::

        >>> embeddings, quality = torch.randn(80, 16), torch.rand(80)
        >>> people = [i // 2 for i in range(80)]
        >>> pairs = [(2 * i, 2 * i + 1) for i in range(40)]
        >>> [found.fmr for found in measure_failures(embeddings, quality, people, pairs)]
        [0.001, 0.01]
    """
    unit = embeddings.detach().flatten(1).float().cpu()
    require_finite("embeddings", unit)
    if bool((unit == 0).all(1).any()):
        raise ValueError("An embedding of length 0 is like no other: leave its image out.")
    unit = unit_length(unit)
    if not pairs or any(people[i] != people[j] for i, j in pairs):
        raise ValueError("pairs must be mated: two images of the same person each.")
    numbers = {person: i for i, person in enumerate(dict.fromkeys(people))}
    rows = np.arange(len(unit)) if gallery is None else np.asarray(gallery)
    drawn = torch.from_numpy(np.sort(np.random.default_rng(seed).permutation(rows)[:_AT_MOST]))
    of = torch.tensor([numbers[person] for person in people])[drawn]
    others = (unit[drawn] @ unit[drawn].T)[(of[:, None] != of).triu(1)]
    first, second = torch.tensor(list(pairs)).T
    scores = (unit[first] * unit[second]).sum(1)
    lower = torch.minimum(*(quality.detach().double().cpu()[x] for x in (first, second)))
    whose = [people[i] for i, _ in pairs]
    found = []
    for fmr in fmrs:
        threshold = threshold_at_fmr(others, fmr)
        curve = failure_curve(scores, lower, threshold, whose, seed=seed)
        found.append(FailureRates(fmr, threshold, len(others), curve))
    return tuple(found)
