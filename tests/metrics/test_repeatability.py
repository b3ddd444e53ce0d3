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
from tests.support.draws import normal, uniform


def test_each_number_is_the_mean_over_all_pairs():
    def assess(passes, seed):
        return uniform(4, 5, 6, seed=100 * passes + seed), uniform(4, seed=seed)

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
    def assess(passes, seed):
        plq = PixelQualityAttribution(SERFIQ(net, passes=passes, seed=seed))
        attributions, quality = plq.attribute(images, return_quality=True)
        return merge_channels(attributions), quality

    few, many = M.repeatability(assess, passes=(4, 400))
    assert few.map_spearman == pytest.approx(1)
    assert 0 < many.map_difference < few.map_difference / 3
    assert 0 < many.quality_difference < few.quality_difference / 3
    assert many.quality_spearman > few.quality_spearman
    (same,) = M.repeatability(lambda m, s: (torch.zeros(1, 2, 2), torch.ones(1)), [1])
    assert same.map_difference == same.quality_difference == 0
    assert math.isnan(same.quality_spearman)  # one image has no order


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


def test_lowest_region_by_definition():
    scores, pooled = normal(9, 7), []
    for y, x in itertools.product(range(9), range(7)):
        box = scores[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
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


def test_spread_by_hand():
    # Deviations −1, 0, 1: variance 2/(3 − 1); and −2, −2, 4: 24/2.
    runs = {0: [1.0, 5.0], 1: [2.0, 5.0], 2: [3.0, 11.0]}
    found = M.quality_spread(lambda seed: torch.tensor(runs[seed]), seeds=(0, 1, 2))
    assert found.mean.tolist() == pytest.approx([2, 7])
    assert found.sd.tolist() == pytest.approx([1, 12**0.5])
    ten = M.quality_spread(lambda seed: torch.tensor([float(seed)], requires_grad=True))
    assert float(ten.sd) == pytest.approx(np.std(range(10), ddof=1))
    assert not ten.sd.requires_grad


def test_the_rule_by_hand():
    before = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.5])
    after = torch.tensor([0.75, 0.25, 0.5, 0.625, 0.375])
    words = ("improved", "decreased", "unchanged", "unchanged", "unchanged")
    assert M.quality_outcome(before, after, 0.125) == words  # within includes the limit
    sd = torch.tensor([0.25, 0.125, 0.0, 0.0625, 0.5])
    words = ("unchanged", "decreased", "unchanged", "improved", "unchanged")
    assert M.quality_outcome(before, after, sd) == words
    assert M.quality_outcome(before[:0], after[:0], 0.1) == ()
