"""Where dropout may be put: found on small networks, and on dlib's."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.suitability.sites import find_dropout_sites
from tests.conftest import assert_untouched, small_face_net, snapshot
from tests.support.naive import naive_quality

LAST, CONVOLUTION, POOLING = "last linear map", "global convolution", "global pooling"


def found(model, x, **options):
    return [(s.layer, s.kind, s.features) for s in find_dropout_sites(model, x, **options)]


def sequential(**layers):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(OrderedDict(layers)).double().eval()


def trunk():
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.PReLU(8), nn.Conv2d(8, 6, 3, stride=2))


class PoolsByItself(nn.Module):
    """Averages the map by a function: no module does it."""

    def __init__(self, activation):
        super().__init__()
        self.trunk, self.activation, self.fc = trunk(), activation, nn.Linear(6, 5)
        self.double().eval()

    def forward(self, x):
        return self.fc(self.activation(self.trunk(x)).mean((2, 3)))


class Gate(nn.Module):
    """Squeeze and excitation, whose pooling is not on everyone's way."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.excite = nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1)

    def forward(self, x):
        return x * self.excite(self.squeeze(x)).sigmoid()


def depthwise(*, pooled):
    layers = {"trunk": trunk(), "depthwise": nn.Conv2d(6, 6, 4, groups=6)}
    if pooled:  # a single pixel, which is no site
        layers["pool"] = nn.AdaptiveAvgPool2d(1)
    return sequential(**layers, norm=nn.BatchNorm2d(6), flat=nn.Flatten(), fc=nn.Linear(6, 5))


def pooling(pool, **before):
    return sequential(trunk=trunk(), **before, pool=pool, flat=nn.Flatten(), fc=nn.Linear(6, 5))


BOTH = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
POOLED = [("fc", LAST, (6,)), ("pool", POOLING, (6, 4, 4))]
DEPTHWISE = [("fc", LAST, (6,)), ("depthwise", CONVOLUTION, (6, 4, 4))]
ONE = sequential(trunk=trunk(), conv=nn.Conv2d(6, 5, 4), flat=nn.Flatten())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        pytest.param(small_face_net(), [("fc", LAST, (300,))], id="flattened"),
        pytest.param(ONE, [("conv", LAST, (6, 4, 4))], id="last convolution, named once"),
        pytest.param(depthwise(pooled=False), DEPTHWISE, id="depthwise"),
        pytest.param(depthwise(pooled=True), DEPTHWISE, id="depthwise, pooled"),
        pytest.param(pooling(nn.AdaptiveAvgPool2d(1)), POOLED, id="adaptive pooling"),
        pytest.param(pooling(nn.AvgPool2d(4)), POOLED, id="average pooling"),
        pytest.param(pooling(BOTH), [POOLED[0], ("pool.0", *POOLED[1][1:])], id="pooling inside"),
        pytest.param(pooling(nn.AdaptiveAvgPool2d(1), gate=Gate()), POOLED, id="gate, not the way"),
    ],
)
def test_sites(model, expected, images):
    assert found(model, images) == expected


@pytest.mark.parametrize(
    ("activation", "stands_in"),
    [
        (nn.ReLU(), True),
        (nn.ReLU(inplace=True), True),
        (nn.PReLU(6), True),
        (nn.BatchNorm2d(6), False),  # what is dropped before it is not zero after it
        (nn.ReLU6(), False),  # what is scaled before it is cut off
        (nn.Sigmoid(), False),
    ],
)
def test_pooling_by_a_function(images, activation, stands_in):
    model = PoolsByItself(activation)
    expected = [("activation", POOLING, (6, 4, 4))] if stands_in else []
    assert found(model, images) == [("fc", LAST, (6,)), *expected]


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.PReLU(6)])
def test_dropout_before_the_activation_is_dropout_after_it(images, activation):
    model = PoolsByItself(activation)
    serfiq = SERFIQ(model, passes=10, dropout=0.3, embedding_layer="activation")
    masks = serfiq.masks.for_features(torch.Size([6, 4, 4]), torch.device("cpu"))
    expected = naive_quality(
        lambda x: activation(model.trunk(x)),
        lambda features: model.fc(features.mean((2, 3))),
        images,
        masks,
        0.3,
    )
    torch.testing.assert_close(serfiq(images), expected, rtol=1e-9, atol=0)


def test_a_layer_of_ones_own_is_the_first_site(net, images):
    assert found(net, images, embedding_layer="trunk.3")[0] == ("trunk.3", "as named", (8, 10, 10))
    assert found(net, images, embedding_layer="trunk")[0] == ("trunk", "as named", (3, 20, 20))
    assert found(net, images, embedding_layer="fc") == found(net, images)
    with pytest.raises(EmbeddingLayerError, match="no module named 'head'"):
        find_dropout_sites(net, images, "head")


class Two(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x), x.mean()


def test_another_output(net, images):
    assert found(Two(net).eval(), images, output=0) == [("net.fc", LAST, (300,))]


def test_the_dlib_network(dlib_net, dlib_chips):
    assert found(dlib_net, dlib_chips) == [
        ("backbone.fc", LAST, (256,)),
        ("backbone.blocks.13.relu2", POOLING, (256, 2, 2)),
    ]


def test_nothing_is_left_behind(images):
    model = small_face_net()
    model.train()
    before = snapshot(model)
    find_dropout_sites(model, images)
    assert_untouched(before, model)
