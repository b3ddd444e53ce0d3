"""Several runs of SER-FIQ for the price of one pass through the network's trunk."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import SERFIQ
from captum_plq.functional import quality_from_embeddings
from captum_plq.metrics.repeatability import QualitySpread, quality_spread

_IMAGES_AT_A_TIME, _ROWS_AT_A_TIME = 16, 1024


def quality_runs(subject: ExplainedNetwork, images: Tensor, runs: int = 10) -> QualitySpread:
    """Mean and standard deviation of Q over runs with other masks than those of the maps.

    Each run has m passes of its own, the same for all images.

    Args:

        subject (ExplainedNetwork): The network, m, p and the seed.
        images (Tensor): (B, 3, H, W), 0–255.
        runs (int): How many, ≥ 2; the paper's 10.

    Returns:
        *QualitySpread*: (B,) each.

    Raises:
        ValueError: if there are fewer than two runs.
    """
    if runs < 2:
        raise ValueError(f"A spread takes at least two runs, not {runs}.")
    serfiq = SERFIQ(
        subject.model,
        passes=runs * subject.passes,
        dropout=subject.dropout,
        seed=subject.seed + 1,
        chunk_size=_ROWS_AT_A_TIME,
    )
    parts = []
    with torch.no_grad():
        for some in images.split(_IMAGES_AT_A_TIME):
            stochastic = serfiq.embeddings(some)[1].flatten(2)
            own = stochastic.split(subject.passes, dim=1)
            parts.append(torch.stack([quality_from_embeddings(run) for run in own]))
    qualities = torch.cat(parts, dim=1)
    return quality_spread(lambda run: qualities[run], range(runs))
