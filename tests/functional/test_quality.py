"""Eqs. 1 and 2, against loops over Python floats written from the paper's printed formula."""

import itertools
import math

import numpy as np
import pytest
import torch

from captum_plq.functional import (
    QualityScaling,
    mean_pairwise_distance,
    quality,
    quality_from_distance,
    quality_from_embeddings,
    quality_with_standard_error,
    scale_quality,
    unit_length,
)

AVERAGES = ["paper", "pairs"]
HALF = [torch.float16, torch.bfloat16]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(x):
    return x / x.square().sum(-1, keepdim=True).sqrt()


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def distance_oracle(x, average="paper", group_size=1):
    """Eq. 1's sum over i < j, pair by pair, without the pairs within a group."""
    rows = x.detach().double().tolist()
    m, pairs = len(rows), itertools.combinations(range(len(rows)), 2)
    apart = [math.dist(rows[i], rows[j]) for i, j in pairs if i // group_size != j // group_size]
    mean = sum(apart) / len(apart)
    return (m - 1) / m * mean if average == "paper" else mean


def quality_oracle(x, average="paper", normalize=True):
    return 2 * sigmoid(-distance_oracle(unit(x.double()) if normalize else x, average))


# --- the distance -----------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("m", "group_size"), [(2, 1), (3, 1), (12, 1), (12, 2), (12, 4), (12, 6)])
def test_distance_is_eq1(m, average, group_size):
    x = randn(2, 3, m, 5, seed=m)
    got = mean_pairwise_distance(x, average, group_size=group_size)
    assert got.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        expected = distance_oracle(x[i, j], average, group_size)
        assert got[i, j].item() == pytest.approx(expected, rel=1e-12)


def test_distance_by_hand_and_by_default():
    """Sides 3, 4 and 5: the paper divides their sum by 9/2, the released code by 3."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert mean_pairwise_distance(x).item() == pytest.approx(12 / 4.5)
    assert mean_pairwise_distance(x, "pairs").item() == pytest.approx(4)


@pytest.mark.parametrize(("m", "group_size"), [(0, 1), (1, 1), (7, 2), (4, 4), (3, 4)])
def test_fewer_than_two_groups_are_refused(m, group_size):
    for call in (mean_pairwise_distance, quality_from_embeddings):
        with pytest.raises(ValueError, match="at least 2"):
            call(torch.ones(4, m, 3), group_size=group_size)


def test_unknown_average():
    for call in (mean_pairwise_distance, quality_from_embeddings, quality_with_standard_error):
        with pytest.raises(ValueError, match="average must be 'paper' or 'pairs', but got 'mean'"):
            call(torch.ones(4, 3), average="mean")


def test_near_equal_rows_in_float32():
    """Unit vectors about 1e-4 apart, where ‖a‖² + ‖b‖² − 2ab would have no digit left."""
    step = randn(20, 512, seed=1) * 1e-4 / math.sqrt(2 * 512)
    x = unit(unit(randn(1, 512)) + step).float()
    assert mean_pairwise_distance(x).item() == pytest.approx(distance_oracle(x), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_identical_rows(dtype):
    """Dyadic values, so that nothing is rounded: exactly zero, and a gradient of zero."""
    row = torch.tensor([0.5, -0.25, 2.0, 1.0, 0.0, -8.0], dtype=dtype)
    x = row.repeat(3, 1).requires_grad_()
    distance = mean_pairwise_distance(x)
    assert distance.item() == 0
    assert torch.equal(torch.autograd.grad(distance, x)[0], torch.zeros_like(x))


def test_identical_rows_whose_mean_is_rounded():
    x = unit(randn(1, 512)).float().repeat(100, 1).requires_grad_()
    distance = mean_pairwise_distance(x)
    assert distance.item() < 1e-7
    assert torch.autograd.grad(distance, x)[0].abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-3), (torch.float64, 1e-7)])
def test_two_equal_rows_among_others(dtype, within):
    """Value and gradient up to the rounding of a distance near the root's infinite slope."""
    for seed in range(20):
        a, b = unit(randn(2, 64, seed=seed)).to(dtype)
        x = torch.stack([a, a, b]).requires_grad_()
        total = 3 * mean_pairwise_distance(x, "pairs")
        assert total.item() == pytest.approx(3 * distance_oracle(x, "pairs"), rel=1e-5)
        away = unit((a - b).double())
        want = torch.stack([away, away, -2 * away])
        got = torch.autograd.grad(total, x)[0].double()
        torch.testing.assert_close(got, want, rtol=0, atol=within)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-2), (torch.float64, 1e-5)])
def test_two_neighbours_among_others(dtype, step):
    """What counts as equal is no farther apart than rounding can tell."""
    a, b, c = unit(randn(3, 64)).to(dtype)
    for far in ([b], [b, -a, -b, c]):
        x = torch.stack([a, a + step * c, *far])
        count = len(x) * (len(x) - 1) / 2
        got = count * mean_pairwise_distance(x, "pairs").item()
        assert got == pytest.approx(count * distance_oracle(x, "pairs"), abs=0.02 * step)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    """Squares of 300 overflow float16; rounding leaves equal and neighbouring rows."""
    x = (300 * randn(6, 512)).to(dtype)
    assert mean_pairwise_distance(x).dtype == quality_from_embeddings(x).dtype == torch.float32
    assert mean_pairwise_distance(x).item() == pytest.approx(distance_oracle(x), rel=1e-5)
    assert quality_from_embeddings(x).item() == pytest.approx(quality_oracle(x), rel=1e-5)
    for step in (0.0, 1e-3, 1e-2):
        near = unit(unit(randn(1, 128)) + step * randn(30, 128, seed=1) / 16).to(dtype)
        got = mean_pairwise_distance(near).item()
        assert got == pytest.approx(distance_oracle(near), rel=1e-3, abs=1e-6)


def test_float64_stays_float64_and_autocast_changes_nothing():
    x = randn(10, 64)
    for call in (mean_pairwise_distance, quality_from_embeddings, unit_length):
        assert call(x).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = call(x.float())
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, call(x).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
def test_gradients(average):
    x = randn(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: mean_pairwise_distance(e, average), x)
    assert torch.autograd.gradcheck(lambda e: quality_from_embeddings(e, average=average), x)


@pytest.mark.parametrize("group_size", [1, 4])
@pytest.mark.parametrize("at_a_time", [1, 24, 100])
def test_blocks_change_neither_values_nor_gradients(monkeypatch, at_a_time, group_size):
    x = randn(2, 12, 5).requires_grad_()
    whole = mean_pairwise_distance(x, group_size=group_size)
    want = torch.autograd.grad(whole.sum(), x)[0]
    monkeypatch.setattr(quality, "_DISTANCES_AT_A_TIME", at_a_time)
    blocked = mean_pairwise_distance(x, group_size=group_size)
    torch.testing.assert_close(blocked, whole, rtol=1e-14, atol=0)
    got = torch.autograd.grad(blocked.sum(), x)[0]
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-15)
    with torch.no_grad():
        assert torch.equal(mean_pairwise_distance(x, group_size=group_size), blocked)


def test_blocks_bound_what_is_kept_for_backward(monkeypatch):
    def kept(at_a_time):
        monkeypatch.setattr(quality, "_DISTANCES_AT_A_TIME", at_a_time)
        storages = {}

        def keep(x):
            storages[x.untyped_storage().data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            mean_pairwise_distance(randn(400, 3).requires_grad_()).sum()
        return sum(storages.values())

    assert kept(2**19) > 400 * 400
    assert kept(2**12) < 400 * 40


# --- the quality ------------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
def test_quality_is_eq1(average, normalize):
    x = randn(3, 9, 7) * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1)
    got = quality_from_embeddings(x, average=average, normalize=normalize)
    want = [quality_oracle(rows, average, normalize) for rows in x]
    assert got.tolist() == pytest.approx(want, rel=1e-12)


def test_quality_by_hand_and_by_default():
    """Two orthogonal directions: d = √2, of which the paper takes half at m = 2."""
    x = torch.tensor([[3.0, 0.0], [0.0, 0.2]])
    assert quality_from_embeddings(x).item() == pytest.approx(2 * sigmoid(-math.sqrt(2) / 2))
    opposite = torch.tensor([[0.6, 0.8], [-0.6, -0.8]], dtype=torch.float64)
    lowest = quality_from_embeddings(opposite, average="pairs").item()
    assert lowest == pytest.approx(2 / (1 + math.exp(2)), rel=1e-12)
    same = randn(4, 1, 64, dtype=torch.float32).expand(4, 10, 64)
    assert quality_from_embeddings(same).tolist() == pytest.approx([1] * 4, abs=1e-6)
    assert quality_from_distance(torch.tensor([0.0, math.inf]))[1].isnan()


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 7.0, 1e25])
def test_quality_ignores_the_length_of_embeddings(scale):
    x = randn(5, 8, dtype=torch.float32)
    want = quality_from_embeddings(x).item()
    assert quality_from_embeddings(scale * x).item() == pytest.approx(want, rel=1e-5)
    lengths = 1 + torch.arange(5.0).view(5, 1)
    assert quality_from_embeddings(lengths * x).item() == pytest.approx(want, rel=1e-5)


def test_quality_of_zero_embeddings():
    """A zero has no direction: among others it stays zero, at distance 1 from unit vectors."""
    for normalize in (True, False):
        assert quality_from_embeddings(torch.zeros(3, 4), normalize=normalize).isnan()
    one_zero = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).requires_grad_()
    q = quality_from_embeddings(one_zero, average="pairs")
    assert q.item() == pytest.approx(2 * sigmoid(-1))
    assert torch.autograd.grad(q, one_zero)[0].isfinite().all()


# --- its standard error -----------------------------------------------------------------


def redraws(count, m):
    """(count, m, 6): embeddings of one image, each from a dropout mask of its own."""
    generator = torch.Generator().manual_seed(m)
    masks = 2.0 * (torch.rand(count, m, 24, generator=generator, dtype=torch.float64) < 0.5)
    features, weight = randn(24, seed=1), randn(24, 6, seed=2) / math.sqrt(24)
    return (masks * features) @ weight + 1.5


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
def test_standard_error_is_the_spread_of_redraws(normalize, average):
    x, options = redraws(600, 12), {"average": average, "normalize": normalize}
    q, error = quality_with_standard_error(x, **options)
    torch.testing.assert_close(q, quality_from_embeddings(x, **options), rtol=1e-14, atol=0)
    assert error.square().mean().sqrt().item() == pytest.approx(np.std(q.numpy()), rel=0.15)
    assert error.median().item() == pytest.approx(np.std(q.numpy()), rel=0.15)


def test_standard_error_of_groups_is_the_spread_of_redraws():
    """Rows of a group share a strong component, so they count as one draw."""
    shared, own = randn(500, 12, 1, 6), randn(500, 12, 4, 6, seed=1)
    x = (3 + shared + 0.3 * own).flatten(1, 2)
    q, error = quality_with_standard_error(x, group_size=4)
    torch.testing.assert_close(q, quality_from_embeddings(x, group_size=4), rtol=1e-14, atol=0)
    assert error.square().mean().sqrt().item() == pytest.approx(q.std().item(), rel=0.1)
    _, naive = quality_with_standard_error(x)
    assert naive.square().mean().sqrt().item() < 0.7 * q.std().item()


def test_standard_error_is_the_jackknife():
    """The mean distance with each row left out in turn, times the slope of 2σ(−d) at d̄."""
    x, m = unit(randn(40, 5)), 40
    left_out = [distance_oracle(x[torch.arange(m) != i], "pairs") for i in range(m)]
    variance = (m - 1) / m * sum((v - sum(left_out) / m) ** 2 for v in left_out)
    s = sigmoid(-distance_oracle(x, "pairs"))
    _, error = quality_with_standard_error(x, average="pairs")
    assert error.item() == pytest.approx(2 * s * (1 - s) * math.sqrt(variance), rel=1e-9)
    s = sigmoid(-distance_oracle(x, "paper"))
    _, error = quality_with_standard_error(x)
    assert error.item() == pytest.approx(39 / 40 * 2 * s * (1 - s) * math.sqrt(variance), rel=1e-9)


def test_standard_error_of_identical_and_of_too_few_embeddings():
    assert quality_with_standard_error(torch.full((3, 5, 8), 0.25))[1].tolist() == [0, 0, 0]
    for m, group_size in ((0, 1), (2, 1), (12, 6)):
        with pytest.raises(ValueError, match="at least 3"):
            quality_with_standard_error(torch.ones(2, m, 4), group_size=group_size)


# --- Eq. 2 ------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [QualityScaling(130.0, 0.88), QualityScaling(450.0, 0.93)])
def test_scaling_is_eq2(scaling):
    alpha, r = scaling
    q = torch.linspace(r - 0.03, r + 0.03, 13, dtype=torch.float64).view(1, 13)
    want = [1 / (1 + math.exp(-alpha * (v - r))) for v in q[0].tolist()]
    assert scale_quality(q, scaling)[0].tolist() == pytest.approx(want, rel=1e-9)
    assert scale_quality(q, None) is q
    with pytest.raises(ValueError, match="α must be a finite number"):
        scale_quality(q, QualityScaling(math.nan, r))
    with pytest.raises(ValueError, match="r must be a finite number"):
        scale_quality(q, QualityScaling(alpha, math.inf))
