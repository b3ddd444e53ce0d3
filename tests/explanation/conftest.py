"""A toy network's layers, and chips of its size."""

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture
def backbone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.PReLU(), nn.Flatten(), nn.Linear(6 * 11 * 11, 12)
        )


@pytest.fixture
def chips():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
