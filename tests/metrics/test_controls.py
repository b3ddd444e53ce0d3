"""Controls: small enough to reckon by hand, and against loops over all pairs."""

import itertools
import math

import pytest
import torch

from captum_plq.metrics import (
    centre_gaussian,
    centre_similarity,
    random_map,
    similarity_between_images,
    spearman,
)


def random_maps(batch=5, height=6, width=7):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, height, width, generator=generator)


def test_similarity_between_images_by_hand():
    up, down, middle = ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 2.0])
    # ρ: up–down −1, up–middle ½, down–middle −½.
    maps = torch.tensor([[up], [down], [middle]])
    assert similarity_between_images(maps) == pytest.approx((-1 + 0.5 - 0.5) / 3)
    assert similarity_between_images(maps[:2]) == pytest.approx(-1)


def test_similarity_between_images_is_the_mean_over_pairs():
    maps = random_maps() + torch.arange(7.0)
    pairs = itertools.combinations(maps.split(1), 2)
    expected = [float(spearman(one, other)) for one, other in pairs]
    assert len(expected) == 10
    assert similarity_between_images(maps) == pytest.approx(sum(expected) / 10, abs=1e-12)


def test_a_method_that_ignores_the_image_has_similarity_one_and_chance_none():
    same = random_maps(1).expand(4, -1, -1) * torch.tensor([1.0, 2.0, 5.0, 0.1]).view(-1, 1, 1)
    assert similarity_between_images(same) == pytest.approx(1)
    chance = torch.stack([random_map(40, 40, seed) for seed in range(10)])
    assert abs(similarity_between_images(chance)) < 0.02
    same = same.clone()
    same[1] = 3.0
    assert math.isnan(similarity_between_images(same))


def test_centre_gaussian_by_hand():
    row = centre_gaussian(1, 4, 2.0)[0].tolist()  # centre at 1.5
    assert row[:2] == pytest.approx([math.exp(-2.25 / 8), math.exp(-0.25 / 8)])
    assert row == pytest.approx(row[::-1])
    tall = centre_gaussian(3, 5, 1.5)
    for y, x in itertools.product(range(3), range(5)):
        assert float(tall[y, x]) == pytest.approx(
            math.exp(-((y - 1) ** 2 + (x - 2) ** 2) / (2 * 1.5**2))
        )
    assert tall.dtype == torch.float32


def test_centre_similarity_is_that_with_any_gaussian():
    maps = random_maps() + 3 * centre_gaussian(6, 7, 2.0)
    for sigma in (1.5, 2.0, 9.0):
        gaussian = centre_gaussian(6, 7, sigma)[None]
        torch.testing.assert_close(centre_similarity(maps), spearman(maps, gaussian))
    ones = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(centre_similarity(centre_gaussian(9, 4, 3.0)[None]), ones)
    torch.testing.assert_close(centre_similarity(-centre_gaussian(9, 4, 3.0)[None]), -ones)


def test_centre_similarity_by_hand():
    # Nearness ranks 1.5, 3, 1.5 and the map 1, 2, 3: no covariance.
    assert float(centre_similarity(torch.tensor([[[1.0, 2.0, 3.0]]]))) == pytest.approx(0)
    # Ranks 1.5, 3, 1.5 against 2, 3, 1: covariance 1.5, variances 1.5 and 2.
    found = float(centre_similarity(torch.tensor([[[2.0, 3.0, 1.0]]])))
    assert found == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_random_maps_follow_the_seed_and_leave_the_global_state():
    state = torch.get_rng_state()
    one, again, other = random_map(50, 40, 3), random_map(50, 40, 3), random_map(50, 40, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert one.shape == (50, 40)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.03)  # sd 0.0065
    assert float(one.std()) == pytest.approx(12**-0.5, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: similarity_between_images(torch.ones(1, 4, 4)), "at least two images"),
        (lambda: similarity_between_images(torch.ones(4, 4)), r"\(B, H, W\)"),
        (lambda: centre_similarity(torch.ones(4, 4)), r"\(B, H, W\)"),
        (lambda: centre_gaussian(4, 4, 0.0), "sigma must be above 0"),
        (lambda: centre_gaussian(4, 4, math.nan), "sigma must be above 0"),
        (lambda: centre_gaussian(0, 4, 1.0), "height and width must be at least 1"),
        (lambda: random_map(4, 0, 1), "height and width must be at least 1, but got 4 and 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
