"""Repeatability, regions and the rule of Sec. V-A: by hand, by definition, on SER-FIQ itself."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq import metrics as M
from captum_plq.functional import merge_channels
from tests.conftest import assert_untouched, snapshot


def test_each_number_is_the_mean_over_all_pairs():
    def assess(passes, seed):
        generator = torch.Generator().manual_seed(100 * passes + seed)
        maps = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64)
        return maps, torch.rand(4, generator=generator, dtype=torch.float64)

    seeds = (3, 1, 8)
    (found,) = M.repeatability(assess, passes=(5,), seeds=seeds)
    numbers = []
    for one, other in itertools.combinations(seeds, 2):
        (maps, q), (other_maps, other_q) = (assess(5, seed) for seed in (one, other))
        pairs = [*zip(maps, other_maps, strict=True)], [*zip(q, other_q, strict=True)]
        apart, ratio = (
            np.mean([float(2 * (a - b).norm() / (a.norm() + b.norm())) for a, b in pair])
            for pair in pairs
        )
        alike = float(M.spearman(q.view(1, 2, 2), other_q.view(1, 2, 2)))
        numbers.append((float(M.spearman(maps, other_maps).mean()), apart, alike, ratio))
    assert dataclasses.astuple(found) == pytest.approx((5, *np.mean(numbers, axis=0)))


def test_more_passes_repeat_better_and_the_papers_map_keeps_its_order(net, images):
    before = snapshot(net)

    def assess(passes, seed):
        plq = PixelQualityAttribution(SERFIQ(net, passes=passes, seed=seed))
        attributions, quality = plq.attribute(images, return_quality=True)
        return merge_channels(attributions), quality

    few, many = M.repeatability(assess, passes=(4, 400))
    assert_untouched(before, net)
    assert few.map_spearman == pytest.approx(1)
    assert 0 < many.map_difference < few.map_difference / 3
    assert 0 < many.quality_difference < few.quality_difference / 3
    assert many.quality_spearman > few.quality_spearman
    (same,) = M.repeatability(lambda m, s: (torch.zeros(1, 2, 2), torch.ones(1)), [1])
    assert same.map_difference == same.quality_difference == 0
    assert math.isnan(same.quality_spearman)  # one image has no order


@pytest.mark.parametrize(
    ("message", "seeds", "result"),
    [
        ("two different numbers", (1, 2, 1), (torch.ones(2, 3, 3), torch.ones(2))),
        (r"\(B, H, W\)", (1, 2), (torch.ones(2, 3, 3, 3), torch.ones(2))),
        ("one per map", (1, 2), (torch.ones(2, 3, 3), torch.ones(3))),
    ],
)
def test_bad_assessments_are_refused(message, seeds, result):
    with pytest.raises(ValueError, match=message):
        M.repeatability(lambda m, s: result, [1], seeds)


def test_batch_invariance_by_hand():
    images = torch.tensor([[1.0], [2.0], [6.0]])
    # Minus the batch's mean, 3: alone each gives 0 instead of −2, −1, 3.
    found = M.batch_invariance(lambda x: x - x.mean(), images)
    assert found.alone == pytest.approx(3)
    assert found.order == pytest.approx(0)


@pytest.mark.parametrize("seed", range(6))
def test_another_order_is_always_another(seed):
    images = torch.tensor([[5.0], [7.0]])
    found = M.batch_invariance(lambda x: x + torch.arange(len(x))[:, None], images, seed=seed)
    # Swapped, the first image gets 1 more and the second 1 less; alone, only the second less.
    assert (found.alone, found.order) == (1, 1)


def test_serfiq_does_not_know_of_the_batch(net, images):
    state = torch.get_rng_state()
    for function in (SERFIQ(net), PixelQualityAttribution(net).attribute):
        found = M.batch_invariance(function, images)
        assert max(found.alone, found.order) < 1e-10
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_batch_is_refused(images):
    with pytest.raises(ValueError, match="at least two, but got one"):
        M.batch_invariance(lambda x: x, images[:1])
    for function in (lambda x: x.sum(), lambda x: x[:2]):
        with pytest.raises(ValueError, match="one result per image, but 7 images gave"):
            M.batch_invariance(function, images)


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
        mask = M.lowest_region(scores, area)
        assert mask.dtype == torch.bool
        assert torch.equal(mask, expected)


def test_speckles_are_no_patch_and_ties_go_in_reading_order():
    scores = torch.ones(30, 30)
    scores[4:14, 10:20] = 0
    scores[25, 2] = -1
    assert not M.lowest_region(scores, 100)[25, 2]
    assert M.lowest_region(scores, 101, pool=1)[25, 2]
    assert M.lowest_region(torch.zeros(4, 5), 7).flatten().tolist() == [True] * 7 + [False] * 13


@pytest.mark.parametrize(
    ("error", "message", "scores", "area", "pool"),
    [
        (ValueError, r"must be \(H, W\)", torch.ones(1, 4, 4), 1, 1),
        (TypeError, "floating-point tensor", torch.ones(4, 4).long(), 1, 1),
        (TypeError, "floating-point tensor, but got list", [[1.0, 2.0]], 1, 1),
        (ValueError, "from 1 to 16 pixels, but got 0", torch.ones(4, 4), 0, 1),
        (ValueError, "from 1 to 16 pixels, but got 17", torch.ones(4, 4), 17, 1),
        (ValueError, "odd number", torch.ones(4, 4), 1, 2),
    ],
)
def test_bad_regions_are_refused(error, message, scores, area, pool):
    with pytest.raises(error, match=message):
        M.lowest_region(scores, area, pool=pool)


def test_spread_by_hand():
    # Deviations −1, 0, 1: variance 2/(3 − 1); and −2, −2, 4: 24/2.
    runs = {0: [1.0, 5.0], 1: [2.0, 5.0], 2: [3.0, 11.0]}
    found = M.quality_spread(lambda seed: torch.tensor(runs[seed]), seeds=(0, 1, 2))
    assert found.mean.tolist() == pytest.approx([2, 7])
    assert found.sd.tolist() == pytest.approx([1, 12**0.5])


def test_ten_runs_of_serfiq_spread_as_much_as_it_says(net, images):
    before, seen = snapshot(net), []

    def quality(seed):
        seen.append(seed)
        return SERFIQ(net, passes=40, seed=seed)(images)

    found = M.quality_spread(quality)
    assert seen == list(range(10))
    assert_untouched(before, net)
    assert found.mean.shape == found.sd.shape == (7,)
    assert (found.sd > 0).all()
    assert not found.mean.requires_grad


def test_the_rule_by_hand():
    before = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5])
    after = torch.tensor([0.75, 0.25, 0.5, 0.625, 0.375])
    words = ("improved", "decreased", "unchanged", "unchanged", "unchanged")
    assert M.quality_outcome(before, after, 0.125) == words  # within includes the limit
    sd = torch.tensor([0.25, 0.125, 0.0, 0.0625, 0.5])
    words = ("unchanged", "decreased", "unchanged", "improved", "unchanged")
    assert M.quality_outcome(before, after, sd) == words
    assert M.quality_outcome(before[:0], after[:0], 0.1) == ()


@pytest.mark.parametrize(
    ("message", "before", "after", "sd"),
    [
        (r"\(n,\) each", torch.ones(2), torch.ones(3), 0.1),
        (r"\(n,\), but got", torch.ones(2), torch.ones(2), torch.ones(3)),
        ("cannot be negative", torch.ones(1), torch.ones(1), -0.1),
    ],
)
def test_bad_qualities_are_refused(message, before, after, sd):
    with pytest.raises(ValueError, match=message):
        M.quality_outcome(before, after, sd)


@pytest.mark.parametrize("seeds", [(1,), (1, 1)])
def test_one_run_has_no_spread(seeds):
    with pytest.raises(ValueError, match="two different numbers"):
        M.quality_spread(lambda seed: torch.ones(2), seeds)
