"""The lowest region of a map, and Sec. V-A's rule, by hand and by definition."""

import pytest
import torch

from captum_plq import SERFIQ
from captum_plq.metrics import lowest_region, quality_outcome, quality_spread
from tests.conftest import assert_untouched, snapshot


def test_lowest_region_by_hand():
    scores = torch.tensor([[5.0, 1.0, 9.0], [2.0, 8.0, 7.0]])
    mask = lowest_region(scores, 2, pool=1)
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    # Means of 3×3 boxes, only over what is there: 4, 16/3, 25/4 in both rows; ties as they come.
    assert lowest_region(scores, 3, pool=3).tolist() == [[True, True, False], [True, False, False]]


def test_lowest_region_by_definition():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(9, 7, generator=generator)
    pooled = []
    for y in range(9):
        for x in range(7):
            box = scores.double()[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            pooled.append((float(box.mean()), y, x))
    for area in (1, 10, 62, 63):
        expected = torch.zeros(9, 7, dtype=torch.bool)
        for _, y, x in sorted(pooled)[:area]:
            expected[y, x] = True
        mask = lowest_region(scores, area)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, expected)


def test_a_patch_is_found_whole_and_speckles_are_not():
    scores = torch.ones(30, 30)
    scores[4:14, 10:20] = 0
    scores[25, 2] = -1
    mask = lowest_region(scores, 100)
    assert mask[5:13, 11:19].all()
    assert not mask[25, 2]
    assert lowest_region(scores, 101, pool=1)[25, 2]


def test_ties_go_in_reading_order():
    mask = lowest_region(torch.zeros(4, 5), 7)
    assert mask.flatten().nonzero().flatten().tolist() == list(range(7))


@pytest.mark.parametrize(
    ("error", "message", "scores", "area", "pool"),
    [
        (ValueError, r"must be \(H, W\)", torch.ones(1, 4, 4), 1, 1),
        (TypeError, "floating-point tensor", torch.ones(4, 4).long(), 1, 1),
        (ValueError, "finite", torch.full((4, 4), torch.nan), 1, 1),
        (ValueError, "from 1 to 16 pixels, but got 0", torch.ones(4, 4), 0, 1),
        (ValueError, "from 1 to 16 pixels, but got 17", torch.ones(4, 4), 17, 1),
        (ValueError, "odd number", torch.ones(4, 4), 1, 2),
        (ValueError, "odd number", torch.ones(4, 4), 1, 0),
    ],
)
def test_bad_regions_are_refused(error, message, scores, area, pool):
    with pytest.raises(error, match=message):
        lowest_region(scores, area, pool=pool)


def test_a_map_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="floating-point tensor, but got list"):
        lowest_region([[1.0, 2.0]], 1)


def test_spread_by_hand():
    # Deviations −1, 0, 1: variance 2/(3 − 1); and −2, −2, 4: 24/2.
    runs = {0: [1.0, 5.0], 1: [2.0, 5.0], 2: [3.0, 11.0]}
    found = quality_spread(lambda seed: torch.tensor(runs[seed]), seeds=(0, 1, 2))
    assert found.mean.tolist() == pytest.approx([2, 7])
    assert found.sd.tolist() == pytest.approx([1, 12**0.5])


def test_ten_runs_of_serfiq_spread_as_much_as_it_says(net, images):
    before, seen = snapshot(net), []

    def quality(seed):
        seen.append(seed)
        return SERFIQ(net, passes=40, seed=seed)(images)

    found = quality_spread(quality)
    assert seen == list(range(10))
    assert_untouched(before, net)
    assert found.mean.shape == found.sd.shape == (7,)
    assert (found.sd > 0).all()
    assert not found.mean.requires_grad
    exact = SERFIQ(net, passes=4000)(images)
    assert ((found.mean - exact).abs() < 0.2).all()


def test_the_rule_by_hand():
    before = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5])
    after = torch.tensor([0.75, 0.25, 0.5, 0.625, 0.375])
    words = ("improved", "decreased", "unchanged", "unchanged", "unchanged")
    assert quality_outcome(before, after, 0.125) == words  # within includes the limit
    sd = torch.tensor([0.25, 0.125, 0.0, 0.0625, 0.5])
    words = ("unchanged", "decreased", "unchanged", "improved", "unchanged")
    assert quality_outcome(before, after, sd) == words
    assert quality_outcome(before[:0], after[:0], 0.1) == ()


@pytest.mark.parametrize(
    ("message", "before", "after", "sd"),
    [
        (r"\(n,\) each", torch.ones(2), torch.ones(3), 0.1),
        (r"\(n,\) each", torch.ones(2, 1), torch.ones(2, 1), 0.1),
        (r"\(n,\), but got", torch.ones(2), torch.ones(2), torch.ones(3)),
        ("must be finite", torch.tensor([torch.nan]), torch.ones(1), 0.1),
        ("must be finite", torch.ones(1), torch.ones(1), float("nan")),
        ("cannot be negative", torch.ones(1), torch.ones(1), -0.1),
    ],
)
def test_bad_qualities_are_refused(message, before, after, sd):
    with pytest.raises(ValueError, match=message):
        quality_outcome(before, after, sd)


@pytest.mark.parametrize("seeds", [(), (1,), (1, 1)])
def test_one_run_has_no_spread(seeds):
    with pytest.raises(ValueError, match="two different numbers"):
        quality_spread(lambda seed: torch.ones(2), seeds)
