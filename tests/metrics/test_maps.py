"""Similarity, concentration and null maps: by hand, by definition, as other packages have it."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from captum_plq import metrics as M
from tests.support.draws import normal


def random_maps(batch=3, height=9, width=8, seed=0):
    return normal(batch, height, width, seed=seed)


@pytest.mark.parametrize("decimals", [0, 9])  # with many ties, and without
def test_spearman_is_scipys(decimals):
    maps = random_maps().round(decimals=decimals)
    others = random_maps(seed=1).round(decimals=decimals) + maps
    pairs = zip(maps.flatten(1).numpy(), others.flatten(1).numpy(), strict=True)
    expected = [stats.spearmanr(one, other).statistic for one, other in pairs]
    assert M.spearman(maps, others).tolist() == pytest.approx(expected, abs=1e-12)
    with_one = [float(M.spearman(m[None], others[:1])) for m in maps]
    assert M.spearman(maps, others[:1]).tolist() == pytest.approx(with_one)


def test_spearman_knows_order_alone_in_any_precision():
    maps = random_maps().requires_grad_()
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(M.spearman(maps, maps.exp()), ones)
    torch.testing.assert_close(M.spearman(maps, -(maps**3)), -ones)
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
            a, b = (m[top : top + 7, left : left + 7].ravel() for m in (x, y))
            (aa, ab), (_, bb) = np.cov(a, b)  # of a sample, as scikit-image's default
            similar = (2 * a.mean() * b.mean() + c1) * (2 * ab + c2)
            scores.append(similar / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (aa + bb + c2)))
        assert float(found) == pytest.approx(np.mean(scores), abs=1e-10)


def test_structural_similarity_is_blind_to_scale_and_sees_structure():
    maps, ones = random_maps(), torch.ones(3, dtype=torch.float64)
    flat = torch.zeros_like(maps)
    torch.testing.assert_close(M.structural_similarity(maps, 1000 * maps), ones)
    assert (M.structural_similarity(3 + maps, 3 - maps) < 0).all()
    torch.testing.assert_close(M.structural_similarity(flat, flat), ones)
    assert (M.structural_similarity(maps, flat) < 0.5).all()


def test_similarity_between_images_is_the_mean_over_pairs():
    maps = random_maps(5) + torch.arange(8.0)
    expected = [float(M.spearman(a, b)) for a, b in itertools.combinations(maps.split(1), 2)]
    assert M.similarity_between_images(maps) == pytest.approx(np.mean(expected), abs=1e-12)


def test_centre_gaussian_and_similarity_to_it():
    tall = M.centre_gaussian(4, 5, 1.5)
    assert tall.dtype == torch.float32
    for y, x in itertools.product(range(4), range(5)):
        expected = math.exp(-((y - 1.5) ** 2 + (x - 2) ** 2) / (2 * 1.5**2))
        assert float(tall[y, x]) == pytest.approx(expected)
    maps = random_maps() + 3 * M.centre_gaussian(9, 8, 2.0)
    for sigma in (1.5, 9.0):
        gaussian = M.centre_gaussian(9, 8, sigma)[None]
        torch.testing.assert_close(M.centre_similarity(maps), M.spearman(maps, gaussian))


def test_random_maps_follow_the_seed():
    one, again, other = M.random_map(50, 40, 3), M.random_map(50, 40, 3), M.random_map(50, 40, 4)
    assert torch.equal(one, again)
    assert one.shape == (50, 40)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1


def concentration(values):
    """Gini as the mean absolute difference over twice the mean; entropy; plain loops."""
    sizes = [abs(v) for v in values]
    count, total = len(sizes), sum(sizes)
    gini = sum(abs(a - b) for a in sizes for b in sizes) / (2 * count * total)
    return gini, -sum(a / total * math.log(a / total) for a in sizes if a)


def test_gini_and_complexity_against_plain_loops():
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
