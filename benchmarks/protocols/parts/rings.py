"""Maps without what they say of the distance from the image's centre."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_WIDTH = 2 / 112
"""Of a ring, as a share of the image's height."""


def within_rings(maps: Tensor) -> Tensor:
    """Return each pixel's rank among those at the same distance from the image's centre.

    Pixels that go in this order go from all rings alike, so nothing that depends on the distance
    alone, as a Gaussian in the centre does, plays a part.

    Args:

        maps (Tensor): (B, H, W).

    Returns:
        *Tensor*: (B, H, W), in (0, 1), mean ½ in each ring; ties share their mean rank.
    """
    from scipy.stats import rankdata

    height, width = maps.shape[1:]
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    distance = np.hypot(rows[:, None], columns).ravel()
    rings = np.floor(distance / (_WIDTH * height)).astype(int)
    scores = maps.detach().flatten(1).double().cpu().numpy()
    ranks = np.empty_like(scores)
    for ring in np.unique(rings):
        own = rings == ring
        ranks[:, own] = (rankdata(scores[:, own], axis=1) - 0.5) / own.sum()
    return torch.from_numpy(ranks).view_as(maps).to(maps.device)
