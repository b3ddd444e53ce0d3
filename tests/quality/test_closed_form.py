"""The closed-form estimate of SER-FIQ, against the limit of sampling and full enumeration."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional.closed_form import expected_pairwise_distance, noise_map
from captum_plq.network.tail import NotAffineError, find_affine_head
from tests.conftest import assert_untouched, snapshot


class WideFaceNet(nn.Module):
    """Many features and a BatchNorm behind the linear layer, as face networks have."""

    def __init__(self, normalised=False):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 24, 5, 3), nn.PReLU(), nn.Flatten())
        self.fc = nn.Linear(24 * 36, 64)
        self.bn = nn.BatchNorm1d(64)
        self.normalised = normalised

    def forward(self, x):
        e = self.bn(self.fc(self.trunk(x / 128 - 1)))
        return F.normalize(e, dim=1) if self.normalised else e


def wide_net(normalised=False):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = WideFaceNet(normalised).double()
        net.bn.running_mean.normal_(0, 0.05)
        net.bn.running_var.uniform_(0.02, 0.06)
        net.bn.weight.data.uniform_(0.5, 1.5)
    return net.eval()


def limit(net, images, draws=60):
    """Mean pairwise distance over many seeds, without the pairs' bias."""
    with torch.no_grad():
        q = torch.stack([SERFIQ(net, seed=s, average="pairs")(images) for s in range(draws)])
    return -torch.logit(q / 2).mean(0)


def distance(quality):
    return -torch.logit(quality.detach() / 2)


# --- closed form ---------------------------------------------------------------------


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


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.7])
def test_the_moments_are_exact(p):
    """Numerator and length of the cosine: variances and covariance by full enumeration."""
    generator = torch.Generator().manual_seed(1)
    f, b = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (7, 4))
    w = torch.randn(4, 7, generator=generator, dtype=torch.float64)
    mu, s, v_a, v_b, cov = slow_moments(f, w, b, p)
    r_0 = mu @ mu / s
    mean = r_0 - cov / s**2 + 0.75 * r_0 * v_b / s**2
    variance = (v_a + 0.5 * r_0**2 * v_b - 2 * r_0 * cov) / s**2
    d_0 = (2 * (1 - mean)).sqrt()
    expected = (d_0 - variance / (2 * d_0**3)).clamp(0, 2)
    torch.testing.assert_close(
        expected_pairwise_distance(f[None], mu[None], noise_map(w), p)[0], expected
    )


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_closed_form_is_nearer_to_the_limit_than_a_hundred_passes(images, p):
    net = wide_net()
    with torch.no_grad():
        draws = [SERFIQ(net, seed=s, dropout=p, average="pairs")(images) for s in range(100)]
        closed = SERFIQ(net, dropout=p, average="pairs", estimator="closed-form")
        ours = distance(closed(images))
    assert closed.fallback_reason is None
    truth = distance(torch.stack(draws)).mean(0)
    one = (distance(torch.stack(draws)) / truth - 1).abs().mean()
    assert (ours / truth - 1).abs().mean() < 0.5 * one


def test_closed_form_expects_what_m_passes_give(images):
    """With Eq. 1's average, (m - 1)/m of the limit: α and r measured on samples still hold."""
    net = wide_net()
    pairs = SERFIQ(net, average="pairs", estimator="closed-form")(images)
    paper = SERFIQ(net, passes=20, estimator="closed-form")(images)
    torch.testing.assert_close(distance(paper), distance(pairs) * 19 / 20)


def test_probes_estimate_the_costly_term(images):
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(5, 300, generator=generator, dtype=torch.float64)
    w = torch.randn(64, 300, generator=generator, dtype=torch.float64)
    exact = expected_pairwise_distance(f, f @ w.T, noise_map(w))
    probes = 2 * torch.randint(2, (64, 8), generator=generator) - 1
    torch.testing.assert_close(
        expected_pairwise_distance(f, f @ w.T, noise_map(w, probes=probes)),
        exact,
        rtol=0.01,
        atol=0,
    )
    # all 2^3 sign vectors of a small head make the estimate exact
    w = w[:3]
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).T
    torch.testing.assert_close(
        expected_pairwise_distance(f, f @ w.T, noise_map(w, probes=signs)),
        expected_pairwise_distance(f, f @ w.T, noise_map(w)),
    )


def test_a_sample_of_the_columns_stands_for_all(images):
    """Each sample is near, and the mean over many is the exact value."""
    generator = torch.Generator().manual_seed(0)
    f = torch.rand(5, 4000, generator=generator, dtype=torch.float64)
    w = torch.randn(16, 4000, generator=generator, dtype=torch.float64)
    exact = expected_pairwise_distance(f, f @ w.T, noise_map(w))
    estimates = []
    for _ in range(40):
        sample = torch.randperm(4000, generator=generator)[:500]
        estimates.append(expected_pairwise_distance(f, f @ w.T, noise_map(w, sample=sample)))
    errors = torch.stack(estimates) / exact - 1
    assert errors.abs().max() < 1e-2
    assert (errors.mean(0).abs() < 4 * errors.std(0) / 40**0.5).all()
    everything = noise_map(w, sample=torch.randperm(4000, generator=generator))
    torch.testing.assert_close(expected_pairwise_distance(f, f @ w.T, everything), exact)


def test_a_wide_head_is_sampled_and_agrees_with_passes(images):
    """3072 features: the small terms come from 2048 of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 12, 5), nn.PReLU(), nn.Flatten(), nn.Linear(3072, 64), nn.BatchNorm1d(64)
        ).double()
        net[4].running_mean.normal_(0, 5)
        net[4].running_var.uniform_(0.5, 2)
    closed = SERFIQ(net.eval(), average="pairs", estimator="closed-form")
    with torch.no_grad():
        ours, truth = distance(closed(images)), limit(net, images, 30)
    assert closed.fallback_reason is None
    np.testing.assert_allclose(ours, truth, rtol=6e-3)


def test_a_tail_that_writes_into_the_layers_output(images):
    """As ``x -= b`` would: the mean must be what the layer gave, not what became of it."""

    class InPlace(WideFaceNet):
        def forward(self, x):
            y = self.fc(self.trunk(x / 128 - 1))
            y /= y.detach().norm(dim=1, keepdim=True)
            return y

    torch.manual_seed(3)
    net = InPlace().double().eval()
    closed = SERFIQ(net, average="pairs", estimator="closed-form")
    with torch.no_grad():
        np.testing.assert_allclose(distance(closed(images)), limit(net, images, 30), rtol=6e-3)
    assert closed.fallback_reason is None


def test_closed_form_has_no_sampling_error(images):
    serfiq = SERFIQ(wide_net(), estimator="closed-form")
    embedding, quality, error = serfiq.assess(images, standard_error=True)
    assert error.tolist() == [0.0] * 7
    assert serfiq.assess(images).standard_error is None
    torch.testing.assert_close(quality, serfiq(images))
    torch.testing.assert_close(embedding, wide_net()(images))


def test_closed_form_is_deterministic_differentiable_and_batch_independent(images):
    serfiq = SERFIQ(wide_net(), estimator="closed-form")
    x = images.clone().requires_grad_()
    quality = serfiq(x)
    assert torch.equal(SERFIQ(wide_net(), estimator="closed-form", seed=9)(images), quality)
    gradient = torch.autograd.grad(quality.sum(), x)[0]
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        slope = (serfiq(images + 1e-3 * step) - serfiq(images - 1e-3 * step)).sum() / 2e-3
        alone = torch.cat([serfiq(image[None]) for image in images])
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(alone, quality.detach(), rtol=1e-12, atol=0)


def test_closed_form_gradient_is_the_limit_of_the_sampled_one(images):
    net, x = wide_net(), images[:2]
    closed = PixelQualityAttribution(
        SERFIQ(net, estimator="closed-form"), target_scalar="serfiq"
    ).attribute(x)
    sampled = torch.stack(
        [
            PixelQualityAttribution(SERFIQ(net, seed=s), target_scalar="serfiq").attribute(x)
            for s in range(40)
        ]
    ).mean(0)
    cosine = torch.cosine_similarity(closed.flatten(1), sampled.flatten(1))
    assert (cosine > 0.98).all()


@pytest.mark.parametrize("normalised", [False, True])
def test_plq_in_closed_form_costs_one_forward_and_no_passes(images, normalised):
    net = wide_net(normalised)
    plq = PixelQualityAttribution(SERFIQ(net, estimator="closed-form"))
    plq.attribute(images[:2])
    rows = []
    handles = [
        net.trunk[0].register_forward_hook(lambda _, args, __: rows.append(len(args[0]))),
        net.bn.register_forward_hook(lambda _, args, __: rows.append(len(args[0]))),
    ]
    plq.attribute(images)
    for handle in handles:
        handle.remove()
    assert rows == [7, 7]


def test_closed_form_leaves_the_network_as_it_was(images):
    net = wide_net().train()
    before = snapshot(net)
    PixelQualityAttribution(SERFIQ(net, estimator="closed-form")).attribute(images)
    assert_untouched(before, net)


def test_closed_form_follows_a_change_of_the_weights(images):
    net = wide_net()
    serfiq = SERFIQ(net, estimator="closed-form")
    first = serfiq(images)
    with torch.no_grad():
        net.fc.weight.mul_(torch.linspace(0.2, 3, 64, dtype=torch.float64).unsqueeze(1))
    torch.testing.assert_close(serfiq(images), SERFIQ(net, estimator="closed-form")(images))
    assert not torch.allclose(serfiq(images), first, rtol=1e-4)


def test_closed_form_on_the_dlib_network(dlib_net, dlib_chips):
    closed = SERFIQ(dlib_net, average="pairs", estimator="closed-form")
    with torch.no_grad():
        ours = distance(closed(dlib_chips))
        truth = limit(dlib_net, dlib_chips, 12)
    assert closed.fallback_reason is None
    np.testing.assert_allclose(ours, truth, rtol=3e-3)


# --- folding, and where it cannot be done ---------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "grouped", "1x1", "low rank", "linear, BatchNorm"])
def test_layer_and_tail_fold_into_one_matrix(kind):
    torch.manual_seed(0)
    heads = {
        "linear": (nn.Flatten(), nn.Linear(48, 5)),
        "grouped": (nn.Conv2d(3, 6, 4, groups=3), nn.BatchNorm2d(6), nn.Flatten()),
        "1x1": (nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 5, 1), nn.Flatten(), nn.Dropout()),
        "low rank": (nn.Flatten(), nn.Linear(48, 3, bias=False), nn.Linear(3, 5)),
        "linear, BatchNorm": (nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5, affine=False)),
    }
    model = nn.Sequential(*heads[kind]).double()
    for module in model:
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    model.eval()
    x = torch.randn(4, 3, 4, 4, dtype=torch.float64)
    first = next(i for i, m in enumerate(model) if isinstance(m, (nn.Linear, nn.Conv2d)))
    weight, bias = find_affine_head(model, str(first), (x,)).fold()
    features = model[:first](x).flatten(1)
    torch.testing.assert_close(features @ weight.T + bias, model(x))
    weight, bias = find_affine_head(model, str(first), (x,)).fold_tail()
    torch.testing.assert_close(model[: first + 1](x).flatten(1) @ weight.T + bias, model(x))


def test_another_head_beside_the_embedding_is_left_out(images):
    """As CR-FIQA has one, for quality: it runs after the embedding, which does not depend on it."""

    class TwoHeads(WideFaceNet):
        def __init__(self):
            super().__init__()
            self.quality = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

        def forward(self, x):
            e = super().forward(x)
            return e, self.quality(e)

    torch.manual_seed(3)
    net = TwoHeads().double().eval()
    serfiq = SERFIQ(net, estimator="closed-form", output=0)
    quality = serfiq(images)
    assert serfiq.fallback_reason is None
    with torch.no_grad():
        sampled = SERFIQ(net, output=0)
        np.testing.assert_allclose(quality.detach(), sampled(images), rtol=0.01)
        head = sampled.tap.examine(net, (images,), find_affine_head)
    assert head.names == ("fc", "bn")


class Bent(WideFaceNet):
    def forward(self, x):
        return super().forward(x).tanh()


class BentModule(WideFaceNet):
    def __init__(self):
        super().__init__()
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(super().forward(x))


@pytest.mark.parametrize(
    ("make", "reason"),
    [(Bent, "Something that is not affine"), (BentModule, "A PReLU follows")],
)
def test_where_there_is_no_closed_form_sampling_takes_over_and_says_so(images, make, reason):
    torch.manual_seed(0)
    net = make().double().eval()
    serfiq = SERFIQ(net, estimator="closed-form")
    with pytest.warns(UserWarning, match=f"sampling instead: {reason}"):
        quality = serfiq(images)
    assert reason in serfiq.fallback_reason
    torch.testing.assert_close(quality, SERFIQ(net)(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        serfiq(images)


def test_a_head_of_too_few_directions_falls_back(images):
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(1200, 2), nn.ReLU(), nn.Linear(2, 8, bias=False)
    ).double()
    with torch.no_grad():
        net[1].bias.fill_(50.0)
    serfiq = SERFIQ(net, estimator="closed-form")
    with pytest.warns(UserWarning, match=r"disagree by|not affine"):
        serfiq(images)


def test_a_sliding_convolution_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NotAffineError, match="AdaptiveAvgPool2d follows"):
        find_affine_head(model.eval(), "0", (torch.rand(2, 3, 8, 8),))


def test_bad_choices_are_refused(net):
    with pytest.raises(ValueError, match="'sampling', 'balanced' or 'closed-form'"):
        SERFIQ(net, estimator="monte carlo")
    with pytest.raises(ValueError, match="unit-length"):
        SERFIQ(net, estimator="closed-form", normalize=False)
