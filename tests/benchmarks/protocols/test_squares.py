"""Squares lie where and are filled as they should; scores of them against counting by hand."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.parts import mask_scores
from benchmarks.protocols.parts.random_squares import FILLS, occlude_squares, square

pytest.importorskip("cv2")


@pytest.fixture
def faces():
    return torch.randint(1, 255, (2, 3, 40, 40), generator=torch.manual_seed(0)).float()


def occlude(faces, size=10, fill="black", name="a", seed=3):
    images, masks = occlude_squares(faces[:1], [size], [fill], [faces[1]], [name], seed)
    return images[0], masks[0]


def test_places_are_uniform_within_the_inner_part():
    generator = np.random.default_rng(0)
    rows = [square(40, 40, 30, generator)[0] for _ in range(700)]
    assert all(place.stop - place.start == 30 for place in rows)
    starts, counts = np.unique([place.start for place in rows], return_counts=True)
    assert starts.tolist() == list(range(2, 9))  # 2 … 38 − 30
    assert 60 < counts.min() <= counts.max() < 145


@pytest.mark.parametrize("fill", FILLS)
def test_all_fills_share_the_place_and_leave_the_rest(faces, fill):
    occluded, mask = occlude(faces, fill=fill)
    assert mask.sum() == 100
    assert torch.equal(mask, occlude(faces)[1])
    assert torch.equal(occluded[:, ~mask], faces[0][:, ~mask])
    assert not torch.equal(occluded[:, mask], faces[0][:, mask])
    assert torch.equal(occluded, occlude(faces, fill=fill)[0])
    for other in ({"name": "b"}, {"seed": 4}):
        assert not torch.equal(mask, occlude(faces, **other)[1])


def test_black_mean_and_texture(faces):
    inside = {fill: (x := occlude(faces, fill=fill))[0][:, x[1]] for fill in FILLS}
    assert (inside["black"] == 0).all()
    assert (inside["mean"] == faces[0].mean((1, 2)).round()[:, None]).all()
    windows = faces[1].unfold(1, 10, 1).unfold(2, 10, 1)
    patch = inside["texture"].view(3, 1, 1, 10, 10)
    assert (windows == patch).all((0, 3, 4)).sum() == 1


@pytest.mark.parametrize(
    ("given", "message"), [({"size": 37}, "1 to 36 pixels"), ({"fill": "red"}, "no fill 'red'")]
)
def test_bad_input_is_refused(faces, given, message):
    with pytest.raises(ValueError, match=message):
        occlude(faces, **given)


def test_auroc_counts_pairs_with_ties():
    maps = torch.randint(0, 4, (5, 4, 5), generator=torch.manual_seed(0)).double()
    masks = torch.rand(5, 4, 5) < 0.4
    for one, inside, found in zip(maps, masks, mask_scores.auroc(maps, masks), strict=True):
        low, high = one[inside][:, None], one[~inside]
        wins = (low < high).double() + (low == high).double() / 2
        assert found == pytest.approx(float(wins.mean()))


def test_by_hand():
    maps = torch.tensor([[[0.2, 0.2, 0.5, 1.0]]], dtype=torch.float64)
    masks = torch.tensor([[[True, False, True, False]]])
    expected = {  # pairs: 0.2 = 0.2, 0.2 < 1, 0.5 > 0.2, 0.5 < 1
        "auroc": 2.5 / 4,
        "pointing_game": 0.5,
        "rank_accuracy": 0.5,
        "mass_accuracy": 1.3 / 2.1,
        "log_contrast": (np.log(0.2) - np.log(0.1)) / 2,
    }
    for name, value in expected.items():
        assert getattr(mask_scores, name)(maps, masks) == pytest.approx([value])
    tied = mask_scores.rank_accuracy(
        torch.tensor([[[0.1, 0.3, 0.3, 0.3]]]), torch.tensor([[[True, True, False, False]]])
    )
    assert tied == pytest.approx([(1 + 1 / 3) / 2])
    assert np.isnan(mask_scores.mass_accuracy(torch.ones(1, 1, 4), masks)).all()


@pytest.mark.parametrize("name", mask_scores.__all__)
def test_the_mask_itself_scores_best_and_its_inverse_worst(name):
    masks = torch.zeros(40, 12, 12, dtype=torch.bool)
    masks[:, 2:6, 3:9] = True
    noise = torch.rand(masks.shape, generator=torch.manual_seed(1))
    planted = torch.where(masks, 0.0, 1.0)
    score = getattr(mask_scores, name)
    best, worst, random = (score(maps, masks) for maps in (planted, 1 - planted, noise))
    assert best.mean() > random.mean() > worst.mean()
    if name != "log_contrast":
        assert (best == 1).all()
        assert (worst == 0).all()
    chance = {"auroc": 0.5, "log_contrast": 0.0}.get(name, 1 / 6)
    assert abs(random.mean() - chance) < 4 * random.std(ddof=1) / np.sqrt(len(random))
    for wrong, message in ((torch.bool, "inside and outside"), (torch.uint8, "masks bool")):
        with pytest.raises(ValueError, match=message):
            score(noise, torch.ones_like(masks, dtype=wrong))
