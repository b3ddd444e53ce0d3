"""Balanced groups of masks: fair, independent between groups, and fast on affine layers."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional.masks import BLOCKS, BalancedMasks, DropoutMasks
from tests.conftest import assert_untouched, snapshot

CPU = torch.device("cpu")


def kept(passes=100, features=48, seed=0):
    return BalancedMasks(passes, seed=seed).for_features(torch.Size([features]), CPU)


# --- the design ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passes", "patterns", "groups"),
    [(4, 1, 2), (10, 1, 5), (32, 2, 8), (64, 4, 8), (100, 5, 10), (128, 8, 8), (106, 1, 53)],
)
def test_the_passes_fall_into_groups(passes, patterns, groups):
    masks = BalancedMasks(passes)
    assert (masks.patterns, masks.groups, masks.group_size) == (patterns, groups, 2 * patterns)
    assert kept(passes).shape == (passes, 48)
    assert DropoutMasks().group_size == 1


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


def test_same_seed_same_masks_and_the_global_random_state_stays():
    before = torch.get_rng_state()
    assert torch.equal(kept(), kept())
    assert not torch.equal(kept(), kept(seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# --- on a network --------------------------------------------------------------------


class Conv(nn.Module):
    """The embedding layer is a convolution that covers its input."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.PReLU())
        self.fc = nn.Conv2d(4, 6, 5)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.bn(self.fc(self.trunk(x / 128 - 1))).flatten(1)


class Odd(nn.Module):
    """75 features, no multiple of eight, and a bias."""

    def __init__(self, kernel=4, channels=3, features=75):
        super().__init__()
        conv = nn.Conv2d(3, channels, kernel, kernel)
        self.trunk = nn.Sequential(conv, nn.PReLU(), nn.Flatten())
        self.fc = nn.Linear(features, 6)

    def forward(self, x):
        return self.fc(self.trunk(x / 128 - 1))


class Few(Odd):
    """Fewer features than blocks."""

    def __init__(self):
        super().__init__(20, 5, 5)


class Wrapped(Odd):
    """The embedding layer is not a plain Linear, so the masks go through it one by one."""

    def __init__(self):
        super().__init__()
        inner = self.fc
        self.fc = type("Custom", (nn.Linear,), {"forward": lambda s, x: inner(x) ** 3})(75, 6)
        self.fc.inner = inner


class Replaced(Odd):
    """A layer whose forward was replaced is run, not read."""

    def __init__(self):
        super().__init__()
        inner = self.fc.forward
        self.fc.forward = lambda x: inner(x) * 2 + 1


def build(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = make().double()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return net.eval()


def by_hand(net, images, masks):
    """One pass through layer and tail per mask, each on its own."""
    features = net.trunk(images / 128 - 1)
    rows = []
    for mask in masks.for_features(features.shape[1:], CPU):
        y = net.fc(features * mask * 2)
        rows.append((net.bn(y) if hasattr(net, "bn") else y).flatten(1))
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize("make", [Odd, Conv, Wrapped, Few, Replaced])
@pytest.mark.parametrize(("passes", "chunk_size"), [(6, None), (48, 1), (48, 3)])
def test_equals_one_pass_per_mask(make, passes, chunk_size, images):
    net = build(make)
    serfiq = SERFIQ(net, passes=passes, estimator="balanced", chunk_size=chunk_size)
    clean, stochastic = serfiq.embeddings(images)
    torch.testing.assert_close(stochastic, by_hand(net, images, serfiq.masks))
    torch.testing.assert_close(clean, net(images))


@pytest.mark.parametrize("make", [Odd, Conv, Wrapped])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_gradient_equals_that_of_one_pass_per_mask(make, chunk_size, images):
    net = build(make)
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


def test_lower_precision_and_nothing_left_behind(net, images):
    exact = SERFIQ(net.train(), estimator="balanced")(images)
    before = snapshot(net)
    PixelQualityAttribution(SERFIQ(net, estimator="balanced")).attribute(images)
    assert_untouched(before, net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = [SERFIQ(net.float(), estimator="balanced")(images.float())]
    for dtype in (torch.bfloat16, torch.float16):
        found.append(SERFIQ(net.to(dtype), estimator="balanced")(images.to(dtype)))
    for quality in found:
        torch.testing.assert_close(quality, exact.float(), rtol=0.02, atol=0)


# --- what it estimates ----------------------------------------------------------------


@pytest.fixture(scope="module")
def dlib_head(dlib_net, dlib_chips):
    """The dlib network's embedding layer, and what real faces put into it."""
    _, features, _ = SERFIQ(dlib_net).tap.features(dlib_net, (dlib_chips,))
    return dlib_net.backbone.fc, features.detach()


def estimates(head, features, estimator, seeds):
    """Distance, quality and stated standard error, (seeds, images) each."""
    with torch.no_grad():
        assessed = [
            SERFIQ(head, seed=s, average="pairs", estimator=estimator).assess(
                features, standard_error=True
            )
            for s in seeds
        ]
    quality = torch.stack([a.quality for a in assessed]).double()
    return -torch.logit(quality / 2), quality, torch.stack([a.standard_error for a in assessed])


def test_estimates_the_same_limit_with_less_error(dlib_head):
    truth, quality, errors = estimates(*dlib_head, "sampling", range(1000, 1400))
    spread, stated = quality.std(0), errors.square().mean(0).sqrt().double()
    torch.testing.assert_close(stated, spread, rtol=0.15, atol=0)
    balanced, quality, errors = estimates(*dlib_head, "balanced", range(400))
    spread, stated = quality.std(0), errors.square().mean(0).sqrt().double()
    torch.testing.assert_close(stated, spread, rtol=0.15, atol=0)
    error = truth.std(0).square().mean().sqrt()
    assert (balanced - truth.mean(0)).square().mean().sqrt() < 0.8 * error
    assert abs(float((balanced - truth.mean(0)).mean())) < 0.2 * error
