"""The equations, each against a slow oracle written from the paper's printed formula.

The oracles are plain loops over Python floats (or numpy in float64) and call nothing of
`captum_plq`.
"""

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.functional import (
    QualityScaling,
    clip_gradient,
    gamma_for_median,
    mean_pairwise_distance,
    merge_channels,
    node_direction,
    node_scale,
    node_weights,
    pixel_quality,
    pixel_quality_change,
    quality_change,
    quality_from_embeddings,
    quality_map,
    quality_with_standard_error,
    rescale_gamma,
    saliency,
    scale_quality,
)

AVERAGES = ["paper", "pairs"]
WEIGHTS = ["l1", "sum", "signed", "l2"]
HALF = [torch.float16, torch.bfloat16]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(x: Tensor) -> Tensor:
    return x / x.square().sum(-1, keepdim=True).sqrt()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# --- Eq. 1: mean pairwise distance -----------------------------------------------------


def length_oracle(row: list[float]) -> float:
    return math.sqrt(sum(v * v for v in row))


def quality_standard_error(x, **options):
    return quality_with_standard_error(x, **options)[1]


def distance_oracle(rows: Tensor, average: str = "paper") -> float:
    """Eq. 1's sum over i < j, pair by pair."""
    rows = rows.detach().double().tolist()
    pairs = list(itertools.combinations(rows, 2))
    total = sum(length_oracle([p - q for p, q in zip(a, b, strict=True)]) for a, b in pairs)
    return 2 / len(rows) ** 2 * total if average == "paper" else total / len(pairs)


def quality_oracle(rows: Tensor, average: str = "paper", normalize: bool = True) -> float:
    """Eq. 1 as printed; rows of unit length unless told otherwise."""
    if normalize:
        scaled = []
        for row in rows.detach().double().tolist():
            length = length_oracle(row)
            scaled.append([v / length for v in row])
        rows = torch.tensor(scaled, dtype=torch.float64)
    return 2 * sigmoid(-distance_oracle(rows, average))


def differentiable_oracle(rows: Tensor, average: str) -> Tensor:
    m = len(rows)
    pairs = itertools.combinations(rows, 2)
    total = sum((a - b).square().sum().sqrt() for a, b in pairs)
    return total * (2 / m**2 if average == "paper" else 2 / (m * (m - 1)))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("m", [2, 3, 10])
def test_distance_is_eq1(m, average):
    x = randn(m, 6, seed=m)
    got = mean_pairwise_distance(x, average)
    assert got.shape == ()
    assert got.item() == pytest.approx(distance_oracle(x, average), rel=1e-12)


def test_distance_by_hand():
    """Sides 3, 4 and 5: the paper divides their sum by 9/2, the released code by 3."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    assert mean_pairwise_distance(x).item() == pytest.approx(12 / 4.5)
    assert mean_pairwise_distance(x, "pairs").item() == pytest.approx(4)


def test_distance_default_is_the_papers():
    x = randn(5, 4)
    assert mean_pairwise_distance(x) == mean_pairwise_distance(x, "paper")
    assert mean_pairwise_distance(x) != mean_pairwise_distance(x, "pairs")


@pytest.mark.parametrize("m", [2, 5, 100])
def test_averages_differ_by_m_over_m_minus_1(m):
    x = randn(m, 8)
    ratio = mean_pairwise_distance(x, "pairs") / mean_pairwise_distance(x, "paper")
    assert ratio.item() == pytest.approx(m / (m - 1), rel=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_distance_of_leading_batch_dims(average):
    x = randn(2, 3, 4, 5)
    got = mean_pairwise_distance(x, average)
    assert got.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        assert got[i, j].item() == pytest.approx(distance_oracle(x[i, j], average), rel=1e-12)


@pytest.mark.parametrize("m", [0, 1])
@pytest.mark.parametrize("call", [mean_pairwise_distance, quality_from_embeddings])
def test_distance_needs_two_rows(call, m):
    with pytest.raises(ValueError, match="at least 2"):
        call(torch.ones(4, m, 3))


@pytest.mark.parametrize(
    "call", [mean_pairwise_distance, quality_from_embeddings, quality_standard_error]
)
def test_unknown_average(call):
    with pytest.raises(ValueError, match="mean"):
        call(torch.ones(4, 3), average="mean")


@pytest.mark.parametrize("average", AVERAGES)
def test_near_equal_rows_in_float32(average):
    """Unit vectors about 1e-4 apart, where ‖a‖² + ‖b‖² − 2ab would have no digit left."""
    step = randn(20, 512, seed=1) * 1e-4 / math.sqrt(2 * 512)
    x = unit(unit(randn(1, 512)) + step).float()
    want = distance_oracle(x, average)
    assert want == pytest.approx(1e-4, rel=0.1)
    assert mean_pairwise_distance(x, average).item() == pytest.approx(want, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALF])
@pytest.mark.parametrize("m", [2, 3, 8])
def test_identical_rows(m, dtype):
    """Dyadic values, so that nothing is rounded: exactly zero, and a gradient of zero."""
    row = torch.tensor([0.5, -0.25, 2.0, 1.0, 0.0, -8.0], dtype=dtype)
    x = row.repeat(m, 1).requires_grad_()
    distance = mean_pairwise_distance(x)
    assert distance.item() == 0
    (gradient,) = torch.autograd.grad(distance, x)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_identical_rows_whose_mean_is_rounded():
    x = unit(randn(1, 512)).float().repeat(100, 1).requires_grad_()
    distance = mean_pairwise_distance(x)
    assert distance.item() < 1e-7
    (gradient,) = torch.autograd.grad(distance, x)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e-4


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-3), (torch.float64, 1e-7)])
def test_two_equal_rows_among_others(dtype, within):
    """Value and gradient up to the rounding of a distance near the root's infinite slope."""
    for seed in range(20):
        a, b = unit(randn(2, 64, seed=seed)).to(dtype)
        x = torch.stack([a, a, b]).requires_grad_()
        total = 3 * mean_pairwise_distance(x, "pairs")
        assert total.item() == pytest.approx(3 * distance_oracle(x, "pairs"), abs=within)
        (gradient,) = torch.autograd.grad(total, x)
        away = unit((a - b).double())
        want = torch.stack([away, away, -2 * away])
        torch.testing.assert_close(gradient.double(), want, rtol=0, atol=within)


def test_two_equal_rows_among_others_have_no_distance():
    for seed in range(50):
        a, b = unit(randn(2, 64, seed=seed)).float()
        x = torch.stack([a, a, b])
        want = distance_oracle(x, "pairs")
        assert mean_pairwise_distance(x, "pairs").item() == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(("dtype", "step"), [(torch.float32, 1e-2), (torch.float64, 1e-5)])
def test_two_neighbours_among_others(dtype, step):
    """What counts as equal is no farther apart than rounding can tell."""
    a, b, c = unit(randn(3, 64)).to(dtype)
    for far in ([b], [b, -a, -b, c]):
        x = torch.stack([a, a + step * c, *far])
        count = len(x) * (len(x) - 1) / 2
        want = count * distance_oracle(x, "pairs")
        got = count * mean_pairwise_distance(x, "pairs").item()
        assert got == pytest.approx(want, abs=0.02 * step)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_distance(dtype):
    """Squares of 300 overflow float16; the result is float32 and as good as float32."""
    x = (300 * randn(6, 32)).to(dtype)
    got = mean_pairwise_distance(x)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(distance_oracle(x), rel=1e-5)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("step", [0.0, 1e-3, 1e-2])
def test_half_precision_near_equal_rows(dtype, step):
    """Rounding to half leaves equal and neighbouring rows: no square may be negative."""
    x = unit(unit(randn(1, 128)) + step * randn(30, 128, seed=1) / 16).to(dtype)
    got = mean_pairwise_distance(x)
    assert got.isfinite()
    assert got.item() == pytest.approx(distance_oracle(x), rel=1e-3, abs=1e-6)
    quality = quality_from_embeddings(x)
    assert quality.dtype == torch.float32
    assert 0 < quality.item() <= 1


def test_float64_stays_float64():
    x = randn(3, 4)
    for call in (mean_pairwise_distance, quality_from_embeddings, quality_standard_error):
        assert call(x).dtype == torch.float64
        assert call(x.float()).dtype == torch.float32


def test_distance_ignores_autocast():
    x = randn(10, 64, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = mean_pairwise_distance(x)
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(distance_oracle(x), rel=1e-5)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("m", [2, 5])
def test_gradcheck(m, average):
    x = randn(2, m, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: mean_pairwise_distance(e, average), x)
    assert torch.autograd.gradcheck(lambda e: quality_from_embeddings(e, average=average), x)


@pytest.mark.parametrize("average", AVERAGES)
def test_distance_gradient(average):
    x = randn(7, 5).requires_grad_()
    (got,) = torch.autograd.grad(mean_pairwise_distance(x, average), x)
    (want,) = torch.autograd.grad(differentiable_oracle(x, average), x)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


# --- Eq. 1: quality ---------------------------------------------------------------------


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
def test_quality_is_eq1(average, normalize):
    x = randn(3, 9, 7) * torch.tensor([0.1, 1.0, 3.0]).view(3, 1, 1)
    got = quality_from_embeddings(x, average=average, normalize=normalize)
    want = [quality_oracle(rows, average, normalize) for rows in x]
    assert got.tolist() == pytest.approx(want, rel=1e-12)


def test_quality_defaults():
    x = 5 * randn(4, 6)
    assert quality_from_embeddings(x).item() == pytest.approx(
        quality_oracle(x, "paper", normalize=True), rel=1e-12
    )


def test_quality_by_hand():
    """Two orthogonal directions: d = √2, of which the paper takes half at m = 2."""
    x = torch.tensor([[3.0, 0.0], [0.0, 0.2]])
    assert quality_from_embeddings(x).item() == pytest.approx(2 * sigmoid(-math.sqrt(2) / 2))
    assert quality_from_embeddings(x, average="pairs").item() == pytest.approx(
        2 * sigmoid(-math.sqrt(2))
    )


@pytest.mark.parametrize("average", AVERAGES)
def test_quality_range(average):
    q = quality_from_embeddings(randn(200, 4, 3), average=average)
    assert q.min() >= 2 * sigmoid(-2)
    assert q.max() <= 1


def test_quality_lower_bound_is_reached_by_opposite_embeddings():
    x = torch.tensor([[0.6, 0.8], [-0.6, -0.8]], dtype=torch.float64)
    q = quality_from_embeddings(x, average="pairs").item()
    assert q == pytest.approx(2 / (1 + math.exp(2)), rel=1e-12)
    assert q == pytest.approx(0.238, abs=5e-4)


@pytest.mark.parametrize("normalize", [True, False])
def test_quality_of_identical_embeddings(normalize):
    x = randn(4, 1, 64, dtype=torch.float32).expand(4, 10, 64)
    assert quality_from_embeddings(x, normalize=normalize).tolist() == pytest.approx(
        [1] * 4, abs=1e-6
    )


def test_quality_falls_with_spread():
    spread = torch.linspace(0, 2, 9, dtype=torch.float64).view(-1, 1, 1)
    q = quality_from_embeddings(randn(1, 1, 8) + spread * randn(1, 12, 8, seed=1))
    assert (q.diff() < 0).all()


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 7.0, 1e6])
def test_quality_ignores_the_length_of_embeddings(scale):
    x = randn(5, 8, dtype=torch.float32)
    want = quality_from_embeddings(x).item()
    assert quality_from_embeddings(scale * x).item() == pytest.approx(want, rel=1e-5)
    lengths = 1 + torch.arange(5.0).view(5, 1)
    assert quality_from_embeddings(lengths * x).item() == pytest.approx(want, rel=1e-5)
    raw = quality_from_embeddings(x, normalize=False).item()
    assert quality_from_embeddings(scale * x, normalize=False).item() != pytest.approx(raw)


def test_quality_of_zero_embeddings():
    """A zero has no direction: among others it stays zero, at distance 1 from unit vectors."""
    for normalize in (True, False):
        assert quality_from_embeddings(torch.zeros(3, 4), normalize=normalize).isnan()
    one_zero = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).requires_grad_()
    q = quality_from_embeddings(one_zero, average="pairs")
    assert q.item() == pytest.approx(2 * sigmoid(-1))
    assert torch.autograd.grad(q, one_zero)[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_quality(dtype):
    """The squared length of 512 values of 100 overflows float16."""
    x = (100 * randn(5, 512) + 50).to(dtype)
    assert quality_from_embeddings(x).item() == pytest.approx(quality_oracle(x), rel=1e-5)


# --- Eq. 1: standard error --------------------------------------------------------------


def redraws(count: int, m: int) -> Tensor:
    """(count, m, 6): embeddings of one image, each from a dropout mask of its own."""
    generator = torch.Generator().manual_seed(m)
    masks = 2.0 * (torch.rand(count, m, 24, generator=generator, dtype=torch.float64) < 0.5)
    features, weight = randn(24, seed=1), randn(24, 6, seed=2) / math.sqrt(24)
    return (masks * features) @ weight + 1.5


def qualities_of_redraws(x: Tensor, average: str, normalize: bool) -> list[float]:
    qualities = []
    for rows in x.numpy():
        if normalize:
            rows = rows / np.sqrt((rows**2).sum(1, keepdims=True))
        m = len(rows)
        total = sum(np.sqrt(((rows[i + 1 :] - rows[i]) ** 2).sum(1)).sum() for i in range(m))
        mean = 2 / m**2 * total if average == "paper" else total / (m * (m - 1) / 2)
        qualities.append(2 * sigmoid(-mean))
    return qualities


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("m", [12, 40])
def test_standard_error_is_the_spread_of_redraws(m, normalize, average):
    x = redraws(600, m)
    want = np.std(qualities_of_redraws(x, average, normalize), ddof=1)
    got = quality_standard_error(x, average=average, normalize=normalize)
    assert got.shape == (600,)
    assert got.square().mean().sqrt().item() == pytest.approx(want, rel=0.15)
    assert got.median().item() == pytest.approx(want, rel=0.15)


def test_standard_error_defaults():
    x = 3 * randn(6, 4)
    assert quality_standard_error(x) == quality_standard_error(x, average="paper", normalize=True)
    assert quality_standard_error(x) != quality_standard_error(x, average="pairs")
    assert quality_standard_error(x) != quality_standard_error(x, normalize=False)


def test_standard_error_of_the_average():
    """At small distances Q = 1 − d̄/2, so that the errors differ as the averages do."""
    x = 1e-6 * randn(4, 5)
    pairs = quality_standard_error(x, average="pairs", normalize=False)
    paper = quality_standard_error(x, average="paper", normalize=False)
    assert (pairs / paper).item() == pytest.approx(4 / 3, rel=1e-4)


def test_standard_error_is_the_jackknife():
    """The mean distance with each row left out in turn, times the slope of 2σ(−d) at d̄."""
    x, m = unit(randn(40, 5)), 40
    left_out = [distance_oracle(x[torch.arange(m) != i], "pairs") for i in range(m)]
    centre = sum(left_out) / m
    variance = (m - 1) / m * sum((v - centre) ** 2 for v in left_out)
    s = sigmoid(-distance_oracle(x, "pairs"))
    want = 2 * s * (1 - s) * math.sqrt(variance)
    assert quality_standard_error(x, average="pairs").item() == pytest.approx(want, rel=1e-9)


def test_standard_error_of_identical_embeddings():
    x = torch.full((3, 5, 8), 0.25)
    assert quality_standard_error(x).tolist() == [0, 0, 0]


def test_standard_error_falls_as_the_root_of_m():
    few, many = quality_standard_error(redraws(200, 10)), quality_standard_error(redraws(200, 160))
    assert (few.mean() / many.mean()).item() == pytest.approx(4, rel=0.15)


@pytest.mark.parametrize("m", [0, 1, 2])
def test_standard_error_needs_three_rows(m):
    with pytest.raises(ValueError, match="at least 3"):
        quality_standard_error(torch.ones(2, m, 4))


# --- Eq. 2 ------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [QualityScaling(130.0, 0.88), QualityScaling(450.0, 0.93)])
def test_scaling_is_eq2(scaling):
    alpha, r = scaling
    q = torch.linspace(r - 0.03, r + 0.03, 13, dtype=torch.float64).view(1, 13)
    got = scale_quality(q, scaling)
    assert got.shape == q.shape
    want = [1 / (1 + math.exp(-alpha * (v - r))) for v in q[0].tolist()]
    assert got[0].tolist() == pytest.approx(want, rel=1e-9)


def test_scaling_by_hand():
    """σ(0) = ½ and σ(ln 3) = ¾."""
    got = scale_quality(
        torch.tensor([0.5, 0.5 + math.log(3) / 10, 0.5 - math.log(3) / 10]),
        QualityScaling(alpha=10.0, r=0.5),
    )
    assert got.tolist() == pytest.approx([0.5, 0.75, 0.25], abs=1e-6)


def test_scaling_is_increasing():
    q = torch.linspace(0.8, 0.95, 60, dtype=torch.float64)
    got = scale_quality(q, QualityScaling(130.0, 0.88))
    assert (got.diff() > 0).all()
    assert got.min() > 0
    assert got.max() < 1


def test_no_scaling_returns_the_same_tensor():
    q = torch.rand(4)
    assert scale_quality(q, None) is q


# --- Eq. 3 ------------------------------------------------------------------------------


def sign(v: float) -> float:
    return (v > 0) - (v < 0)


def weights_oracle(e: list[float], quality: float, weights: str) -> list[float]:
    """The table of `node_weights`, line by line; "l1" is Eq. 3 as printed."""
    l1 = sum(abs(v) for v in e)
    if weights == "l1":
        return [quality / l1 for _ in e]
    if weights == "sum":
        return [quality / sum(e) for _ in e]
    if weights == "signed":
        return [quality * sign(v) / l1 for v in e]
    return [quality * v / sum(u * u for u in e) for v in e]


def node_outputs(e: Tensor, quality: Tensor, weights: str) -> list[float]:
    w = node_weights(e, quality, weights)
    return [
        sum(a * b for a, b in zip(u, v, strict=True))
        for u, v in zip(w.flatten(1).tolist(), e.flatten(1).tolist(), strict=True)
    ]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1, 1), (4, 2, 3)])
def test_weights_are_those_printed(shape, weights):
    e, q = randn(*shape), torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    got = node_weights(e, q, weights)
    assert got.shape == e.shape
    for row, quality, w in zip(e.flatten(1).tolist(), q.tolist(), got.flatten(1), strict=True):
        assert w.tolist() == pytest.approx(weights_oracle(row, quality, weights), rel=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1, 1), (3, 2, 3)])
def test_weights_are_scale_times_direction(shape, weights):
    e, q = randn(*shape), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    scale, direction = node_scale(e, q, weights), node_direction(e, weights)
    assert scale.shape == (3,)
    assert direction.shape == e.shape
    for i in range(3):
        torch.testing.assert_close(node_weights(e, q, weights)[i], scale[i] * direction[i])


def test_directions():
    e = torch.tensor([[2.0, -3.0, 0.0]])
    assert node_direction(e, "l1").tolist() == [[1, 1, 1]]
    assert node_direction(e, "sum").tolist() == [[1, 1, 1]]
    assert node_direction(e, "signed").tolist() == [[1, -1, 0]]
    assert node_direction(e, "l2").tolist() == [[2, -3, 0]]


def test_scales():
    e, q = torch.tensor([[2.0, -3.0, 0.0], [1.0, 1.0, 2.0]]), torch.tensor([0.5, 0.8])
    assert node_scale(e, q, "l1").tolist() == pytest.approx([0.5 / 5, 0.8 / 4])
    assert node_scale(e, q, "signed").tolist() == pytest.approx([0.5 / 5, 0.8 / 4])
    assert node_scale(e, q, "sum").tolist() == pytest.approx([0.5 / -1, 0.8 / 4])
    assert node_scale(e, q, "l2").tolist() == pytest.approx([0.5 / 13, 0.8 / 6])


def test_weights_default_is_the_papers():
    e, q = randn(2, 5), torch.rand(2)
    assert torch.equal(node_weights(e, q), node_weights(e, q, "l1"))
    assert torch.equal(node_scale(e, q), node_scale(e, q, "l1"))
    assert torch.equal(node_direction(e), node_direction(e, "l1"))


@pytest.mark.parametrize("weights", ["sum", "signed", "l2"])
def test_node_outputs_the_quality(weights):
    e, q = randn(5, 8), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    assert node_outputs(e, q, weights) == pytest.approx(q.tolist(), rel=1e-10)


def test_node_of_eq3_outputs_the_quality_only_without_signs():
    e, q = randn(5, 8), torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    want = [
        quality * sum(row) / sum(abs(v) for v in row)
        for row, quality in zip(e.tolist(), q.tolist(), strict=True)
    ]
    assert node_outputs(e, q, "l1") == pytest.approx(want, rel=1e-10)
    assert node_outputs(e, q, "l1") != pytest.approx(q.tolist(), rel=0.1)
    assert node_outputs(e.abs(), q, "l1") == pytest.approx(q.tolist(), rel=1e-10)


@pytest.mark.parametrize(("weights", "follows"), [(w, w == "l2") for w in WEIGHTS])
def test_only_l2_follows_a_change_of_basis(weights, follows):
    """With e' = Re the pixels' gradient stays the same if, and only if, w' = Rw."""
    e, q = randn(3, 6), torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
    rotation = torch.linalg.qr(randn(6, 6, seed=1))[0]
    turned = node_weights(e @ rotation.T, q, weights)
    same = torch.allclose(turned, node_weights(e, q, weights) @ rotation.T, rtol=1e-9)
    assert same == follows


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 1, 1)])
def test_weights_of_an_all_zero_embedding(shape, weights):
    e = torch.zeros(shape)
    e[1] = 1.0
    q = torch.tensor([0.5, 0.8])
    w = node_weights(e, q, weights)
    assert w[0].isnan().all()
    assert w[1].flatten().tolist() == pytest.approx([0.2] * 4)
    assert node_scale(e, q, weights)[0].isnan()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_half_precision_weights(weights):
    """512 values of 20: their sum of squares overflows float16."""
    e = (20 * randn(2, 512).abs() + 5).half()
    q = torch.tensor([0.5, 0.9])
    got = node_weights(e, q, weights)
    assert got.dtype == torch.float32
    for row, quality, w in zip(e.tolist(), q.tolist(), got, strict=True):
        assert w.tolist() == pytest.approx(weights_oracle(row, quality, weights), rel=1e-5)


def test_unknown_weights():
    e, q = torch.ones(1, 2), torch.ones(1)
    for call in (
        lambda: node_direction(e, "L1"),
        lambda: node_scale(e, q, "L1"),
        lambda: node_weights(e, q, "L1"),
    ):
        with pytest.raises(ValueError, match="'L1'"):
            call()


# --- Eq. 4 ------------------------------------------------------------------------------


class SmoothNet(nn.Module):
    """(B, 3, 6, 6), about 0–1, to (B, 5); without kinks, so that differences are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, dtype=torch.float64)
        self.fc = nn.Linear(16, 5, dtype=torch.float64)
        with torch.no_grad():
            for seed, p in enumerate(self.parameters()):
                p.copy_(randn(*p.shape, seed=seed) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.conv(x)).flatten(1))


def pixels(count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, 3, 6, 6, generator=generator, dtype=torch.float64)


def node_gradient(net: nn.Module, x: Tensor, weights: str) -> Tensor:
    x = x.clone().requires_grad_()
    e = net(x)
    q = torch.linspace(0.3, 0.8, len(x), dtype=x.dtype)
    return saliency((node_weights(e.detach(), q, weights) * e).sum(1), x)


def test_saliency_is_the_derivative():
    net, x = SmoothNet(), pixels(2).requires_grad_()
    w = randn(2, 5, seed=9)
    got = saliency((w * net(x)).sum(1), x)
    assert got.shape == x.shape
    with torch.no_grad():
        for index in itertools.product(range(2), range(3), range(0, 6, 2), range(1, 6, 2)):
            up, down = x.clone(), x.clone()
            up[index] += 1e-5
            down[index] -= 1e-5
            i = index[0]
            rise = (w * net(up)).sum(1)[i] - (w * net(down)).sum(1)[i]
            assert got[index].item() == pytest.approx(rise.item() / 2e-5, rel=1e-6, abs=1e-9)


def test_saliency_of_a_line():
    x = torch.ones(2, 3, 1, 1, requires_grad=True)
    slope = torch.tensor([2.0, -3.0, 0.5]).view(1, 3, 1, 1)
    got = saliency((slope * x).flatten(1).sum(1), x)
    assert got.flatten(1).tolist() == [[2, -3, 0.5]] * 2


def test_saliency_leaves_grad_alone():
    net, x = SmoothNet(), pixels().requires_grad_()
    x.grad = torch.full_like(x, 7.0)
    saliency(net(x).sum(1), x)
    assert (x.grad == 7).all()
    assert all(p.grad is None for p in net.parameters())
    fresh = pixels().requires_grad_()
    assert not saliency(net(fresh).sum(1), fresh).requires_grad
    assert fresh.grad is None


@pytest.mark.parametrize("other", ["sum", None])
def test_l1_ranks_pixels_as_sum_does(other):
    """And as the plain gradient of Σe (None), within each image."""
    net, x = SmoothNet(), pixels()
    l1 = merge_channels(node_gradient(net, x, "l1")).flatten(1)
    if other is None:
        leaf = x.clone().requires_grad_()
        gradient = saliency(net(leaf).flatten(1).sum(1), leaf)
    else:
        gradient = node_gradient(net, x, other)
    ranked = merge_channels(gradient).flatten(1).gather(1, l1.argsort(1))
    assert (ranked.diff(dim=1) >= -1e-12 * ranked.max()).all()


@pytest.mark.parametrize("other", ["signed", "l2"])
def test_l1_ranks_pixels_unlike_signed_and_l2(other):
    net, x = SmoothNet(), pixels()
    l1 = merge_channels(node_gradient(net, x, "l1")).flatten(1)
    ranked = merge_channels(node_gradient(net, x, other)).flatten(1).gather(1, l1.argsort(1))
    assert (ranked.diff(dim=1) < -0.01 * ranked.max()).any()


def test_l2_vanishes_on_normalised_embeddings():
    net = SmoothNet()
    raw = node_gradient(net, pixels(), "l2").abs().max()
    on_sphere = node_gradient(lambda x: F.normalize(net(x)), pixels(), "l2").abs().max()
    assert on_sphere < 1e-12 < 1e-3 < raw


# --- Sec. VI: clipping ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 7)])
def test_clipping_caps_the_norm_of_each_image(shape):
    g = randn(*shape) * torch.tensor([1e-3, 1.0, 10.0, 1e6]).view(-1, *[1] * (len(shape) - 1))
    limit = 2.0
    got = clip_gradient(g, limit)
    assert got.shape == g.shape
    for before, after in zip(g.flatten(1).tolist(), got.flatten(1).tolist(), strict=True):
        factor = min(1, limit / length_oracle(before))
        assert after == pytest.approx([v * factor for v in before], rel=1e-12)
        assert length_oracle(after) <= limit * (1 + 1e-12)


def test_clipping_leaves_shorter_gradients_as_they_are():
    g = randn(3, 3, 4, 4)
    assert torch.equal(clip_gradient(g, 1e3), g)


def test_clipping_keeps_the_ranking():
    g = 1e4 * randn(2, 3, 6, 6, dtype=torch.float32)
    order = merge_channels(g).flatten(1).argsort(1)
    ranked = merge_channels(clip_gradient(g, 0.5)).flatten(1).gather(1, order)
    assert (ranked.diff(dim=1) >= 0).all()


def test_clipping_a_zero_gradient():
    g = torch.zeros(2, 3, 4, 4)
    assert torch.equal(clip_gradient(g, 1.0), g)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_clipping(dtype):
    """A norm of 1e5 overflows float16; the gradient keeps its type."""
    g = (1000 * randn(2, 3, 64, 64)).to(dtype)
    got = clip_gradient(g, 5.0)
    assert got.dtype == dtype
    assert got.double().flatten(1).norm(dim=1).tolist() == pytest.approx([5, 5], rel=1e-2)


@pytest.mark.parametrize("max_norm", [0.0, -1.0, math.nan])
def test_clipping_needs_a_positive_norm(max_norm):
    with pytest.raises(ValueError, match="positive"):
        clip_gradient(torch.ones(1, 3, 2, 2), max_norm)


def test_clipping_at_infinity_does_nothing():
    g = randn(2, 3, 4, 4)
    assert torch.equal(clip_gradient(g, math.inf), g)


def test_clipping_an_exploded_gradient():
    g = 1e20 * randn(2, 3, 4, 4, dtype=torch.float32)
    got = clip_gradient(g, 1.0)
    assert got.double().flatten(1).norm(dim=1).tolist() == pytest.approx([1, 1], rel=1e-4)


# --- Eq. 5 ------------------------------------------------------------------------------


def merged_oracle(g: list) -> list[list[float]]:
    """Eq. 5 for one image, g[c][i][j]."""
    height, width = len(g[0]), len(g[0][0])
    return [
        [sum(abs(g[c][i][j]) for c in range(len(g))) / len(g) for j in range(width)]
        for i in range(height)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_merging_is_eq5(channels):
    g = randn(2, channels, 4, 5)
    got = merge_channels(g)
    assert got.shape == (2, 4, 5)
    for image, merged in zip(g.tolist(), got.tolist(), strict=True):
        for row, want in zip(merged, merged_oracle(image), strict=True):
            assert row == pytest.approx(want, rel=1e-12)


def test_merging_by_hand():
    g = torch.tensor([1.0, -2.0, 6.0]).view(3, 1, 1)
    assert merge_channels(g).tolist() == [[3]]
    assert merge_channels(g.view(1, 1, 1, 3), dim=-1).tolist() == [[[3]]]
    assert merge_channels(g.view(1, 3, 1, 1), dim=1).tolist() == [[[3]]]


def test_merging_ignores_signs():
    g = randn(2, 3, 4, 4)
    assert torch.equal(merge_channels(g), merge_channels(-g))
    assert (merge_channels(g) >= 0).all()


def test_half_precision_merging():
    g = torch.tensor([6e-8, 0.0, 0.0]).half().view(3, 1, 1)
    assert merge_channels(g).item() == pytest.approx(g.double().sum().item() / 3, rel=1e-3)


# --- Eq. 6 ------------------------------------------------------------------------------


def pixel_oracle(g: float, gamma: float) -> float:
    """Eq. 6 as printed, in 120 digits: in floats the difference from 1 would be lost."""
    with localcontext() as context:
        context.prec = 120
        return float(1 - 1 / (1 + Decimal(10) ** Decimal(gamma) * Decimal(g) ** 2))


@pytest.mark.parametrize("gamma", [-2.0, 0.0, 2.69, 5.5, 7.5])
def test_pixel_quality_is_eq6(gamma):
    g = torch.logspace(-8, 4, 60, dtype=torch.float64).view(3, 20)
    got = pixel_quality(g, gamma)
    assert got.shape == g.shape
    for value, p in zip(g.flatten().tolist(), got.flatten().tolist(), strict=True):
        assert p == pytest.approx(1 - 1 / (1 + 10**gamma * value**2), abs=1e-14)
        assert p == pytest.approx(pixel_oracle(value, gamma), rel=1e-12)


def test_pixel_quality_in_float32():
    g = torch.logspace(-15, 4, 96)
    got = pixel_quality(g, 7.5)
    assert got.dtype == torch.float32
    want = [pixel_oracle(v, 7.5) for v in g.tolist()]
    assert got.tolist() == pytest.approx(want, rel=3e-5)


def test_pixel_quality_by_hand():
    """10² · 0.3² = 9: p = 1 − 1/10."""
    g = torch.tensor([0.3, 0.1, 0.2])
    assert pixel_quality(g, 2.0).tolist() == pytest.approx([0.9, 0.5, 0.8], rel=1e-6)


@pytest.mark.parametrize("gamma", [-3.0, 0.0, 5.5, 7.5])
def test_gamma_is_where_the_quality_is_half(gamma):
    g = torch.tensor([10 ** (-gamma / 2)], dtype=torch.float64)
    assert pixel_quality(g, gamma).item() == pytest.approx(0.5, rel=1e-12)


def test_pixel_quality_of_zero():
    assert pixel_quality(torch.zeros(2, 3), 7.5).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("gamma", [0.0, 7.5, 40.0])
def test_pixel_quality_of_huge_gradients(gamma):
    """Squares of 1e38 are infinite in float32."""
    g = torch.tensor([1e15, 1e25, 1e38])
    assert pixel_quality(g, gamma).tolist() == [1, 1, 1]


def test_pixel_quality_keeps_the_order_of_small_gradients():
    """In float32 the printed form is 0 for all of them."""
    g = torch.logspace(-14, -8, 50)
    printed = 1 - 1 / (1 + 10**7.5 * g.square())
    assert (printed == 0).all()
    assert (pixel_quality(g, 7.5).diff() > 0).all()
    assert pixel_quality(g, 7.5).min() > 0


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_pixel_quality(dtype):
    g = torch.tensor([0.0, 1e-6, 1e-4, 1e-3, 1.0, 6e4]).to(dtype)
    got = pixel_quality(g, 5.5)
    assert got.dtype == torch.float32
    assert got.tolist() == pytest.approx([pixel_oracle(v, 5.5) for v in g.tolist()], rel=3e-5)


@pytest.mark.parametrize("gamma", [2.0, 7.5])
def test_map_is_eq5_then_eq6(gamma):
    g = 1e-2 * randn(2, 3, 4, 5)
    got = quality_map(g, gamma)
    assert got.shape == (2, 4, 5)
    for image, p in zip(g.tolist(), got.tolist(), strict=True):
        for row, want in zip(p, merged_oracle(image), strict=True):
            assert row == pytest.approx([pixel_oracle(v, gamma) for v in want], rel=1e-12)


def test_map_is_not_scaled_per_image():
    g = 1e-3 * randn(2, 3, 4, 4)
    together = quality_map(g, 6.0)
    assert torch.equal(quality_map(g[:1], 6.0), together[:1])
    brighter = quality_map(torch.cat([g[:1], 100 * g[1:]]), 6.0)
    assert torch.equal(brighter[0], together[0])
    assert (brighter[1] > together[1]).all()


# --- γ ----------------------------------------------------------------------------------


def test_half_quality_gamma():
    merged = 1e-3 * randn(3, 5, 7).abs()
    median = sorted(merged.flatten().tolist())[3 * 5 * 7 // 2]
    gamma = gamma_for_median(merged)
    assert isinstance(gamma, float)
    assert gamma == pytest.approx(-2 * math.log10(median), abs=1e-6)
    assert pixel_oracle(median, gamma) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("values", [[0.0, 0.0, 1.0], [math.nan] * 3, [1.0, math.inf, math.inf]])
def test_half_quality_gamma_needs_a_median(values):
    with pytest.raises(ValueError, match="median"):
        gamma_for_median(torch.tensor(values))


def test_rescaled_gamma_by_hand():
    assert rescale_gamma(7.5, 1.0) == 7.5
    assert rescale_gamma(7.5, 10.0) == pytest.approx(9.5)
    assert rescale_gamma(7.5, 0.01) == pytest.approx(3.5)
    assert rescale_gamma(rescale_gamma(5.5, 1 / 128), 128.0) == pytest.approx(5.5)


@pytest.mark.parametrize(
    ("scale", "shift"), [(1 / 255, 0.0), (1 / 128, -127.5 / 128), (1 / 127.5, -1.0)]
)
def test_rescaled_gamma_gives_the_same_map(scale, shift):
    """One network, fed 0–255 pixels x or x' = scale · x + shift."""
    net, x = SmoothNet(), 255 * pixels()

    def of_bytes(v: Tensor) -> Tensor:
        return net(v / 255)

    def of_rescaled(v: Tensor) -> Tensor:
        return of_bytes((v - shift) / scale)

    bytes_gradient = node_gradient(of_bytes, x, "l1")
    gamma = gamma_for_median(merge_channels(bytes_gradient))
    want = quality_map(bytes_gradient, gamma)
    rescaled_gradient = node_gradient(of_rescaled, scale * x + shift, "l1")
    got = quality_map(rescaled_gradient, rescale_gamma(gamma, scale))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    assert not torch.allclose(quality_map(rescaled_gradient, gamma), want, atol=0.1)
    assert want.max() - want.min() > 0.2


# --- Eqs. 7, 8 --------------------------------------------------------------------------


def test_quality_change_is_eq7():
    got = quality_change(torch.tensor([0.75, 0.5, 0.0]), torch.tensor([0.5, 0.75, 1.0]))
    assert got.tolist() == [0.25, -0.25, -1.0]


def change_oracle(original: Tensor, disturbed: Tensor, mask: Tensor) -> float:
    """Eq. 8 for one image."""
    area = [(i, j) for i, row in enumerate(mask.tolist()) for j, inside in enumerate(row) if inside]
    org, dis = original.tolist(), disturbed.tolist()
    return sum(org[i][j] - dis[i][j] for i, j in area) / len(area)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3)])
def test_pixel_quality_change_is_eq8(lead):
    org, dis = (randn(*lead, 5, 7, seed=s).sigmoid() for s in (1, 2))
    mask = randn(*lead, 5, 7, seed=3) > 0.3
    got = pixel_quality_change(org, dis, mask)
    assert got.shape == lead
    want = [
        change_oracle(*image)
        for image in zip(
            *(t.reshape(-1, 5, 7) for t in (org, dis)), mask.reshape(-1, 5, 7), strict=True
        )
    ]
    assert got.flatten().tolist() == pytest.approx(want, rel=1e-12)


def test_pixel_quality_change_sign():
    """Positive where quality was lost; what happens outside does not count."""
    org, dis = torch.full((3, 3), 0.75), torch.full((3, 3), 0.75)
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0, :2] = True
    dis[0, 0], dis[2, 2] = 0.25, 0.0
    assert pixel_quality_change(org, dis, mask).item() == pytest.approx(0.25)
    assert pixel_quality_change(dis, org, mask).item() == pytest.approx(-0.25)
    assert pixel_quality_change(org, dis, ~mask).item() == pytest.approx(0.75 / 7)


def test_pixel_quality_change_of_an_empty_area():
    org, mask = torch.ones(2, 3, 3), torch.zeros(2, 3, 3, dtype=torch.bool)
    mask[1, 0, 0] = True
    got = pixel_quality_change(org, 0.5 * org, mask)
    assert got[0].isnan()
    assert got[1].item() == 0.5


def test_half_precision_pixel_quality_change():
    org = torch.ones(300, 300).half()
    mask = torch.ones(300, 300, dtype=torch.bool)
    assert pixel_quality_change(org, 0.5 * org, mask).item() == pytest.approx(0.5, rel=1e-3)
