"""Networks taken apart by hand, to run their heads in a loop."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support import architectures as arch


@dataclass
class Split:
    """A model taken apart by hand: ``model(x) == tail(head(trunk(x)))``."""

    make: Callable[[], nn.Module]
    name: str
    trunk: Callable[[nn.Module, Tensor], Tensor] = arch.Head.flat
    head: Callable[[nn.Module, Tensor], Tensor] = lambda n, x: n.fc(x)
    tail: Callable[[nn.Module, Tensor], Tensor] = lambda n, x: x
    output: int | None = None
    is_found: bool = True


# A head with BatchNorm and dropout of its own, tapped as a whole.
BlockHead = arch.network(
    lambda net, x: net.head(arch.Head.flat(net, x)),
    trunk=arch.trunk,
    head=lambda: nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh()),
)

# A head of the user's own, whose features are not the first argument.
Scaled = arch.network(
    lambda net, scale, features: scale * net.linear(features), linear=lambda: nn.Linear(128, 8)
)
FEATURES_SECOND = {"trunk": arch.trunk, "head": Scaled}
FeaturesSecond = arch.network(
    lambda net, x: net.head(2.0, arch.Head.flat(net, x)), **FEATURES_SECOND
)
FeaturesByKeyword = arch.network(
    lambda net, x: net.head(scale=2.0, features=arch.Head.flat(net, x)), **FEATURES_SECOND
)


class InplaceActivation(nn.Module):
    """A skip connection ends in an activation, where dropout may be put by name."""

    def __init__(self, act=nn.ReLU):
        super().__init__()
        self.trunk, self.act = arch.trunk(), act(inplace=True)

    def before(self, x):
        y = self.trunk(x)
        return y + y.sin()

    def forward(self, x):
        return self.act(self.before(x)).mean((2, 3))


def old_weight_norm():
    net = arch.Head()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(net.fc)
    return net


def parametrized():
    net = arch.Head()
    nn.utils.parametrizations.spectral_norm(net.fc)
    return net


def pre_hooked():
    """A hook of the user's own acts on clean and stochastic rows alike."""
    net = arch.Head()
    net.fc.register_forward_pre_hook(lambda _, args: (3 * args[0],))
    return net


class Insists(arch.Head):
    """Takes one row per image, so that each pass runs through the whole network."""

    def forward(self, x):
        embedding = super().forward(x)
        assert len(embedding) == len(x)
        return embedding


SPLITS = {
    "keyword": Split(arch.KeywordCalled, "fc"),
    "unit length": Split(arch.UnitLength, "fc", tail=lambda n, x: F.normalize(x, dim=1)),
    "in place": Split(arch.InplaceEnd, "fc", tail=lambda n, x: x.relu()),
    "functional dropout": Split(arch.FunctionalDropout, "fc"),
    "covering convolution": Split(
        arch.CoveringConv,
        "cover",
        lambda n, x: n.trunk(x),
        lambda n, x: n.cover(x),
        lambda n, x: n.bn(x.flatten(1)),
    ),
    "1x1 convolution": Split(
        arch.PointwiseConv,
        "conv",
        lambda n, x: n.pool(n.trunk(x)),
        lambda n, x: n.conv(x),
        lambda n, x: x.flatten(1),
    ),
    "low-rank pair": Split(
        arch.LowRankHead,
        "fc.0",
        lambda n, x: n.norm(n.trunk(x).mean((2, 3))),
        lambda n, x: n.fc[0](x),
        lambda n, x: n.fc[1](x),
    ),
    "iresnet": Split(
        arch.IResNet,
        "fc",
        lambda n, x: n.bn2(n.layers(n.stem(x))).flatten(1),
        tail=lambda n, x: n.features(x),
    ),
    "adaface": Split(
        arch.AdaFace,
        "output_layer.3",
        lambda n, x: n.output_layer[:3](n.body(n.input_layer(x))),
        lambda n, x: n.output_layer[3](x),
        lambda n, x: F.normalize(n.output_layer[4](x), dim=1),
        output=0,
    ),
    "first of two": Split(
        arch.TwoLinears,
        "fc1",
        arch.Head.flat,
        lambda n, x: n.fc1(x),
        lambda n, x: n.fc2(x),
        is_found=False,
    ),
    "block": Split(BlockHead, "head", head=lambda n, x: n.head(x), is_found=False),
    "features second": Split(
        FeaturesSecond, "head", head=lambda n, x: n.head(2.0, x), is_found=False
    ),
    "features by keyword": Split(
        FeaturesByKeyword, "head", head=lambda n, x: n.head(2.0, x), is_found=False
    ),
    "activation in place": Split(
        InplaceActivation,
        "act",
        lambda n, x: n.before(x),
        lambda n, x: x.relu(),
        lambda n, x: x.mean((2, 3)),
        is_found=False,
    ),
    "old weight norm": Split(old_weight_norm, "fc"),
    "parametrized": Split(parametrized, "fc"),
    "pre-hook": Split(pre_hooked, "fc", lambda n, x: 3 * n.flat(x), lambda n, x: n.fc.forward(x)),
    "insists": Split(Insists, "fc"),
}
