"""Eqs. 1 and 2, against loops over Python floats written from the paper's printed formula."""

import itertools
import math

import numpy as np
import pytest
import torch

from captum_plq import functional as plq
from tests.support.draws import normal

AVERAGES = ["paper", "pairs"]
HALF = [torch.float16, torch.bfloat16]


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


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize(("m", "group_size"), [(2, 1), (3, 1), (12, 1), (12, 2), (12, 4), (12, 6)])
def test_distance_is_eq1(m, average, group_size):
    x = normal(2, 3, m, 5, seed=m)
    got = plq.mean_pairwise_distance(x, average, group_size=group_size)
    assert got.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        expected = distance_oracle(x[i, j], average, group_size)
        assert got[i, j].item() == pytest.approx(expected, rel=1e-12)


def test_distance_by_hand_and_by_default():
    """Sides 3, 4 and 5: the paper divides their sum by 9/2, the released code by 3."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert plq.mean_pairwise_distance(x).item() == pytest.approx(12 / 4.5)
    assert plq.mean_pairwise_distance(x, "pairs").item() == pytest.approx(4)


@pytest.mark.parametrize(
    ("message", "m", "options"),
    [
        ("at least 2", 0, {}),
        ("at least 2", 1, {}),
        ("at least 2", 7, {"group_size": 2}),
        ("at least 2", 4, {"group_size": 4}),
        ("at least 2", 3, {"group_size": 4}),
        ("average must be 'paper' or 'pairs', but got 'mean'", 4, {"average": "mean"}),
    ],
)
def test_what_is_refused(message, m, options):
    for call in (plq.mean_pairwise_distance, plq.quality_from_embeddings):
        with pytest.raises(ValueError, match=message):
            call(torch.ones(4, m, 3), **options)


def test_near_equal_rows_in_float32():
    """Unit vectors about 1e-4 apart, where ‖a‖² + ‖b‖² − 2ab would have no digit left."""
    step = normal(20, 512, seed=1) * 1e-4 / math.sqrt(2 * 512)
    x = unit(unit(normal(1, 512)) + step).float()
    assert plq.mean_pairwise_distance(x).item() == pytest.approx(distance_oracle(x), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
def test_identical_rows(dtype):
    """Where nothing is rounded: exactly zero, and a gradient of zero; else all but."""
    row = torch.tensor([0.5, -0.25, 2.0, 1.0, 0.0, -8.0], dtype=dtype)
    for x, most in ((row.repeat(3, 1), 0), (unit(normal(1, 512)).float().repeat(100, 1), 1e-4)):
        distance = plq.mean_pairwise_distance(x.requires_grad_())
        assert distance.item() <= most / 1000
        assert torch.autograd.grad(distance, x)[0].abs().max() <= most


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-3), (torch.float64, 1e-7)])
def test_two_equal_rows_among_others(dtype, within):
    """Value and gradient up to the rounding of a distance near the root's infinite slope."""
    for seed in range(20):
        a, b = unit(normal(2, 64, seed=seed)).to(dtype)
        x = torch.stack([a, a, b]).requires_grad_()
        total = 3 * plq.mean_pairwise_distance(x, "pairs")
        assert total.item() == pytest.approx(3 * distance_oracle(x, "pairs"), rel=1e-5)
        away = unit((a - b).double())
        want = torch.stack([away, away, -2 * away])
        got = torch.autograd.grad(total, x)[0].double()
        torch.testing.assert_close(got, want, rtol=0, atol=within)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-2), (torch.float64, 1e-5)])
def test_two_neighbours_among_others(dtype, step):
    """What counts as equal is no farther apart than rounding can tell."""
    a, b, c = unit(normal(3, 64)).to(dtype)
    for far in ([b], [b, -a, -b, c]):
        x = torch.stack([a, a + step * c, *far])
        count = len(x) * (len(x) - 1) / 2
        got = count * plq.mean_pairwise_distance(x, "pairs").item()
        assert got == pytest.approx(count * distance_oracle(x, "pairs"), abs=0.02 * step)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    """Squares of 300 overflow float16; rounding leaves equal and neighbouring rows."""
    x = (300 * normal(6, 512)).to(dtype)
    distance, q = plq.mean_pairwise_distance(x), plq.quality_from_embeddings(x)
    assert distance.dtype == q.dtype == torch.float32
    assert distance.item() == pytest.approx(distance_oracle(x), rel=1e-5)
    assert q.item() == pytest.approx(quality_oracle(x), rel=1e-5)
    for step in (0.0, 1e-3, 1e-2):
        near = unit(unit(normal(1, 128)) + step * normal(30, 128, seed=1) / 16).to(dtype)
        got = plq.mean_pairwise_distance(near).item()
        assert got == pytest.approx(distance_oracle(near), rel=1e-3, abs=1e-6)


def test_float64_stays_float64_and_autocast_changes_nothing():
    x = normal(10, 64)
    for call in (plq.mean_pairwise_distance, plq.quality_from_embeddings, plq.unit_length):
        assert call(x).dtype == torch.float64
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = call(x.float())
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, call(x).float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
def test_gradients(average):
    x = normal(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: plq.mean_pairwise_distance(e, average), x)
    assert torch.autograd.gradcheck(lambda e: plq.quality_from_embeddings(e, average=average), x)


@pytest.mark.parametrize("group_size", [1, 4])
def test_many_rows_come_in_blocks_which_bound_what_is_kept_for_backward(group_size):
    """1500 rows have two million distances: values and gradients are those of all at once."""
    x, kept = normal(1500, 3).requires_grad_(), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        blocked = plq.mean_pairwise_distance(x, "pairs", group_size=group_size)
    assert sum(kept.values()) < 1500 * 150
    group = torch.arange(1500) // group_size
    whole = (x[:, None] - x)[group[:, None] != group].norm(dim=1).mean()
    torch.testing.assert_close(blocked, whole, rtol=1e-12, atol=0)
    got, want = (torch.autograd.grad(y, x)[0] for y in (blocked, whole))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
def test_quality_is_eq1(average, normalize):
    x = normal(3, 9, 7) * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1)
    got = plq.quality_from_embeddings(x, average=average, normalize=normalize)
    want = [quality_oracle(rows, average, normalize) for rows in x]
    assert got.tolist() == pytest.approx(want, rel=1e-12)


def test_quality_by_hand_and_by_default():
    """Two orthogonal directions: d = √2, of which the paper takes half at m = 2."""
    x = torch.tensor([[3.0, 0.0], [0.0, 0.2]])
    assert plq.quality_from_embeddings(x).item() == pytest.approx(2 * sigmoid(-math.sqrt(2) / 2))
    same = normal(4, 1, 64).float().expand(4, 10, 64)
    assert plq.quality_from_embeddings(same).tolist() == pytest.approx([1] * 4, abs=1e-6)
    assert plq.quality_from_distance(torch.tensor([0.0, math.inf]))[1].isnan()


@pytest.mark.parametrize("scale", [1e-25, 1e-6, 7.0, 1e25])
def test_quality_ignores_the_length_of_embeddings(scale):
    x = normal(5, 8).float()
    want = plq.quality_from_embeddings(x).item()
    assert plq.quality_from_embeddings(scale * x).item() == pytest.approx(want, rel=1e-5)
    lengths = 1 + torch.arange(5.0).view(5, 1)
    assert plq.quality_from_embeddings(lengths * x).item() == pytest.approx(want, rel=1e-5)


def test_quality_of_zero_embeddings():
    """A zero has no direction: among others it stays zero, at distance 1 from unit vectors."""
    for normalize in (True, False):
        assert plq.quality_from_embeddings(torch.zeros(3, 4), normalize=normalize).isnan()
    one_zero = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).requires_grad_()
    q = plq.quality_from_embeddings(one_zero, average="pairs")
    assert q.item() == pytest.approx(2 * sigmoid(-1))
    assert torch.autograd.grad(q, one_zero)[0].isfinite().all()


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
def test_standard_error_is_the_spread_of_redraws(normalize, average):
    """600 images' worth of embeddings, each from a dropout mask of its own."""
    masks = 2.0 * (normal(600, 12, 24) < 0)
    x = (masks * normal(24, seed=1)) @ normal(24, 6, seed=2) / math.sqrt(24) + 1.5
    options = {"average": average, "normalize": normalize}
    q, error = plq.quality_with_standard_error(x, **options)
    torch.testing.assert_close(q, plq.quality_from_embeddings(x, **options), rtol=1e-14, atol=0)
    assert error.square().mean().sqrt().item() == pytest.approx(np.std(q.numpy()), rel=0.15)
    assert error.median().item() == pytest.approx(np.std(q.numpy()), rel=0.15)


def test_standard_error_of_groups_is_the_spread_of_redraws():
    """Rows of a group share a strong component, so they count as one draw."""
    shared, own = normal(500, 12, 1, 6), normal(500, 12, 4, 6, seed=1)
    x = (3 + shared + 0.3 * own).flatten(1, 2)
    q, error = plq.quality_with_standard_error(x, group_size=4)
    torch.testing.assert_close(q, plq.quality_from_embeddings(x, group_size=4), rtol=1e-14, atol=0)
    assert error.square().mean().sqrt().item() == pytest.approx(q.std().item(), rel=0.1)
    _, naive = plq.quality_with_standard_error(x)
    assert naive.square().mean().sqrt().item() < 0.7 * q.std().item()


@pytest.mark.parametrize(("average", "share"), [("pairs", 1), ("paper", 39 / 40)])
def test_standard_error_is_the_jackknife(average, share):
    """The mean distance with each row left out in turn, times the slope of 2σ(−d) at d̄."""
    x, m = unit(normal(40, 5)), 40
    left_out = [distance_oracle(x[torch.arange(m) != i], "pairs") for i in range(m)]
    variance = (m - 1) / m * sum((v - sum(left_out) / m) ** 2 for v in left_out)
    s = sigmoid(-distance_oracle(x, average))
    _, error = plq.quality_with_standard_error(x, average=average)
    expected = share * 2 * s * (1 - s) * math.sqrt(variance)
    assert error.item() == pytest.approx(expected, rel=1e-9)


def test_standard_error_of_identical_and_of_too_few_embeddings():
    assert plq.quality_with_standard_error(torch.full((3, 5, 8), 0.25))[1].tolist() == [0, 0, 0]
    for m, group_size in ((2, 1), (12, 6)):
        with pytest.raises(ValueError, match="at least 3"):
            plq.quality_with_standard_error(torch.ones(2, m, 4), group_size=group_size)


@pytest.mark.parametrize(("alpha", "r"), [(130.0, 0.88), (450.0, 0.93)])
def test_scaling_is_eq2(alpha, r):
    scaling = plq.QualityScaling(alpha, r)
    q = torch.linspace(r - 0.03, r + 0.03, 13, dtype=torch.float64).view(1, 13)
    want = [1 / (1 + math.exp(-alpha * (v - r))) for v in q[0].tolist()]
    assert plq.scale_quality(q, scaling)[0].tolist() == pytest.approx(want, rel=1e-9)
    assert plq.scale_quality(q, None) is q
    with pytest.raises(ValueError, match="α must be a finite number"):
        plq.scale_quality(q, plq.QualityScaling(math.nan, r))
    with pytest.raises(ValueError, match="r must be a finite number"):
        plq.scale_quality(q, plq.QualityScaling(alpha, math.inf))
