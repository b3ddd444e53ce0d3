"""Deletion, insertion and SRG: by hand, against plain loops, and on scores whose truth is known."""

import numpy as np
import pytest
import torch

from captum_plq import metrics as M
from captum_plq.metrics.perturbation import removal_rank
from captum_plq.quality.serfiq import SERFIQ
from tests.conftest import small_face_net


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
    maps = torch.rand(1, *pixels, generator=torch.Generator().manual_seed(0))
    found = M.perturbation_curve(
        total, ones, maps, order="lowest-first", impute=M.black, steps=steps
    )
    count = ones.numel()
    left = [count - round(k / steps * count) for k in range(steps + 1)]
    assert found.values[0].tolist() == left
    np.testing.assert_allclose(found.fractions, 1 - np.array(left) / count, atol=1e-15)


def test_ties_come_at_random_but_alike_in_all_images():
    flat = torch.zeros(2, 30, 30)
    rank = removal_rank(flat, "lowest-first")
    assert torch.equal(rank[0], rank[1])
    assert rank[0].flatten().sort().values.tolist() == list(range(900))
    rows = torch.arange(30).repeat_interleave(30)
    assert abs(np.corrcoef(rank[0].flatten(), rows)[0, 1]) < 0.1
    assert not torch.equal(removal_rank(flat, "lowest-first", tie_seed=1), rank)
    by_position = removal_rank(flat, "lowest-first", tie_seed=None)
    assert by_position[0].flatten().tolist() == list(range(900))
    for seed in (0, None):
        both = [removal_rank(flat, o, tie_seed=seed) for o in ("lowest-first", "highest-first")]
        assert (both[0] + both[1] == 899).all()


@pytest.mark.parametrize("order", ["lowest-first", "highest-first"])
def test_the_rank_follows_the_scores(order):
    maps = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(2)).round(decimals=1)
    maps[0, 0, 0], maps[1, 1, 1] = 1e30, -1e30
    for scores, rank in zip(maps, removal_rank(maps, order), strict=True):
        in_order = [float(s) for _, s in sorted(zip(rank.flatten(), scores.flatten(), strict=True))]
        assert in_order == sorted(scores.flatten().tolist(), reverse=order == "highest-first")


@pytest.mark.parametrize("rows", [1, 5])
def test_results_do_not_depend_on_the_batches(images, rows):
    score = SERFIQ(small_face_net(), passes=10)
    maps = torch.rand(7, 20, 20, generator=torch.Generator().manual_seed(1))
    options = {"order": "lowest-first", "impute": M.blurred(1.0), "steps": 4}
    expected = M.perturbation_curve(score, images / 255, maps, **options)
    found = M.perturbation_curve(score, images / 255, maps, rows=rows, **options)
    torch.testing.assert_close(found.values, expected.values, rtol=1e-12, atol=0)
    alone = M.perturbation_curve(score, images[3:4] / 255, maps[3:4], rows=rows, **options)
    torch.testing.assert_close(alone.values[0], expected.values[3], rtol=1e-12, atol=0)


def test_a_serfiq_does_not_move_along_a_curve_on_which_nothing_is_removed(images):
    score, maps = SERFIQ(small_face_net(), passes=10), torch.rand(7, 20, 20)
    options = {"order": "lowest-first", "impute": lambda x, removed: x, "steps": 5, "rows": 4}
    found = M.perturbation_curve(score, images / 255, maps, **options).values
    torch.testing.assert_close(found, found[:, :1].expand(7, 6), rtol=1e-13, atol=0)
    torch.testing.assert_close(found[:, 0], score(images / 255), rtol=1e-13, atol=0)


def test_nothing_is_left_behind(images):
    maps = torch.rand(7, 20, 20, requires_grad=True)
    before, state = images.clone(), torch.get_rng_state()
    images.requires_grad_()
    found = M.perturbation_curve(total, images, maps, order="lowest-first", impute=M.mean_colour)
    assert not found.values.requires_grad
    assert images.grad is None
    assert torch.equal(images.detach(), before)
    assert torch.equal(torch.get_rng_state(), state)


MAPS = torch.rand(2, 4, 4)
IMAGES = torch.rand(2, 3, 4, 4)


def curve_of(score=total, images=IMAGES, maps=MAPS, order="lowest-first", **options):
    return M.perturbation_curve(score, images, maps, order=order, impute=M.black, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curve_of(order="best-first"), "'lowest-first' or 'highest-first'"),
        (lambda: curve_of(maps=MAPS[:, None]), r"channels merged.*\(2, 1, 4, 4\)"),
        (lambda: curve_of(maps=MAPS[:1]), r"\(2, 3, 4, 4\) and \(1, 4, 4\)"),
        (lambda: curve_of(steps=0), "from 1 to the image's 16 pixels"),
        (lambda: curve_of(steps=17), "but got 17"),
        (lambda: curve_of(steps=4, rows=0), "rows must be at least 1"),
        (lambda: curve_of(score=lambda x: x.sum(), steps=4), r"\(10,\), one number each"),
        (lambda: curve_of(images=IMAGES.long(), steps=4), "floating point"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
