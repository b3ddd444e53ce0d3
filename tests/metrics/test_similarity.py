"""Similarity of maps: by hand, by definition, and as scipy and scikit-image have it."""

import sys

import numpy as np
import pytest
import torch

from captum_plq.faces import MissingExtraError
from captum_plq.metrics import spearman, structural_similarity
from captum_plq.metrics.maps import _standard_ranks as standard_ranks


def random_maps(batch=3, height=9, width=8, seed=0, levels=None):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    return maps if levels is None else (levels * maps).round()


def test_ranks_by_hand():
    # 1 | 2, 2 | 3 share ranks 1, 2.5, 2.5, 4; centred -1.5, 0, 0, 1.5.
    ranks = standard_ranks(torch.tensor([[5.0, 7.0, 7.0, 9.0]]))
    half = 0.5**0.5
    torch.testing.assert_close(ranks, torch.tensor([[-half, 0, 0, half]], dtype=torch.float64))


def test_spearman_by_hand():
    # Without ties it is 1 − 6 Σd²/(n(n² − 1)): d = 0, 1, −1 of n = 3.
    found = spearman(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[10.0, 30.0, 20.0]]]))
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([1 - 6 * 2 / (3 * 8)])


@pytest.mark.parametrize("levels", [None, 2])
def test_spearman_is_scipys(levels):
    stats = pytest.importorskip("scipy.stats", reason="needs the extra [benchmarks]")
    maps, others = random_maps(levels=levels), random_maps(seed=1, levels=levels)
    others = others + maps
    expected = [
        stats.spearmanr(m.flatten().numpy(), o.flatten().numpy()).statistic
        for m, o in zip(maps, others, strict=True)
    ]
    assert spearman(maps, others).tolist() == pytest.approx(expected, abs=1e-12)
    with_one = spearman(maps, others[:1])
    assert with_one.tolist() == pytest.approx([float(spearman(m[None], others[:1])) for m in maps])


def test_spearman_by_definition():
    """Ranks counted one against all others, then Pearson's correlation."""
    (x,), (y,) = (random_maps(1, 4, 3, seed=s, levels=1).flatten(1).tolist() for s in (3, 4))

    def ranks(values):
        return [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]

    expected = np.corrcoef(ranks(x), ranks(y))[0, 1]
    found = spearman(torch.tensor([[x]]), torch.tensor([[y]]))
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_spearman_knows_order_alone():
    maps = random_maps()
    torch.testing.assert_close(spearman(maps, maps.exp()), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(spearman(maps, -(maps**3)), -torch.ones(3, dtype=torch.float64))
    assert spearman(maps, torch.ones_like(maps)).isnan().all()


def test_structural_similarity_by_definition():
    pytest.importorskip("skimage", reason="needs the extra [metrics]")
    maps = random_maps()
    others = maps + random_maps(seed=1)
    for found, one, other in zip(structural_similarity(maps, others), maps, others, strict=True):
        x, y = (m.numpy() / np.sqrt(np.mean(m.numpy() ** 2)) for m in (one, other))
        extent = max(x.max(), y.max()) - min(x.min(), y.min())
        c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
        scores = []
        for top in range(9 - 6):
            for left in range(8 - 6):
                a = x[top : top + 7, left : left + 7].ravel()
                b = y[top : top + 7, left : left + 7].ravel()
                covariance = np.cov(a, b)  # of a sample, as scikit-image's default
                similar = (2 * a.mean() * b.mean() + c1) * (2 * covariance[0, 1] + c2)
                square = a.mean() ** 2 + b.mean() ** 2 + c1
                scores.append(similar / (square * (covariance[0, 0] + covariance[1, 1] + c2)))
        assert float(found) == pytest.approx(np.mean(scores), abs=1e-10)


def test_structural_similarity_is_blind_to_scale_and_sees_structure():
    pytest.importorskip("skimage", reason="needs the extra [metrics]")
    maps = random_maps()
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(structural_similarity(maps, 1000 * maps), ones)
    assert (structural_similarity(3 + maps, 3 - maps) < 0).all()
    # The sign of a window's mean and that of its structure cancel.
    assert (structural_similarity(maps, -maps) > 0).any()
    flat = torch.zeros_like(maps)
    torch.testing.assert_close(structural_similarity(flat, flat), ones)
    assert (structural_similarity(maps, flat) < 0.5).all()


def test_maps_that_want_a_gradient_and_half_precision():
    maps = random_maps().float().requires_grad_()
    assert not spearman(maps, maps).requires_grad
    assert spearman(maps.bfloat16(), maps.bfloat16()).tolist() == pytest.approx([1.0] * 3)


@pytest.mark.parametrize(
    ("error", "message", "maps", "others"),
    [
        (TypeError, "floating-point tensor, but got list", [1.0], torch.ones(1, 9, 9)),
        (TypeError, "others must be a floating-point", torch.ones(1, 9, 9), torch.ones(1).long()),
        (ValueError, r"score maps \(B, H, W\)", torch.ones(1, 3, 9, 9), torch.ones(1, 9, 9)),
        (ValueError, "channels merged", torch.ones(0, 9, 9), torch.ones(0, 9, 9)),
        (ValueError, "must be finite", torch.full((1, 9, 9), torch.nan), torch.ones(1, 9, 9)),
        (ValueError, "must have the same shape", torch.ones(1, 9, 9), torch.ones(1, 9, 8)),
        (ValueError, "must have the same shape", torch.ones(1, 9, 9), torch.ones(2, 9, 9)),
    ],
)
@pytest.mark.parametrize("compare", [spearman, structural_similarity])
def test_bad_input_is_refused(compare, error, message, maps, others):
    with pytest.raises(error, match=message):
        compare(maps, others)


def test_small_maps_have_no_window():
    with pytest.raises(ValueError, match="7×7 or more"):
        structural_similarity(torch.ones(1, 6, 9), torch.ones(1, 6, 9))


def test_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[metrics\]'"):
        structural_similarity(random_maps(), random_maps())
