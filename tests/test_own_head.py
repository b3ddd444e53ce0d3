"""Stochastic rows run apart from the network equal those that go through it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import captum_plq.serfiq as serfiq_module
from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.own_head import OwnHead
from tests.conftest import SmallFaceNet, assert_untouched, snapshot


class Tanh(SmallFaceNet):
    def forward(self, x):
        return super().forward(x).tanh()


class Prelu(SmallFaceNet):
    def __init__(self):
        super().__init__()
        self.act = nn.PReLU()

    def forward(self, x):
        return self.act(super().forward(x))


class UnitLength(SmallFaceNet):
    def forward(self, x):
        return F.normalize(super().forward(x), dim=1)


def build(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        net = make().double()
        net.bn.running_mean.normal_()
        net.bn.running_var.uniform_(0.5, 2)
    return net.eval()


def through_the_network(net, images, **options):
    """A hook on the network that does nothing, and rows take the way through the network."""
    serfiq = SERFIQ(net, **options)
    with net.register_forward_hook(lambda *_: None), torch.no_grad():
        return serfiq.assess(images, standard_error=True)


def head_of(net, images, normalize=True):
    serfiq = SERFIQ(net, normalize=normalize)
    with torch.no_grad():
        serfiq.assess(images)
    return serfiq._head


@pytest.mark.parametrize("estimator", ["sampling", "balanced"])
@pytest.mark.parametrize("make", [SmallFaceNet, UnitLength])
@pytest.mark.parametrize("at_a_time", [1, 2**20])
def test_equals_the_way_through_the_network(images, monkeypatch, make, estimator, at_a_time):
    monkeypatch.setattr(serfiq_module, "_ROW_ELEMENTS_AT_A_TIME", at_a_time)
    net = build(make)
    serfiq = SERFIQ(net, passes=20, estimator=estimator)
    _, quality, error = serfiq.assess(images, standard_error=True)
    assert serfiq._head.names == ("fc", "bn")
    _, expected, expected_error = through_the_network(net, images, passes=20, estimator=estimator)
    torch.testing.assert_close(quality, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(error, expected_error, rtol=1e-9, atol=0)
    assert not quality.requires_grad


def test_rows_come_a_few_images_at_a_time(images, monkeypatch):
    monkeypatch.setattr(serfiq_module, "_ROW_ELEMENTS_AT_A_TIME", 2 * 10 * 16)
    net = build(SmallFaceNet)
    plq = PixelQualityAttribution(SERFIQ(net, passes=10))
    plq.attribute(images)
    rows, forward = [], net.bn.forward
    monkeypatch.setattr(net.bn, "forward", lambda x: (rows.append(len(x)), forward(x))[1])
    plq.attribute(images)
    assert rows == [7, 20, 20, 20, 10]


def test_a_hook_set_later_is_heeded(images):
    net = build(SmallFaceNet)
    serfiq = SERFIQ(net, passes=20)
    with torch.no_grad():
        before = serfiq.assess(images).quality
        with net.bn.register_forward_hook(lambda _, __, y: y * torch.linspace(0.1, 3, 16)):
            during = serfiq.assess(images).quality
            expected = SERFIQ(net, passes=20).assess(images).quality
        after = serfiq.assess(images).quality
    torch.testing.assert_close(during, expected)
    assert (during - before).abs().max() > 1e-3
    assert torch.equal(after, before)


def test_a_change_of_weights_is_heeded(images):
    net = build(SmallFaceNet)
    serfiq = SERFIQ(net, passes=20)
    with torch.no_grad():
        serfiq.assess(images)
        net.bn.weight.mul_(torch.linspace(0.2, 3, 16, dtype=torch.float64))
        expected = through_the_network(net, images, passes=20).quality
        torch.testing.assert_close(serfiq.assess(images).quality, expected)
    twin = copy.deepcopy(serfiq)
    with torch.no_grad():
        twin.model.bn.weight.fill_(1.0)
        expected = through_the_network(twin.model, images, passes=20).quality
        torch.testing.assert_close(twin.assess(images).quality, expected)


@pytest.mark.parametrize("make", [Tanh, Prelu])
def test_other_tails_stay_the_networks_own(images, make):
    net = build(make)
    assert head_of(net, images) is None
    with torch.no_grad():
        quality = SERFIQ(net, passes=20).assess(images).quality
    torch.testing.assert_close(quality, through_the_network(net, images, passes=20).quality)


def test_a_normalisation_in_the_models_code_counts_where_lengths_do(images):
    net = build(UnitLength)
    assert head_of(net, images) is not None
    assert head_of(net, images, normalize=False) is None
    assert head_of(build(SmallFaceNet), images, normalize=False) is not None


def test_replicas_have_layers_of_their_own(images):
    net = nn.DataParallel(build(SmallFaceNet))
    assert head_of(net, images) is None


def test_the_network_is_left_as_it_was(images):
    net = build(SmallFaceNet).train()
    before = snapshot(net)
    OwnHead.of(net, SERFIQ(net).tap, (images,), True)
    PixelQualityAttribution(SERFIQ(net)).attribute(images)
    assert_untouched(before, net)
