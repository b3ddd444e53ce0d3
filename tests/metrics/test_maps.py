"""Similarity, concentration and null maps: by hand, by definition, as other packages have it."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from scipy import stats

from captum_plq import metrics as M
from captum_plq.errors import MissingExtraError


def random_maps(batch=3, height=9, width=8, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    return maps if levels is None else (levels * maps).round()


@pytest.mark.parametrize("levels", [None, 2])  # without ties and with many
def test_spearman_is_scipys(levels):
    maps = random_maps(levels=levels)
    others = random_maps(seed=1, levels=levels) + maps
    pairs = zip(maps.flatten(1).numpy(), others.flatten(1).numpy(), strict=True)
    expected = [stats.spearmanr(one, other).statistic for one, other in pairs]
    assert M.spearman(maps, others).tolist() == pytest.approx(expected, abs=1e-12)
    with_one = M.spearman(maps, others[:1])
    assert with_one.tolist() == pytest.approx(
        [float(M.spearman(m[None], others[:1])) for m in maps]
    )


def test_spearman_knows_order_alone_in_any_precision():
    maps = random_maps().requires_grad_()
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(M.spearman(maps, maps.exp()), ones)
    torch.testing.assert_close(M.spearman(maps, -(maps**3)), -ones)
    assert M.spearman(maps, torch.ones_like(maps)).isnan().all()
    assert M.spearman(maps.bfloat16(), maps.bfloat16()).dtype == torch.float64


def test_structural_similarity_by_definition():
    maps = random_maps()
    others = maps + random_maps(seed=1)
    for found, one, other in zip(M.structural_similarity(maps, others), maps, others, strict=True):
        x, y = (m.numpy() / np.sqrt(np.mean(m.numpy() ** 2)) for m in (one, other))
        extent = max(x.max(), y.max()) - min(x.min(), y.min())
        c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
        scores = []
        for top, left in itertools.product(range(9 - 6), range(8 - 6)):
            a = x[top : top + 7, left : left + 7].ravel()
            b = y[top : top + 7, left : left + 7].ravel()
            covariance = np.cov(a, b)  # of a sample, as scikit-image's default
            similar = (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
            square = a.mean() ** 2 + b.mean() ** 2 + c1
            scores.append(similar / (square * (covariance[0, 0] + covariance[1, 1] + c2)))
        assert float(found) == pytest.approx(np.mean(scores), abs=1e-10)


def test_structural_similarity_is_blind_to_scale_and_sees_structure(monkeypatch):
    maps, ones = random_maps(), torch.ones(3, dtype=torch.float64)
    flat = torch.zeros_like(maps)
    torch.testing.assert_close(M.structural_similarity(maps, 1000 * maps), ones)
    assert (M.structural_similarity(3 + maps, 3 - maps) < 0).all()
    torch.testing.assert_close(M.structural_similarity(flat, flat), ones)
    assert (M.structural_similarity(maps, flat) < 0.5).all()
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[metrics\]'"):
        M.structural_similarity(maps, maps)


def test_similarity_between_images_is_the_mean_over_pairs():
    maps = random_maps(5) + torch.arange(8.0)
    expected = [float(M.spearman(a, b)) for a, b in itertools.combinations(maps.split(1), 2)]
    assert M.similarity_between_images(maps) == pytest.approx(np.mean(expected), abs=1e-12)
    same = random_maps(1).expand(4, -1, -1) * torch.tensor([1.0, 2.0, 5.0, 0.1]).view(-1, 1, 1)
    assert M.similarity_between_images(same) == pytest.approx(1)
    chance = torch.stack([M.random_map(40, 40, seed) for seed in range(10)])
    assert abs(M.similarity_between_images(chance)) < 0.02


def test_centre_gaussian_and_similarity_to_it():
    row = M.centre_gaussian(1, 4, 2.0)[0].tolist()  # centre at 1.5
    assert row[:2] == pytest.approx([math.exp(-2.25 / 8), math.exp(-0.25 / 8)])
    tall = M.centre_gaussian(3, 5, 1.5)
    assert tall.dtype == torch.float32
    for y, x in itertools.product(range(3), range(5)):
        expected = math.exp(-((y - 1) ** 2 + (x - 2) ** 2) / (2 * 1.5**2))
        assert float(tall[y, x]) == pytest.approx(expected)
    maps = random_maps() + 3 * M.centre_gaussian(9, 8, 2.0)
    for sigma in (1.5, 9.0):
        gaussian = M.centre_gaussian(9, 8, sigma)[None]
        torch.testing.assert_close(M.centre_similarity(maps), M.spearman(maps, gaussian))
    # Ranks 1.5, 3, 1.5 against 2, 3, 1: covariance 1.5, variances 1.5 and 2.
    found = float(M.centre_similarity(torch.tensor([[[2.0, 3.0, 1.0]]])))
    assert found == pytest.approx(1.5 / math.sqrt(1.5 * 2))


def test_random_maps_follow_the_seed_and_leave_the_global_state():
    state = torch.get_rng_state()
    one, again, other = M.random_map(50, 40, 3), M.random_map(50, 40, 3), M.random_map(50, 40, 4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert one.shape == (50, 40)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1
    assert float(one.mean()) == pytest.approx(0.5, abs=0.03)  # sd 0.0065
    assert float(one.std()) == pytest.approx(12**-0.5, abs=0.02)


def concentration(values):
    """Gini as the mean absolute difference over twice the mean; entropy; plain loops."""
    sizes = [abs(v) for v in values]
    count, total = len(sizes), sum(sizes)
    gini = sum(abs(a - b) for a in sizes for b in sizes) / (2 * count * total)
    return gini, -sum(a / total * math.log(a / total) for a in sizes if a)


def test_gini_and_complexity_against_plain_loops():
    by_hand = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0, 0.0, -5.0, 0.0]])
    assert M.gini_index(by_hand).tolist() == [0, 0.75]
    assert M.complexity(by_hand).tolist() == pytest.approx([math.log(4), 0])
    attributions = random_maps(4, 5, 12) ** 3
    attributions[1, 0] = 0
    found = zip(M.gini_index(attributions), M.complexity(attributions), strict=True)
    for values, numbers in zip(attributions, found, strict=True):
        expected = concentration(values.flatten().tolist())
        assert [float(x) for x in numbers] == pytest.approx(expected)


@pytest.mark.parametrize("measure", [M.gini_index, M.complexity])
def test_concentration_depends_on_neither_scale_sign_nor_place(measure):
    attributions = random_maps().float()
    mixed = attributions.flatten(1)[:, torch.randperm(72)]
    for scale in (-1e-30, 1e38):  # the sum of large sizes is infinite in float32
        torch.testing.assert_close(measure(scale * mixed), measure(attributions))
    half = measure(attributions.half())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, measure(attributions), atol=2e-3, rtol=0)


FLAT = torch.ones(1, 9, 9)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "floating-point tensor, but got list", lambda: M.spearman([1.0], FLAT)),
        (TypeError, "others must be a floating-point", lambda: M.spearman(FLAT, FLAT.long())),
        (ValueError, r"score maps \(B, H, W\)", lambda: M.spearman(FLAT[None], FLAT)),
        (ValueError, "channels merged", lambda: M.structural_similarity(FLAT[:0], FLAT[:0])),
        (ValueError, "the same shape", lambda: M.spearman(FLAT, FLAT[..., 1:])),
        (ValueError, "the same shape", lambda: M.spearman(FLAT, FLAT.expand(2, 9, 9))),
        (ValueError, "7×7 or more", lambda: M.structural_similarity(FLAT[:, :6], FLAT[:, :6])),
        (ValueError, "at least two images", lambda: M.similarity_between_images(FLAT)),
        (ValueError, "sigma must be above 0", lambda: M.centre_gaussian(4, 4, 0.0)),
        (ValueError, "at least 1, but got 4 and 0", lambda: M.random_map(4, 0, 1)),
        (ValueError, "at least 1, but got 0 and 4", lambda: M.centre_gaussian(0, 4, 1.0)),
        (
            ValueError,
            r"zero everywhere, but nos\. \[0\]",
            lambda: M.gini_index(FLAT * 0),
        ),
        (ValueError, r"\(B, \.\.\.\), not empty", lambda: M.complexity(torch.ones(2))),
        (ValueError, "not empty", lambda: M.gini_index(torch.ones(3, 0))),
    ],
)
def test_bad_input_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()
