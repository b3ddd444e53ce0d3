"""Repeatability: by hand, over every pair of seeds, and on SER-FIQ itself."""

import itertools
import math

import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import merge_channels
from captum_plq.metrics import batch_invariance, repeatability, spearman
from tests.conftest import assert_untouched, snapshot


def test_two_runs_by_hand():
    def assess(passes, seed):
        maps = torch.tensor([[[3.0, 4.0]], [[0.0, 1.0]]])
        quality = torch.tensor([1.0, 2.0])
        if seed:
            # Differences: of the maps 5 of mean length 7.5, and √2 of 1; of qualities ⅔, ⅔.
            maps = torch.tensor([[[6.0, 8.0]], [[1.0, 0.0]]])
            quality = torch.tensor([2.0, 1.0])
        return maps, quality

    (found,) = repeatability(assess, passes=[7], seeds=[0, 1])
    assert found.passes == 7
    assert found.map_spearman == pytest.approx((1 - 1) / 2)
    assert found.map_difference == pytest.approx((5 / 7.5 + math.sqrt(2)) / 2)
    assert found.quality_spearman == pytest.approx(-1)
    assert found.quality_difference == pytest.approx(2 / 3)


def test_each_number_is_the_mean_over_all_pairs():
    def assess(passes, seed):
        generator = torch.Generator().manual_seed(100 * passes + seed)
        maps = torch.rand(4, 5, 6, generator=generator, dtype=torch.float64)
        return maps, torch.rand(4, generator=generator, dtype=torch.float64)

    seeds = (3, 1, 8)
    results = repeatability(assess, passes=(2, 5), seeds=seeds)
    assert [found.passes for found in results] == [2, 5]
    for found in results:
        numbers = []
        for one, other in itertools.combinations(seeds, 2):
            (maps, q), (other_maps, other_q) = (assess(found.passes, s) for s in (one, other))
            apart = [
                float((m - n).norm() / ((m.norm() + n.norm()) / 2))
                for m, n in zip(maps, other_maps, strict=True)
            ]
            ratio = [
                abs(a - b) / ((a + b) / 2)
                for a, b in zip(q.tolist(), other_q.tolist(), strict=True)
            ]
            numbers.append(
                (
                    float(spearman(maps, other_maps).mean()),
                    sum(apart) / 4,
                    float(spearman(q.view(1, 2, 2), other_q.view(1, 2, 2))),
                    sum(ratio) / 4,
                )
            )
        expected = [sum(column) / 3 for column in zip(*numbers, strict=True)]
        got = (found.map_spearman, found.map_difference)
        got += (found.quality_spearman, found.quality_difference)
        assert got == pytest.approx(tuple(expected))


def test_more_passes_repeat_better_and_the_papers_map_keeps_its_order(net, images):
    before = snapshot(net)

    def assess(passes, seed):
        plq = PixelQualityAttribution(SERFIQ(net, passes=passes, seed=seed))
        attributions, quality = plq.attribute(images, return_quality=True)
        return merge_channels(attributions), quality

    few, many = repeatability(assess, passes=(4, 400))
    assert_untouched(before, net)
    assert few.map_spearman == pytest.approx(1)
    assert many.map_spearman == pytest.approx(1)
    assert 0 < many.map_difference < few.map_difference / 3
    assert 0 < many.quality_difference < few.quality_difference / 3
    assert many.quality_spearman > few.quality_spearman


def test_empty_maps_do_not_differ_and_one_image_has_no_order():
    (found,) = repeatability(lambda m, s: (torch.zeros(1, 2, 2), torch.ones(1)), [1])
    assert found.map_difference == found.quality_difference == 0
    assert math.isnan(found.quality_spearman)


@pytest.mark.parametrize(
    ("message", "seeds", "result"),
    [
        ("two different numbers", (1,), (torch.ones(2, 3, 3), torch.ones(2))),
        ("two different numbers", (1, 2, 1), (torch.ones(2, 3, 3), torch.ones(2))),
        (r"\(B, H, W\)", (1, 2), (torch.ones(2, 3, 3, 3), torch.ones(2))),
        ("one per map", (1, 2), (torch.ones(2, 3, 3), torch.ones(3))),
        (
            "qualities of assess must be finite",
            (1, 2),
            (torch.ones(2, 3, 3), torch.full((2,), torch.nan)),
        ),
    ],
)
def test_bad_assessments_are_refused(message, seeds, result):
    with pytest.raises(ValueError, match=message):
        repeatability(lambda m, s: result, [1], seeds)


def test_batch_invariance_by_hand():
    images = torch.tensor([[1.0], [2.0], [6.0]])
    # Minus the batch's mean, 3: alone each gives 0 instead of −2, −1, 3.
    found = batch_invariance(lambda x: x - x.mean(), images)
    assert found.alone == pytest.approx(3)
    assert found.order == pytest.approx(0)


@pytest.mark.parametrize("seed", range(6))
def test_another_order_is_always_another(seed):
    images = torch.tensor([[5.0], [7.0]])
    found = batch_invariance(lambda x: x + torch.arange(len(x))[:, None], images, seed=seed)
    # Swapped, the first image gets 1 more and the second 1 less; alone, only the second less.
    assert (found.alone, found.order) == (1, 1)


def test_serfiq_does_not_know_of_the_batch(net, images):
    state = torch.get_rng_state()
    for function in (SERFIQ(net), PixelQualityAttribution(net).attribute):
        found = batch_invariance(function, images)
        assert max(found.alone, found.order) < 1e-10
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_batch_is_refused(images):
    with pytest.raises(ValueError, match="at least two, but got one"):
        batch_invariance(lambda x: x, images[:1])
    for function in (lambda x: x.sum(), lambda x: x[:2]):
        with pytest.raises(ValueError, match="one result per image, but 7 images gave"):
            batch_invariance(function, images)
