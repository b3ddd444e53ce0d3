"""Dropout patterns: fair draws, fixed by their seed, that disturb nothing."""

import math

import pytest
import torch

from captum_plq.functional.masks import BalancedMasks, DropoutMasks
from tests.conftest import living_tensors

CPU = torch.device("cpu")


def draw(passes=20, dropout=0.5, seed=0, shape=(30,)):
    return DropoutMasks(passes, dropout, seed).for_features(torch.Size(shape), CPU)


def test_seed_0_keeps_its_draw_from_release_to_release():
    """A change here changes every user's qualities."""
    drawn = ["".join("01"[int(k)] for k in row) for row in draw(3, shape=(12,))]
    assert drawn == ["010001010100", "000111001101", "011000010000"]


def test_all_passes_and_all_seeds_differ():
    rows = torch.cat([draw(50, seed=seed, shape=(5, 6)) for seed in range(3)])
    assert rows.dtype == torch.bool
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 150


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
def test_each_feature_and_each_pass_is_kept_with_probability_1_minus_p(p):
    kept = draw(passes=1000, dropout=p, shape=(1000,)).double()
    for axis in (0, 1):
        z = (kept.mean(axis) - (1 - p)) / (p * (1 - p) / 1000) ** 0.5
        assert z.abs().max() < 5
        assert 0.8 < z.std() < 1.2
        assert abs(z.mean()) < 0.2


@pytest.mark.parametrize("kind", [DropoutMasks, BalancedMasks])
def test_drawing_neither_moves_nor_heeds_what_is_global(kind):
    draw = lambda: kind(20, seed=4).for_features(torch.Size((30,)), CPU)  # noqa: E731
    expected = draw()
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        assert torch.equal(draw(), expected)
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw(), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        assert torch.equal(draw(), expected)
    with torch.inference_mode():
        assert kind is BalancedMasks or not draw().is_inference()  # those are not kept


def test_a_second_draw_comes_from_a_cache_that_stays_small():
    masks = DropoutMasks(10)
    shape = torch.Size([30])
    assert masks.for_features(shape, CPU) is masks.for_features(shape, CPU)
    before = living_tensors()
    for width in range(1, 200):
        masks.for_features(torch.Size([width]), CPU)
    assert living_tensors() <= before + 1
    assert torch.equal(masks.for_features(shape, CPU), draw(10))


@pytest.mark.parametrize(
    ("message", "refused"),
    [
        ("passes must be an integer of at least 2", [1, -5, True, 2.0, "2", None]),
        ("dropout must lie strictly between 0 and 1", [0, 1.0, -0.1, 1.5, math.nan, math.inf]),
        ("seed must be an integer", [True, 1.0, None, 2**64, -(2**63) - 1]),
    ],
)
def test_what_is_refused(message, refused):
    for value in refused:
        with pytest.raises(ValueError, match=message):
            DropoutMasks(**{message.split()[0]: value})
