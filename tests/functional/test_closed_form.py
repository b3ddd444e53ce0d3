"""The expected distance in closed form, against full enumeration."""

import pytest
import torch

from captum_plq.functional.closed_form import expected_pairwise_distance, noise_map
from tests.support.draws import normal, uniform


def slow_moments(f, w, b, p):
    """The formula's terms by explicit sums over all dropout outcomes (2^D of them)."""
    outcomes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * len(f))
    odds = (outcomes * (1 - p) + (1 - outcomes) * p).prod(1)
    y = (f * outcomes / (1 - p)) @ w.T + b
    mu = odds @ y
    delta = y - mu
    lengths = y.square().sum(1)
    s = odds @ lengths
    along = delta @ mu
    v_b = odds @ (lengths - s).square()
    # the product y1·y2 of two independent draws, and its covariance with one squared length
    products = y @ y.T
    n = products - mu @ mu
    v_a = odds @ n.square() @ odds
    cov = odds @ (along * (lengths - s))
    return mu, s, v_a, v_b, cov


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_the_moments_are_exact(p):
    """Numerator and length of the cosine: variances and covariance by full enumeration."""
    f, b, w = normal(7), normal(4, seed=1), normal(4, 7, seed=2)
    mu, s, v_a, v_b, cov = slow_moments(f, w, b, p)
    r_0 = mu @ mu / s
    mean = r_0 - cov / s**2 + 0.75 * r_0 * v_b / s**2
    variance = (v_a + 0.5 * r_0**2 * v_b - 2 * r_0 * cov) / s**2
    d_0 = (2 * (1 - mean)).sqrt()
    expected = (d_0 - variance / (2 * d_0**3)).clamp(0, 2)
    torch.testing.assert_close(
        expected_pairwise_distance(f[None], mu[None], noise_map(w), p)[0], expected
    )


def test_probes_estimate_the_costly_term():
    f, w = uniform(5, 300), normal(64, 300)
    exact = expected_pairwise_distance(f, f @ w.T, noise_map(w))
    probes = normal(64, 8, seed=1).sign()
    probed = expected_pairwise_distance(f, f @ w.T, noise_map(w, probes=probes))
    torch.testing.assert_close(probed, exact, rtol=0.01, atol=0)
    w = w[:3]  # all 2³ sign vectors of a small head make the estimate exact
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).T
    torch.testing.assert_close(
        expected_pairwise_distance(f, f @ w.T, noise_map(w, probes=signs)),
        expected_pairwise_distance(f, f @ w.T, noise_map(w)),
    )


def test_a_sample_of_the_columns_stands_for_all():
    """Each sample is near, and the mean over many is the exact value."""
    f, w = uniform(5, 4000), normal(16, 4000)
    exact = expected_pairwise_distance(f, f @ w.T, noise_map(w))
    estimates = []
    for seed in range(40):
        sample = normal(4000, seed=9 + seed).argsort()[:500]
        estimates.append(expected_pairwise_distance(f, f @ w.T, noise_map(w, sample=sample)))
    errors = torch.stack(estimates) / exact - 1
    assert errors.abs().max() < 2e-2
    assert (errors.mean(0).abs() < 4 * errors.std(0) / 40**0.5).all()
    everything = noise_map(w, sample=normal(4000, seed=9).argsort())
    torch.testing.assert_close(expected_pairwise_distance(f, f @ w.T, everything), exact)
