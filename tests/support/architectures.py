"""Small networks with the heads people use, written for these tests from their descriptions.

Each takes RGB images of 32×32 or more, any floating-point range. Trunks are shrunken; what
stands between the last feature map and the embedding is as published.
"""

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 32
DIM = 16


def build(make: Callable[..., nn.Module], *args, seed: int = 0, **kwargs) -> nn.Module:
    """A network with BatchNorm statistics that are not the trivial ones, float64, eval."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make(*args, **kwargs).double()
        for module in net.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    module.weight.data.uniform_(0.5, 1.5)
                    module.bias.data.normal_(0, 0.3)
    return net.eval()


def faces(count: int = 3, size: int = SIZE, seed: int = 5) -> Tensor:
    """Random images in [-1, 1], float64."""
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(count, 3, size, size, generator=generator, dtype=torch.float64) - 1


def conv_bn(i: int, o: int, k: int = 1, s: int = 1, act: nn.Module | None = None) -> nn.Sequential:
    layers = [nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o)]
    return nn.Sequential(*layers, *([act] if act else []))


def trunk(channels: int = 8) -> nn.Sequential:
    """(B, 3, 32, 32) → (B, channels, 4, 4)."""
    widths = itertools.pairwise((3, 6, 6, channels))
    return nn.Sequential(*(conv_bn(i, o, 3, 2, nn.PReLU(o)) for i, o in widths))


def network(forward: Callable[..., object], **parts: Callable[[], nn.Module]) -> type[nn.Module]:
    """A class of networks: what they compute, and their parts in the order of their making."""

    def initialise(self):
        nn.Module.__init__(self)
        for name, make in parts.items():
            self.add_module(name, make())

    return type("Network", (nn.Module,), {"__init__": initialise, "forward": forward})


# --- published face networks


class IBasicBlock(nn.Module):
    """insightface's block: BN, conv, BN, PReLU, conv, BN, plus the identity."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(i),
            nn.Conv2d(i, o, 3, 1, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.PReLU(o),
            nn.Conv2d(o, o, 3, 2, 1, bias=False),
            nn.BatchNorm2d(o),
        )
        self.downsample = conv_bn(i, o, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x) + self.downsample(x)


def blocks(*widths: int) -> nn.Sequential:
    return nn.Sequential(*(IBasicBlock(i, o) for i, o in itertools.pairwise(widths)))


# insightface's: bn2, flatten, dropout (p = 0, in place), fc, features.
IResNet = network(
    lambda net, x: net.features(
        net.fc(net.dropout(torch.flatten(net.bn2(net.layers(net.stem(x))), 1)))
    ),
    stem=lambda: conv_bn(3, 6, 3, act=nn.PReLU(6)),
    layers=lambda: blocks(6, 6, 8, 8, 8),
    bn2=lambda: nn.BatchNorm2d(8),
    dropout=lambda: nn.Dropout(p=0.0, inplace=True),
    fc=lambda: nn.Linear(8 * 2 * 2, DIM),
    features=lambda: nn.BatchNorm1d(DIM),
)


def unit_and_norm(x: Tensor) -> tuple[Tensor, Tensor]:
    norm = torch.norm(x, 2, 1, True)
    return torch.div(x, norm), norm


# AdaFace's: BN, dropout, flatten, Linear, BN without affine; returns (feature, norm).
AdaFace = network(
    lambda net, x: unit_and_norm(net.output_layer(net.body(net.input_layer(x)))),
    input_layer=lambda: conv_bn(3, 6, 3, act=nn.PReLU(6)),
    body=lambda: blocks(6, 6, 8, 8),
    output_layer=lambda: nn.Sequential(
        nn.BatchNorm2d(8),
        nn.Dropout(0.4),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, DIM),
        nn.BatchNorm1d(DIM, affine=False),
    ),
)


class LowRankHead(nn.Module):
    """EdgeFace's: LayerNorm, dropout, and a Linear factored through ``rank`` features."""

    def __init__(self, rank: int = 5) -> None:
        super().__init__()
        self.trunk = trunk()
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Sequential(nn.Linear(8, rank, bias=False), nn.Linear(rank, DIM))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.norm(self.trunk(x).mean((2, 3)))))


class QualityHead(nn.Module):
    """CR-FIQA's: a quality regressed from the embedding, after it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = trunk()
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(128, DIM)
        self.features = nn.BatchNorm1d(DIM)
        self.qs = nn.Linear(DIM, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.features(self.fc(self.dropout(self.trunk(x).flatten(1))))
        return embedding, self.qs(embedding)


# --- other ends

# A depthwise convolution that covers the map, then BN.
CoveringConv = network(
    lambda net, x: net.bn(net.cover(net.trunk(x)).flatten(1)),
    trunk=lambda: trunk(DIM),
    cover=lambda: nn.Conv2d(DIM, DIM, 4, groups=DIM, bias=False),
    bn=lambda: nn.BatchNorm1d(DIM),
)
# A 1×1 convolution of a 1×1 map.
PointwiseConv = network(
    lambda net, x: net.conv(net.pool(net.trunk(x))).flatten(1),
    trunk=trunk,
    pool=lambda: nn.AdaptiveAvgPool2d(1),
    conv=lambda: nn.Conv2d(8, DIM, 1),
)


class Head(nn.Module):
    """A trunk and a Linear; the base of those below."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.fc = nn.Linear(128, dim)

    def flat(self, x: Tensor) -> Tensor:
        return self.trunk(x).flatten(1)

    def embed(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


def head(forward: Callable[[Head, Tensor], Tensor], base: type[nn.Module] = Head):
    """A class of heads that compute something else of the same layers."""
    return type("Variant", (base,), {"forward": forward})


class Changed(Head):
    """Runs a function of itself and of what it is given, and has further parts."""

    def __init__(self, run: Callable[..., object], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: object) -> object:
        return self.run(self, *inputs)


class BatchNormTail(Head):
    """BatchNorm after the Linear, dropout before it."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__(dim)
        self.dropout = nn.Dropout(0.4)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(self.dropout(self.flat(x))))


UnitLength = head(lambda net, x: F.normalize(net.embed(x), dim=1))
KeywordCalled = head(lambda net, x: net.fc(input=net.flat(x)))
InplaceEnd = head(lambda net, x: net.embed(x).relu_())  # overwrites the output of the last Linear
# Dropout without a module; off in evaluation mode, and not.
FunctionalDropout = head(lambda net, x: net.fc(F.dropout(net.flat(x), 0.4, net.training)))
AlwaysRandom = head(lambda net, x: net.fc(F.dropout(net.flat(x), 0.4)))
# The image and its mirror image: every layer runs twice, or once on twice the rows.
FlipTwice = head(lambda net, x: net.embed(x) + net.embed(x.flip(3)))
FlipInBatch = head(lambda net, x: sum(net.embed(torch.cat([x, x.flip(3)])).chunk(2)))
MixesRows = head(lambda net, x: (y := net.embed(x)) - y.mean(0, keepdim=True))


class AveragesFrames(Head):
    """Embeds frames, and returns one mean embedding for each ``frames`` of them."""

    def __init__(self, frames: int = 2) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x).unflatten(0, (-1, self.frames)).mean(1)


# The mean of features embedded: fewer rows than images.
AveragesFeatures = head(
    lambda net, x: net.fc(net.flat(x).unflatten(0, (-1, net.frames)).mean(1)), AveragesFrames
)
# As the low-rank head, but not linear in between; in place, so the memory is the same.
BottleneckMLP = head(
    lambda net, x: net.fc[1](F.relu_(net.fc[0](net.norm(net.trunk(x).mean((2, 3)))))), LowRankHead
)


class ResidualEnd(nn.Module):
    """Ends in a residual block and a pooling: a skip leads around the last convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = trunk()
        self.block = nn.Sequential(conv_bn(8, 8, 3, act=nn.ReLU()), conv_bn(8, 8, 3))
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.flatten(self.pool(self.relu(x + self.block(x))))


class TwoLinears(nn.Module):
    """Two Linears in a row through ``between`` features, nothing between them."""

    def __init__(self, between: int = 128, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.fc1 = nn.Linear(128, between)
        self.fc2 = nn.Linear(between, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.trunk(x).flatten(1)))


class FunctionalLinear(nn.Module):
    """No linear module at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(DIM, 48) / 7)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.adaptive_avg_pool2d(x, 4).flatten(1), self.weight)


class Cut(Head):
    """Cuts the gradient: ``where`` is "output", "input" or "no_grad"."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.where != "no_grad"):
            y = self.embed(x.detach() if self.where == "input" else x)
        return y.detach() if self.where == "output" else y
