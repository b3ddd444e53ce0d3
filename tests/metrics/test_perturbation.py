"""Deletion, insertion and SRG: by hand, against plain loops, and on scores whose truth is known."""

import numpy as np
import pytest
import torch

from captum_plq import metrics as M
from captum_plq.metrics.perturbation import removal_rank
from captum_plq.quality.serfiq import SERFIQ
from tests.conftest import small_face_net
from tests.support.draws import uniform


def total(images):
    return images.sum((1, 2, 3))


TINY = torch.tensor([[[[8.0, 4.0], [2.0, 1.0]]]], dtype=torch.float64)
TINY_MAP = torch.tensor([[[0.9, 0.1], [0.5, 0.3]]])  # order, highest first: 8, 2, 1, 4


@pytest.mark.parametrize(
    ("curve", "order", "values"),
    [
        (M.perturbation_curve, "highest-first", [15, 7, 5, 4, 0]),
        (M.perturbation_curve, "lowest-first", [15, 11, 10, 8, 0]),
        (M.insertion_curve, "highest-first", [0, 8, 10, 11, 15]),
        (M.insertion_curve, "lowest-first", [0, 4, 5, 7, 15]),
    ],
)
def test_by_hand(curve, order, values):
    found = curve(total, TINY, TINY_MAP, order=order, impute=M.black, steps=4)
    assert found.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.values.tolist() == [values]
    area = (sum(values) - values[0] / 2 - values[-1] / 2) / 4
    assert M.area_under_curve(found).tolist() == [area]


def test_srg_and_areas_by_hand():
    """Areas (7.5 + 11 + 10 + 8)/4 and (7.5 + 7 + 5 + 4)/4; then of unequal steps."""
    assert M.srg(total, TINY, TINY_MAP, impute=M.black, steps=4).tolist() == [(36.5 - 23.5) / 4]
    curve = M.Curve(torch.tensor([0.0, 0.1, 1.0]), torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))
    assert M.area_under_curve(curve).tolist() == pytest.approx([0.05, 0.95])


@pytest.mark.parametrize(("pixels", "steps"), [((3, 5), 4), ((20, 20), 20), ((7, 1), 7)])
def test_each_step_removes_its_share(pixels, steps):
    ones = torch.ones(1, 1, *pixels, dtype=torch.float64)
    given = {"order": "lowest-first", "impute": M.black, "steps": steps}
    found = M.perturbation_curve(total, ones, uniform(1, *pixels), **given)
    count = ones.numel()
    left = [count - round(k / steps * count) for k in range(steps + 1)]
    assert found.values[0].tolist() == left
    np.testing.assert_allclose(found.fractions, 1 - np.array(left) / count, atol=1e-15)


def test_ties_come_at_random_but_alike_in_all_images():
    flat = torch.zeros(2, 30, 30)
    rank = removal_rank(flat, "lowest-first")
    assert torch.equal(rank[0], rank[1])
    assert abs(np.corrcoef(rank[0].flatten(), range(900))[0, 1]) < 0.1
    assert not torch.equal(removal_rank(flat, "lowest-first", tie_seed=1), rank)
    by_position = removal_rank(flat, "lowest-first", tie_seed=None)
    assert by_position[0].flatten().tolist() == list(range(900))
    for seed, lowest in ((0, rank), (None, by_position)):
        highest = removal_rank(flat, "highest-first", tie_seed=seed)
        assert (lowest + highest == 899).all()


@pytest.mark.parametrize("rows", [1, 5])
def test_a_serfiq_is_the_same_function_all_along_a_curve(images, rows):
    score, images, maps = SERFIQ(small_face_net(), passes=10), images / 255, uniform(7, 20, 20)
    given = {"order": "lowest-first", "impute": M.blurred(1.0), "steps": 4}
    expected = M.perturbation_curve(score, images.requires_grad_(), maps, **given).values
    assert not expected.requires_grad
    found = M.perturbation_curve(score, images, maps, rows=rows, **given).values
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    given["impute"] = lambda x, removed: x
    still = M.perturbation_curve(score, images, maps, rows=rows, **given).values
    torch.testing.assert_close(still, score(images)[:, None].expand(7, 5), rtol=1e-13, atol=0)
