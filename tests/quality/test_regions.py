"""The region that is named in words."""

import math

import numpy as np
import pytest

from captum_plq.faces import REGIONS
from captum_plq.quality import LEAST_TOLD, worst_region


@pytest.mark.parametrize(
    ("loss", "told"), [(LEAST_TOLD, "nose"), (np.nextafter(LEAST_TOLD, 0), None), (-1.0, None)]
)
def test_small_losses_are_not_told(loss, told):
    lost = np.full(9, -2.0)
    lost[REGIONS.index("nose")] = loss
    assert worst_region(lost) == told


def test_what_is_not_known_is_not_the_worst():
    lost = [math.nan] * 9
    assert worst_region(lost) is None
    lost[REGIONS.index("chin")] = 0.02
    assert worst_region(lost) == "chin"
