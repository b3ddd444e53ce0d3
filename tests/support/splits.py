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
    trunk: Callable[[nn.Module, Tensor], Tensor]
    head: Callable[[nn.Module, Tensor], Tensor] = lambda n, x: n.fc(x)
    tail: Callable[[nn.Module, Tensor], Tensor] = lambda n, x: x
    output: int | None = None
    is_found: bool = True


class BlockHead(nn.Module):
    """A head with BatchNorm and dropout of its own, tapped as a whole."""

    def __init__(self):
        super().__init__()
        self.trunk = arch.trunk()
        self.head = nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh())

    def forward(self, x):
        return self.head(self.trunk(x).flatten(1))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(128, 8)

    def forward(self, scale, features):
        return scale * self.linear(features)


class FeaturesSecond(nn.Module):
    """A head of the user's own, whose features are not the first argument."""

    def __init__(self, by_keyword=False):
        super().__init__()
        self.trunk, self.head, self.by_keyword = arch.trunk(), Scaled(), by_keyword

    def forward(self, x):
        features = self.trunk(x).flatten(1)
        if self.by_keyword:
            return self.head(scale=2.0, features=features)
        return self.head(2.0, features)


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


class OldWeightNorm(arch.Head):
    def __init__(self):
        super().__init__()
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(self.fc)


class Parametrized(arch.Head):
    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.fc)


class PreHooked(arch.Head):
    """A hook of the user's own acts on clean and stochastic rows alike."""

    def __init__(self):
        super().__init__()
        self.fc.register_forward_pre_hook(lambda _, args: (3 * args[0],))


class Insists(arch.Head):
    """Takes one row per image, so that each pass runs through the whole network."""

    def forward(self, x):
        embedding = super().forward(x)
        assert len(embedding) == len(x)
        return embedding


def flat(net, x):
    return net.trunk(x).flatten(1)


def ada_trunk(net, x):
    return net.output_layer[:3](net.body(net.input_layer(x)))


def iresnet_trunk(net, x):
    x = net.prelu(net.bn1(net.conv1(x)))
    return net.bn2(net.layer4(net.layer3(net.layer2(net.layer1(x))))).flatten(1)


SPLITS = {
    "keyword": Split(arch.KeywordCalled, "fc", flat),
    "unit length": Split(arch.UnitLength, "fc", flat, tail=lambda n, x: F.normalize(x, dim=1)),
    "in place": Split(arch.InplaceEnd, "fc", flat, tail=lambda n, x: x.relu()),
    "functional dropout": Split(arch.FunctionalDropout, "fc", flat),
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
    "iresnet": Split(arch.IResNet, "fc", iresnet_trunk, tail=lambda n, x: n.features(x)),
    "adaface": Split(
        arch.AdaFace,
        "output_layer.3",
        ada_trunk,
        lambda n, x: n.output_layer[3](x),
        lambda n, x: F.normalize(n.output_layer[4](x), dim=1),
        output=0,
    ),
    "first of two": Split(
        arch.TwoLinears,
        "fc1",
        flat,
        lambda n, x: n.fc1(x),
        lambda n, x: n.fc2(x),
        is_found=False,
    ),
    "block": Split(BlockHead, "head", flat, lambda n, x: n.head(x), is_found=False),
    "features second": Split(
        FeaturesSecond, "head", flat, lambda n, x: n.head(2.0, x), is_found=False
    ),
    "features by keyword": Split(
        lambda: FeaturesSecond(True), "head", flat, lambda n, x: n.head(2.0, x), is_found=False
    ),
    "activation in place": Split(
        InplaceActivation,
        "act",
        lambda n, x: n.before(x),
        lambda n, x: x.relu(),
        lambda n, x: x.mean((2, 3)),
        is_found=False,
    ),
    "old weight norm": Split(OldWeightNorm, "fc", flat),
    "parametrized": Split(Parametrized, "fc", flat),
    "pre-hook": Split(PreHooked, "fc", lambda n, x: 3 * flat(n, x), lambda n, x: n.fc.forward(x)),
    "insists": Split(Insists, "fc", flat),
}
