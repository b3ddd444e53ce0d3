"""Where dropout may be put: found on small networks, and on dlib's."""

from collections import OrderedDict

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.functional.masks import DropoutMasks, MasksOfRates
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk, self.activation, self.fc = trunk(), activation, nn.Linear(6, 5)
        self.double().eval()

    def forward(self, x):
        return self.fc(self.activation(self.trunk(x)).mean((2, 3)))


class Gated(nn.Module):
    """A squeeze-and-excitation gate, whose pooling is not on everyone's way."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.trunk, self.squeeze = trunk(), nn.AdaptiveAvgPool2d(1)
            self.excite, self.pool = nn.Conv2d(6, 6, 1), nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(6, 5)
        self.double().eval()

    def forward(self, x):
        x = self.trunk(x)
        x = x * self.excite(self.squeeze(x)).sigmoid()
        return self.fc(self.pool(x).flatten(1))


def test_a_flattened_map_has_the_last_linear_map_only(net, images):
    assert found(net, images) == [("fc", LAST, (300,))]


def test_global_depthwise_convolution(images):
    model = sequential(
        trunk=trunk(),
        depthwise=nn.Conv2d(6, 6, 4, groups=6),
        norm=nn.BatchNorm2d(6),
        flat=nn.Flatten(),
        fc=nn.Linear(6, 5),
    )
    expected = [("fc", LAST, (6,)), ("depthwise", CONVOLUTION, (6, 4, 4))]
    assert found(model, images) == expected


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AvgPool2d(4),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
)
def test_global_pooling(images, pool):
    layers = {"trunk": trunk(), "pool": pool, "flat": nn.Flatten(), "fc": nn.Linear(6, 5)}
    name = "pool.0" if isinstance(pool, nn.Sequential) else "pool"
    assert found(sequential(**layers), images) == [
        ("fc", LAST, (6,)),
        (name, POOLING, (6, 4, 4)),
    ]


def test_a_convolution_that_is_the_last_linear_map_is_named_once(images):
    model = sequential(trunk=trunk(), conv=nn.Conv2d(6, 5, 4), flat=nn.Flatten())
    assert found(model, images) == [("conv", LAST, (6, 4, 4))]


def test_both_a_global_convolution_and_a_pooling(images):
    """The map collapses once: what pools a single pixel is no site."""
    model = sequential(
        trunk=trunk(),
        depthwise=nn.Conv2d(6, 6, 4, groups=6),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        fc=nn.Linear(6, 5),
    )
    assert [site[0] for site in found(model, images)] == ["fc", "depthwise"]


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


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU(inplace=True), nn.PReLU(6)])
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


def test_a_gate_is_not_the_way(images):
    assert found(Gated(), images) == [("fc", LAST, (6,)), ("pool", POOLING, (6, 4, 4))]


def test_a_layer_of_ones_own_is_the_first_site(net, images):
    assert found(net, images, embedding_layer="trunk.3")[0] == ("trunk.3", "as named", (8, 10, 10))
    assert found(net, images, embedding_layer="trunk")[0] == ("trunk", "as named", (3, 20, 20))
    assert found(net, images, embedding_layer="fc") == found(net, images)
    with pytest.raises(EmbeddingLayerError, match="no module named 'head'"):
        find_dropout_sites(net, images, "head")


def test_another_output(net, images):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x), x.mean()

    assert found(Two().eval(), images, output=0) == [("net.fc", LAST, (300,))]


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


def test_masks_of_several_rates_are_those_of_each():
    masks = MasksOfRates(5, (0.1, 0.5), seed=3)
    drawn = masks.for_features(torch.Size([4, 3]), torch.device("cpu"))
    assert (masks.passes, masks.scale, drawn.dtype) == (10, 1.0, torch.float32)
    for i, p in enumerate((0.1, 0.5)):
        one = DropoutMasks(5, p, seed=3).for_features(torch.Size([4, 3]), torch.device("cpu"))
        torch.testing.assert_close(drawn[5 * i : 5 * i + 5], one / (1 - p))
    other = masks.for_features(torch.Size([7]), torch.device("cpu"))
    assert other.shape == (10, 7)
    with pytest.raises(ValueError, match="at least one dropout rate"):
        MasksOfRates(5, ())
    with pytest.raises(ValueError, match="between 0 and 1"):
        MasksOfRates(5, (0.5, 1.0))
