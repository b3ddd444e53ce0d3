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


def conv_bn(
    i: int, o: int, k: int = 1, s: int = 1, groups: int = 1, pad: int | None = None, act=None
):
    layers = [
        nn.Conv2d(i, o, k, s, k // 2 if pad is None else pad, groups=groups, bias=False),
        nn.BatchNorm2d(o),
    ]
    return nn.Sequential(*layers, act) if act else nn.Sequential(*layers)


def trunk(channels: int = 8) -> nn.Sequential:
    """(B, 3, 32, 32) → (B, channels, 4, 4)."""
    return nn.Sequential(
        conv_bn(3, 6, 3, 2, act=nn.PReLU(6)),
        conv_bn(6, 6, 3, 2, act=nn.PReLU(6)),
        conv_bn(6, channels, 3, 2, act=nn.PReLU(channels)),
    )


# --- published face networks ---------------------------------------------------------------


class IBasicBlock(nn.Module):
    """insightface's block: BN, conv, BN, PReLU, conv, BN, plus the identity."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(i)
        self.conv1 = nn.Conv2d(i, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.prelu = nn.PReLU(o)
        self.conv2 = nn.Conv2d(o, o, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(o)
        self.downsample = conv_bn(i, o, 1, stride) if stride > 1 or i != o else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """insightface's iresnet: bn2, flatten, dropout (p = 0, in place), fc, features."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.prelu = nn.PReLU(6)
        widths = [6, 6, 8, 8, 8]
        for stage, (i, o) in enumerate(itertools.pairwise(widths), start=1):
            self.add_module(f"layer{stage}", nn.Sequential(IBasicBlock(i, o, 2)))
        self.bn2 = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(p=0.0, inplace=True)
        self.fc = nn.Linear(8 * 2 * 2, dim)
        self.features = nn.BatchNorm1d(dim)
        nn.init.constant_(self.features.weight, 1.0)
        self.features.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.dropout(torch.flatten(self.bn2(x), 1))
        return self.features(self.fc(x))


class AdaFace(nn.Module):
    """AdaFace's backbone: BN, dropout, flatten, Linear, BN without affine; (feature, norm)."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.input_layer = conv_bn(3, 6, 3, 1, act=nn.PReLU(6))
        self.body = nn.Sequential(*(IBasicBlock(i, o, 2) for i, o in [(6, 6), (6, 8), (8, 8)]))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(8),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, dim),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.output_layer(self.body(self.input_layer(x)))
        norm = torch.norm(x, 2, 1, True)
        return torch.div(x, norm), norm


class LowRankHead(nn.Module):
    """EdgeFace's: LayerNorm, dropout, and a Linear factored through ``rank`` features."""

    def __init__(self, rank: int = 5, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Sequential(nn.Linear(8, rank, bias=False), nn.Linear(rank, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(self.norm(self.trunk(x).mean((2, 3)))))


class QualityHead(nn.Module):
    """CR-FIQA's: a quality regressed from the embedding, after it."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(128, dim)
        self.features = nn.BatchNorm1d(dim)
        self.qs = nn.Linear(dim, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.features(self.fc(self.dropout(self.trunk(x).flatten(1))))
        return embedding, self.qs(embedding)


# --- other ends ----------------------------------------------------------------------------


class CoveringConv(nn.Module):
    """Ends in a depthwise convolution that covers the map, then BN."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk(dim)
        self.cover = nn.Conv2d(dim, dim, 4, groups=dim, bias=False)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.cover(self.trunk(x)).flatten(1))


class PointwiseConv(nn.Module):
    """Ends in a 1×1 convolution of a 1×1 map."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(8, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pool(self.trunk(x))).flatten(1)


class Head(nn.Module):
    """A trunk and a Linear; the base of those below."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.fc = nn.Linear(128, dim)

    def flat(self, x: Tensor) -> Tensor:
        return self.trunk(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(x))


class BatchNormTail(Head):
    """BatchNorm after the Linear, dropout before it."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__(dim)
        self.dropout = nn.Dropout(0.4)
        self.bn = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(self.dropout(self.flat(x))))


class UnitLength(Head):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.fc(self.flat(x)), dim=1)


class FunctionalDropout(Head):
    """Dropout without a module; off in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.flat(x), 0.4, training=self.training))


class AlwaysRandom(Head):
    """Dropout that evaluation mode does not switch off."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.flat(x), 0.4))


class FlipTwice(Head):
    """Embeds the image and its mirror image: every layer runs twice."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + super().forward(x.flip(3))


class FlipInBatch(Head):
    """Embeds the image and its mirror image in one batch of twice the size."""

    def forward(self, x: Tensor) -> Tensor:
        plain, mirrored = super().forward(torch.cat([x, x.flip(3)])).chunk(2)
        return plain + mirrored


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


class MixesRows(Head):
    """Subtracts the mean embedding of the batch."""

    def forward(self, x: Tensor) -> Tensor:
        embedding = super().forward(x)
        return embedding - embedding.mean(0, keepdim=True)


class AveragesFrames(Head):
    """Embeds frames, and returns one mean embedding for each ``frames`` of them."""

    def __init__(self, frames: int = 2) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).unflatten(0, (-1, self.frames)).mean(1)


class AveragesFeatures(AveragesFrames):
    """Averages the features of frames, and embeds the mean: fewer rows than images."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flat(x).unflatten(0, (-1, self.frames)).mean(1))


class KeywordCalled(Head):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=self.flat(x))


class InplaceEnd(Head):
    """An in-place ReLU overwrites the output of the last Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(super().forward(x))


class TwoLinears(nn.Module):
    """Two Linears in a row through ``between`` features, nothing between them."""

    def __init__(self, between: int = 128, dim: int = DIM) -> None:
        super().__init__()
        self.trunk = trunk()
        self.fc1 = nn.Linear(128, between)
        self.fc2 = nn.Linear(between, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.trunk(x).flatten(1)))


class BottleneckMLP(LowRankHead):
    """As the low-rank head, but not linear in between; in place, so the memory is the same."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.norm(self.trunk(x).mean((2, 3)))
        return self.fc[1](F.relu_(self.fc[0](features)))


class FunctionalLinear(nn.Module):
    """No linear module at all."""

    def __init__(self, dim: int = DIM) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, 48) / 7)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.adaptive_avg_pool2d(x, 4).flatten(1), self.weight)


class Cut(Head):
    """Cuts the gradient: ``where`` is "output", "input" or "no_grad"."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "no_grad":
            with torch.no_grad():
                return super().forward(x)
        if self.where == "input":
            return super().forward(x.detach())
        return super().forward(x).detach()
