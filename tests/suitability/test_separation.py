"""AUROC, share and their bootstrap, by hand and against plain loops."""

import itertools

import numpy as np
import pytest
import torch

from captum_plq.suitability.separation import Estimate, auroc, auroc_gain, separation, share_falling


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("clean", "degraded", "area", "share"),
    [
        (t(3, 4), t(1, 2), 1.0, 1.0),
        (t(1, 2), t(3, 4), 0.0, 0.0),
        (t(5, 5), t(5, 5), 0.5, 0.0),
        (t(3, 5), t(2, 5), 0.625, 0.5),  # 3>2, 3<5, 5>2, 5=5: 2.5 of 4
        (t(1, 2, 3), t(0, 3, 1), 6 / 9, 2 / 3),  # 1: 0, tie with 1; 2: 0 and 1; 3: these, and a tie
    ],
)
def test_by_hand(clean, degraded, area, share):
    found = separation(clean, degraded, resamples=50)
    assert auroc(clean, degraded) == found.auroc.value == pytest.approx(area)
    if area in (0.0, 0.5, 1.0):  # however they are drawn
        assert found.auroc == Estimate(area, area, area)
        assert found.share == Estimate(share, share, share)
    assert share_falling(clean, degraded) == pytest.approx(share)


def test_auroc_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra [benchmarks]")
    generator = np.random.default_rng(0)
    clean = np.round(generator.normal(0.3, 1, 200), 1)  # with ties
    degraded = np.round(generator.normal(0.0, 1, 200), 1)
    expected = metrics.roc_auc_score([1] * 200 + [0] * 200, np.append(clean, degraded))
    assert auroc(torch.tensor(clean), torch.tensor(degraded)) == pytest.approx(expected)


def test_the_bootstrap_tends_to_the_exact_one():
    """Of three images all 27 draws can be listed."""
    clean, degraded = t(1.0, 2.0, 3.0), t(0.5, 2.5, 1.5)
    shares, areas = [], []
    for drawn in itertools.product(range(3), repeat=3):
        c, d = clean[list(drawn)], degraded[list(drawn)]
        shares.append(share_falling(c, d))
        areas.append(auroc(c, d))
    found = separation(clean, degraded, confidence=0.6, resamples=20_000)
    assert found.auroc.value == auroc(clean, degraded)
    assert found.share.value == share_falling(clean, degraded)
    for estimate, exact in ((found.share, shares), (found.auroc, areas)):
        assert estimate.low == pytest.approx(np.quantile(exact, 0.2), abs=1e-9)
        assert estimate.high == pytest.approx(np.quantile(exact, 0.8), abs=1e-9)


def test_a_seed_decides_and_touches_no_other():
    clean, degraded = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))
    before = torch.get_rng_state()
    found = separation(clean, degraded, resamples=400, seed=1)
    assert separation(clean, degraded, resamples=400, seed=1) == found
    assert separation(clean, degraded, resamples=400, seed=2) != found
    assert torch.equal(torch.get_rng_state(), before)


def test_intervals_hold_the_truth_as_often_as_they_say():
    """Score and noise are normal: the true AUROC is Φ(δ/√2 σ), here 0.714, the share 0.736."""
    generator = torch.Generator().manual_seed(3)
    hits = np.zeros(2)
    for seed in range(200):
        clean = torch.randn(60, generator=generator)
        degraded = 0.5 * clean + 0.75**0.5 * torch.randn(60, generator=generator) - 0.8
        # the difference has variance 1 + 1 - 2·0.5 = 1; independent draws one of 2
        truth = [float(torch.special.ndtr(torch.tensor(0.8 / s))) for s in (2**0.5, 1.0)]
        found = separation(clean, degraded, resamples=400, seed=seed, confidence=0.9)
        for i, estimate in enumerate((found.auroc, found.share)):
            hits[i] += estimate.low <= truth[i] <= estimate.high
    assert (hits / 200 > 0.82).all(), hits
    assert (hits / 200 < 0.97).all(), hits


def test_the_gain_is_the_difference_of_mean_aurocs_resampled_together():
    generator = torch.Generator().manual_seed(2)
    one, other = torch.randn(2, 3, 30, generator=generator)
    one[0] += 1
    other = 0.7 * one + other

    def difference(i):
        means = [(auroc(x[0, i], x[1, i]) + auroc(x[0, i], x[2, i])) / 2 for x in (one, other)]
        return means[0] - means[1]

    found = auroc_gain(one, other, resamples=3000)
    assert found.value == pytest.approx(difference(torch.arange(30)))
    numbers = np.random.default_rng(5)
    loop = [difference(torch.from_numpy(numbers.integers(0, 30, 30))) for _ in range(2000)]
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(loop, [0.025, 0.975]), atol=0.015
    )
    assert auroc_gain(one, one) == Estimate(0.0, 0.0, 0.0)
    back = auroc_gain(other, one, resamples=3000)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc(t(1, 2), t(1)), r"\(2,\) and \(1,\)"),
        (lambda: auroc(t(), t()), r"\(0,\)"),
        (lambda: share_falling(t(1, torch.nan), t(1, 2)), "NaN"),
        (lambda: separation(t(1, 2), t(1, torch.inf)), "infinite"),
        (lambda: separation(t(1, 2), t(1, 2), confidence=1.0), "strictly between 0 and 1"),
        (lambda: separation(t(1, 2), t(1, 2), resamples=0), "at least 1"),
        (lambda: auroc_gain(t(1, 2)[None], t(1, 2)[None]), r"\(1 \+ k, n\)"),
        (lambda: auroc_gain(torch.ones(2, 3), torch.ones(2, 4)), r"\(2, 3\) and \(2, 4\)"),
        (lambda: auroc_gain(torch.ones(2, 3), torch.full((2, 3), torch.nan)), "NaN"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
