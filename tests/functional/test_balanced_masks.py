"""Balanced groups of masks: fair, independent between groups, and fast on affine layers."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_plq import SERFIQ
from captum_plq.functional.masks import BLOCKS, BalancedMasks

CPU = torch.device("cpu")


def kept(passes=100, features=48, seed=0):
    return BalancedMasks(passes, seed=seed).for_features(torch.Size([features]), CPU)


@pytest.mark.parametrize(
    ("passes", "size"), [(4, 2), (10, 2), (32, 4), (64, 8), (100, 10), (128, 16), (106, 2)]
)
def test_the_passes_fall_into_groups(passes, size):
    assert BalancedMasks(passes).group_size == size
    assert kept(passes).shape == (passes, 48)


@pytest.mark.parametrize("features", [5, 20, 48, 55])
def test_a_group_is_its_patterns_and_complements_which_differ_in_half_of_the_blocks(features):
    block = torch.arange(features).div(max(1, features // BLOCKS), rounding_mode="floor")
    for group in kept(128, features).split(16):
        assert torch.equal(group[:8], ~group[8:])
        for a, b in itertools.combinations(group[:8], 2):
            differs = [(a ^ b)[block.clamp_max(7) == n] for n in range(BLOCKS)]
            assert all(d.all() or not d.any() for d in differs)
            if features >= BLOCKS:
                assert sum(bool(d.all()) for d in differs) == BLOCKS // 2


def test_each_pattern_is_a_fair_draw_and_those_of_different_groups_are_independent():
    draws = torch.stack([kept(128, 12, seed) for seed in range(4000)]).double() - 0.5
    assert draws.mean(0).abs().max() < 6 * 0.5 / 4000**0.5
    for row in range(10):
        correlation = torch.corrcoef(draws[:, row].T) - torch.eye(12)
        assert correlation.abs().max() < 5 / 4000**0.5
    first, second = draws[:, 3], draws[:, 16 + 9]
    covariance = torch.einsum("nk,nl->kl", first, second) / 4000
    assert covariance.abs().max() < 5 * 0.25 / 4000**0.5
    # and so are the patterns of agreement, which the distance of two embeddings depends on
    agreement = torch.corrcoef((first * second).sign().T) - torch.eye(12)
    assert agreement.abs().max() < 5 / 4000**0.5


@pytest.mark.parametrize(("passes", "dropout"), [(9, 0.5), (2, 0.5), (10, 0.4)])
def test_needs_one_half_and_an_even_number(net, passes, dropout):
    with pytest.raises(ValueError, match="Balanced masks need"):
        SERFIQ(net, passes=passes, dropout=dropout, estimator="balanced")


class Net(nn.Module):
    def __init__(self, fc, kernel=4, channels=3, flat=True):
        super().__init__()
        conv = nn.Conv2d(3, channels, kernel, kernel)
        self.trunk = nn.Sequential(conv, nn.PReLU(), nn.Flatten() if flat else nn.Identity())
        self.fc = fc()
        self.bn = nn.Identity() if flat else nn.BatchNorm2d(6)

    def forward(self, x):
        return self.bn(self.fc(self.trunk(x / 128 - 1))).flatten(1)


class Cubed(nn.Linear):
    """No plain Linear, so the masks go through it one by one."""

    def forward(self, x):
        return super().forward(x) ** 3


def replaced():
    """A layer whose forward was replaced is run, not read."""
    layer = nn.Linear(75, 6)
    inner = layer.forward
    layer.forward = lambda x: inner(x) * 2 + 1
    return layer


NETS = {
    "75 features, no multiple of 8": partial(Net, lambda: nn.Linear(75, 6)),
    "fewer features than blocks": partial(Net, lambda: nn.Linear(5, 6), 20, 5),
    "a covering convolution": partial(Net, lambda: nn.Conv2d(4, 6, 5), 4, 4, flat=False),
    "no plain Linear": partial(Net, lambda: Cubed(75, 6)),
    "another forward": partial(Net, replaced),
}


def build(name):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = NETS[name]().double()
        if isinstance(net.bn, nn.BatchNorm2d):
            net.bn.running_mean.normal_()
            net.bn.running_var.uniform_(0.5, 2)
    return net.eval()


def by_hand(net, images, masks):
    """One pass through layer and tail per mask, each on its own."""
    features = net.trunk(images / 128 - 1)
    kept = masks.for_features(features.shape[1:], CPU)
    return torch.stack([net.bn(net.fc(features * mask * 2)).flatten(1) for mask in kept], dim=1)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("passes", "chunk_size"), [(6, None), (48, 1), (48, 3)])
def test_equals_one_pass_per_mask(name, passes, chunk_size, images):
    net = build(name)
    serfiq = SERFIQ(net, passes=passes, estimator="balanced", chunk_size=chunk_size)
    clean, stochastic = serfiq.embeddings(images)
    torch.testing.assert_close(stochastic, by_hand(net, images, serfiq.masks))
    torch.testing.assert_close(clean, net(images))


@pytest.mark.parametrize("name", [*NETS][::2])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_gradient_equals_that_of_one_pass_per_mask(name, chunk_size, images):
    net = build(name)
    serfiq = SERFIQ(net, passes=48, estimator="balanced", chunk_size=chunk_size)
    assert serfiq.masks.group_size == 6
    x = images.clone().requires_grad_()
    actual = torch.autograd.grad(serfiq(x).sum(), x)[0]
    y = images.clone().requires_grad_()
    rows = F.normalize(by_hand(net, y, serfiq.masks), dim=2).unbind(1)
    pairs = [(i, j) for i in range(48) for j in range(i) if i // 6 != j // 6]
    mean = sum((rows[i] - rows[j]).norm(dim=1) for i, j in pairs) / len(pairs)
    expected = torch.autograd.grad((2 * torch.sigmoid(-mean * 47 / 48)).sum(), y)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-16)


def test_one_product_per_group_not_per_pass(net, images):
    """Counted: rows that are multiplied with the layer's matrix."""

    class Rows(TorchDispatchMode):
        multiplied = 0.0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.bmm.default:
                blocks, rows, width = args[0].shape
                self.multiplied += rows * blocks * width / 300
            return func(*args, **(kwargs or {}))

    serfiq = SERFIQ(net, estimator="balanced")
    with torch.no_grad():
        serfiq(images)
        with Rows() as count:
            serfiq(images)
    distances = 7 * 100 * 16 / 300  # the Gram matrix's
    assert count.multiplied - distances == pytest.approx(7 * 10, rel=0.02)


def test_lower_precision(net, images):
    exact = SERFIQ(net, estimator="balanced")(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [SERFIQ(net.float(), estimator="balanced")(images.float())]
    for dtype in (torch.bfloat16, torch.float16):
        found.append(SERFIQ(net.to(dtype), estimator="balanced")(images.to(dtype)))
    for quality in found:
        torch.testing.assert_close(quality, exact.float(), rtol=0.02, atol=0)


@pytest.fixture(scope="module")
def dlib_head(dlib_net, dlib_chips):
    """The dlib network's embedding layer, and what real faces put into it."""
    _, features, _ = SERFIQ(dlib_net).tap.features(dlib_net, (dlib_chips,))
    return dlib_net.backbone.fc, features.detach()


def estimates(head, features, estimator, seeds):
    """Distance and quality, (seeds, images) each; the stated standard error is that of redraws."""
    found = []
    with torch.no_grad():
        for seed in seeds:
            serfiq = SERFIQ(head, seed=seed, average="pairs", estimator=estimator)
            found.append(serfiq.assess(features, standard_error=True))
    quality = torch.stack([a.quality for a in found]).double()
    stated = torch.stack([a.standard_error for a in found]).square().mean(0).sqrt().double()
    torch.testing.assert_close(stated, quality.std(0), rtol=0.15, atol=0)
    return -torch.logit(quality / 2)


def test_estimates_the_same_limit_with_less_error(dlib_head):
    truth = estimates(*dlib_head, "sampling", range(1000, 1400))
    apart = estimates(*dlib_head, "balanced", range(400)) - truth.mean(0)
    error = truth.std(0).square().mean().sqrt()
    assert apart.square().mean().sqrt() < 0.8 * error
    assert abs(float(apart.mean())) < 0.2 * error
