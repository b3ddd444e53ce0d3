"""Squares lie where and are filled as they should; scores of them against counting by hand."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.parts.mask_scores import (
    auroc,
    log_contrast,
    mass_accuracy,
    pointing_game,
    rank_accuracy,
)
from benchmarks.protocols.parts.random_squares import FILLS, occlude_squares, square

pytest.importorskip("cv2")


@pytest.fixture
def faces():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 255, (2, 3, 40, 40), generator=generator).float()


def occlude(image, size, fill, other, name, seed):
    images, masks = occlude_squares(image[None], [size], [fill], [other], [name], seed)
    return images[0], masks[0]


def test_places_are_uniform_within_the_inner_part():
    generator = np.random.default_rng(0)
    rows = [square(40, 40, 30, generator)[0] for _ in range(700)]
    assert all(place.stop - place.start == 30 for place in rows)
    starts, counts = np.unique([place.start for place in rows], return_counts=True)
    assert starts.tolist() == list(range(2, 9))  # 2 … 38 − 30
    assert counts.min() > 60
    assert counts.max() < 145


def test_all_fills_share_the_place_and_leave_the_rest(faces):
    image, other = faces
    masks = []
    for fill in FILLS:
        occluded, mask = occlude(image, 10, fill, other, "a", 3)
        assert mask.sum() == 100
        assert occluded.dtype == image.dtype
        assert torch.equal(occluded[:, ~mask], image[:, ~mask])
        assert not torch.equal(occluded[:, mask], image[:, mask])
        assert torch.equal(occluded, occlude(image, 10, fill, other, "a", 3)[0])
        masks.append(mask)
    assert all(torch.equal(mask, masks[0]) for mask in masks)
    assert not torch.equal(masks[0], occlude(image, 10, "black", other, "b", 3)[1])
    assert not torch.equal(masks[0], occlude(image, 10, "black", other, "a", 4)[1])


def test_black_mean_and_texture(faces):
    image, other = faces
    black, mask = occlude(image, 10, "black", other, "a", 0)
    assert (black[:, mask] == 0).all()
    mean = occlude(image, 10, "mean", other, "a", 0)[0]
    assert (mean[:, mask] == image.mean((1, 2)).round()[:, None]).all()
    texture = occlude(image, 10, "texture", other, "a", 0)[0]
    patch = texture[:, mask].view(3, 10, 10)
    windows = other.unfold(1, 10, 1).unfold(2, 10, 1)
    assert (windows == patch[:, None, None]).all((0, 3, 4)).sum() == 1


def test_bad_input_is_refused(faces):
    with pytest.raises(ValueError, match="1 to 36 pixels"):
        occlude(faces[0], 37, "black", faces[1], "a", 0)
    with pytest.raises(ValueError, match="no fill 'red'"):
        occlude(faces[0], 10, "red", faces[1], "a", 0)


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
