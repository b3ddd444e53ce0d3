"""How often pairs fail by quality: against slow formulas, and on data whose rate is known."""

import math

import numpy as np
import pytest
import torch

from captum_plq import metrics as M
from captum_plq.metrics.failure import FailureCurve, independent_pairs

pytest.importorskip("scipy")


def drawn(seed, people=100, pairs=600, scatter=1.0):
    """Qualities, failures and people; people differ, and failing ones fail again."""
    generator = np.random.default_rng(seed)
    person = generator.integers(people, size=pairs)
    quality = 0.2 + 0.6 * generator.beta(5, 4, size=pairs)
    logit = 25 * (0.45 - quality) + scatter * generator.standard_normal(people)[person]
    failed = generator.random(pairs) < 1 / (1 + np.exp(-logit))
    return torch.from_numpy(quality), failed, person.tolist()


def scores(failed):
    return torch.where(torch.as_tensor(failed), 0.0, 1.0)


def true_rate(quality, scatter=1.0):
    points, weights = np.polynomial.hermite_e.hermegauss(41)
    rates = 1 / (1 + np.exp(-(25 * (0.45 - np.asarray(quality)[:, None]) + scatter * points)))
    return rates @ weights / weights.sum()


def slow_isotonic(values):
    """The falling fit by its formula: the smallest over starts of the largest mean to an end."""
    n = len(values)
    return [
        min(max(np.mean(values[a : b + 1]) for b in range(i, n)) for a in range(i + 1))
        for i in range(n)
    ]


def test_rates_are_those_of_the_slow_formula():
    quality, failed, people = drawn(0, people=12, pairs=33)
    curve = M.failure_curve(scores(failed), quality, 0.5, people, resamples=20)
    order = quality.argsort().numpy()
    expected = slow_isotonic(failed[order].astype(float))
    np.testing.assert_allclose(curve.quality, quality[order], atol=1e-12)
    np.testing.assert_allclose(curve.rate, expected, atol=1e-12)


def test_pairs_of_equal_quality_share_one_rate_in_any_order():
    quality = torch.tensor([0.3] * 10 + [0.5] * 15)
    failed = [True] * 4 + [False] * 6 + [True] * 3 + [False] * 12
    people = [f"p{i}" for i in range(25)]
    for turn in (1, -1):
        curve = M.failure_curve(scores(failed[::turn]), quality.flip(0) if turn < 0 else quality,
                                0.5, people[::turn], resamples=20)  # fmt: skip
        assert curve.quality == pytest.approx((0.3, 0.5))
        assert curve.rate == pytest.approx((0.4, 0.2))


@pytest.mark.slow
@pytest.mark.parametrize(("people", "scatter"), [(100, 1.0), (100, 2.0), (300, 0.0)])
def test_intervals_cover_the_true_rate_and_the_true_quality(people, scatter):
    at = np.array([0.3, 0.36, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7])
    fine = np.linspace(0.2, 0.8, 4001)
    truth, rates, targets = true_rate(at, scatter), true_rate(fine, scatter), (0.05, 0.1, 0.5)
    runs = 60
    met, reached, widths = np.zeros(len(at)), np.zeros(len(targets)), np.zeros(len(at))
    for seed in range(runs):
        quality, failed, who = drawn(seed, people, 600, scatter)
        curve = M.failure_curve(scores(failed), quality, 0.5, who, resamples=200, seed=seed)
        _, low, high = curve.at(at)
        met += (low <= truth) & (truth <= high)
        widths += high - low
        for i, target in enumerate(targets):
            _, low, high = M.quality_at_failure(curve, target)
            reached[i] += low <= fine[np.argmax(rates <= target)] <= high
    assert (met / runs).min() >= 0.9, met / runs
    assert (reached / runs).min() >= 0.9, reached / runs
    assert (widths / runs)[[0, -1]].max() < 0.45, widths / runs  # they say something too


def test_without_any_failure_the_interval_is_not_certain():
    """Of n people without a failure 1 - .025^(1/n) may fail; pairs of the same people add none."""
    quality = torch.linspace(0.3, 0.7, 200, dtype=torch.float64)
    people = [i % 40 for i in range(200)]
    curve = M.failure_curve(scores([False] * 200), quality, 0.5, people, resamples=20)
    assert set(curve.rate) == set(curve.low) == {0.0}
    assert curve.high[0] == pytest.approx(0.975, abs=1e-6)  # one pair alone
    assert curve.high[-1] == pytest.approx(1 - 0.025 ** (1 / 40), abs=1e-6)
    wrong = M.failure_curve(scores([True] * 200), quality, 0.5, people, resamples=20)
    np.testing.assert_allclose(wrong.low[::-1], 1 - np.array(curve.high), atol=1e-6)


def test_people_not_pairs_are_counted():
    generator = np.random.default_rng(0)
    failed = (generator.random(50) < 0.3).astype(float)
    person = np.arange(50)
    assert independent_pairs(failed, person) == pytest.approx(50, rel=0.05)
    assert independent_pairs(np.repeat(failed, 4), np.repeat(person, 4)) == pytest.approx(
        50, rel=0.05
    )
    assert independent_pairs(np.zeros(8), np.array([1, 1, 1, 1, 2, 2, 2, 2])) == 2


def test_curves_fall_within_their_intervals():
    quality, failed, people = drawn(3)
    curve = M.failure_curve(scores(failed), quality, 0.5, people, resamples=50)
    for values in curve[1:]:
        assert list(values) == sorted(values, reverse=True)
    assert all(a <= b <= c for a, b, c in zip(curve.low, curve.rate, curve.high, strict=True))
    assert curve == M.failure_curve(scores(failed), quality, 0.5, people, resamples=50)


def test_quality_at_a_rate_by_hand():
    curve = FailureCurve((0.4, 0.6), (0.5, 0.1), (0.4, 0.0), (0.6, 0.2))
    assert M.quality_at_failure(curve, 0.3) == pytest.approx((0.5, 0.45, 0.55))
    assert M.quality_at_failure(curve, 0.15) == pytest.approx((0.575, 0.525, math.inf))
    assert M.quality_at_failure(curve, 0.55) == pytest.approx((-math.inf, -math.inf, 0.425))
    assert [float(x) for x in curve.at(0.1)] == [0.5, 0.4, 0.6]
    assert np.isnan(curve.at(math.nan)[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quality": torch.zeros(40)}, "no rate depends on it"),
        ({"quality": torch.full((40,), math.nan)}, "quality must be finite"),
        ({"quality": torch.zeros(39)}, "of the same pairs"),
        ({"people": ["one"] * 40}, "10 people, better some hundred, but got 40 of 1"),
        ({"threshold": math.inf}, "threshold must be finite"),
    ],
)
def test_refuses(change, words):
    given = {"quality": torch.linspace(0, 1, 40), "threshold": 0.5, "people": list(range(40))}
    with pytest.raises(ValueError, match=words):
        M.failure_curve(torch.linspace(0, 1, 40), **(given | change))
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        M.quality_at_failure(FailureCurve((0.0, 1.0), *[(0.0, 0.0)] * 3), 1.0)
