"""Against counting by hand and by loops, and on planted maps."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.mask_scores import (
    auroc,
    log_contrast,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
)

SCORES = (auroc, pointing_game, rank_accuracy, mass_accuracy, log_contrast)


@pytest.fixture
def masks():
    found = torch.zeros(40, 12, 12, dtype=torch.bool)
    found[:, 2:6, 3:9] = True
    return found


def pairs(scores, inside):
    """The share of pairs that are in order, counted one by one."""
    wins = [
        1.0 if i < o else 0.5 if i == o else 0.0
        for i in scores[inside].tolist()
        for o in scores[~inside].tolist()
    ]
    return sum(wins) / len(wins)


def test_auroc_counts_pairs_with_ties():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 4, (5, 4, 5), generator=generator).double()
    masks = torch.rand(5, 4, 5, generator=generator) < 0.4
    expected = [pairs(m, inside) for m, inside in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(auroc(maps, masks), expected, rtol=1e-12)


def test_by_hand():
    maps = torch.tensor([[[0.2, 0.2, 0.5, 1.0]]], dtype=torch.float64)
    masks = torch.tensor([[[True, False, True, False]]])
    # pairs: 0.2 = 0.2, 0.2 < 1, 0.5 > 0.2, 0.5 < 1
    assert auroc(maps, masks) == pytest.approx([2.5 / 4])
    assert pointing_game(maps, masks) == pytest.approx([0.5])
    assert rank_accuracy(maps, masks) == pytest.approx([0.5])
    assert mass_accuracy(maps, masks) == pytest.approx([1.3 / 2.1])
    assert log_contrast(maps, masks) == pytest.approx([(np.log(0.2) - np.log(0.1)) / 2])


def test_ties_at_the_last_rank_count_in_part():
    maps = torch.tensor([[[0.1, 0.3, 0.3, 0.3]]])
    masks = torch.tensor([[[True, True, False, False]]])
    assert rank_accuracy(maps, masks) == pytest.approx([(1 + 1 / 3) / 2])


@pytest.mark.parametrize("score", SCORES)
def test_the_mask_itself_scores_best_and_its_inverse_worst(score, masks):
    planted = torch.where(masks, 0.0, 1.0)
    noise = torch.rand(masks.shape, generator=torch.Generator().manual_seed(1))
    best, worst, random = (score(maps, masks) for maps in (planted, 1 - planted, noise))
    assert (best > random).all() or score is pointing_game
    assert (worst < random).all() or score is pointing_game
    assert best.mean() > random.mean() > worst.mean()
    if score is not log_contrast:
        assert (best == 1).all()
        assert (worst == 0).all()


@pytest.mark.parametrize(
    ("score", "chance"),
    [(auroc, 0.5), (rank_accuracy, 1 / 6), (mass_accuracy, 1 / 6), (log_contrast, 0.0)],
)
def test_a_random_map_scores_chance(score, chance, masks):
    maps = torch.rand(masks.shape, generator=torch.Generator().manual_seed(2))
    found = score(maps, masks)
    assert abs(found.mean() - chance) < 4 * found.std(ddof=1) / np.sqrt(len(found))


def test_no_missing_quality_is_nan(masks):
    assert np.isnan(mass_accuracy(torch.ones(masks.shape), masks)).all()


@pytest.mark.parametrize("score", SCORES)
def test_bad_masks_are_refused(score):
    maps = torch.rand(1, 2, 2)
    with pytest.raises(ValueError, match="inside and outside"):
        score(maps, torch.ones(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="masks bool"):
        score(maps, torch.ones(1, 2, 2))
