"""The children of a MobileFaceNet, under the names of each layout of its published weights.

The names are facts about those files: they are what a checkpoint's keys are made of. What the
modules do is from Chen et al., "MobileFaceNets" (CCBR 2018), Table 1 and Fig. 3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LAYOUTS", "Children", "MobileFaceNetLayout", "foamliu"]

MobileFaceNetLayout = Literal[
    "y1", "foamliu", "xiaoccer", "treb1en", "arcface_torch", "arcface_torch_large"
]
"""Whose names, activations and head."""

Children = OrderedDict[str, nn.Module]

# Of each run of bottlenecks: hidden channels and channels out of its first one, which halves
# the map, then how many follow and their hidden channels.
_RUNS = ((128, 64, 4, 128), (256, 128, 6, 256), (512, 128, 2, 256))

# Channels in, hidden, out and stride of a bottleneck.
_Row = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Names:
    """How a layout names what is in a unit, a bottleneck and a run of bottlenecks.

    ``unit_in``, ``block_in`` and ``run_in`` name a module around all of it, if there is one.
    """

    unit: tuple[str, str, str] = ("conv", "bn", "prelu")
    block: tuple[str, str, str] = ("conv", "conv_dw", "project")
    run: str = "{}"
    unit_in: str | None = None
    block_in: str | None = None
    run_in: str | None = None
    eps: float = 1e-5


_Y1 = _Names(
    unit=("conv2d", "batchnorm", "relu"),
    block=("conv_sep", "conv_dw", "conv_proj"),
    run="block{}",
    run_in="model",
    eps=1e-3,
)
_TREB1EN = _Names(run_in="model")
_ARCFACE_TORCH = _Names(("0", "1", "2"), ("0", "1", "2"), "{}", "layers", "layers", "layers")
_XIAOCCER = _Names()


def _y1(embedding_size: int = 128) -> Children:
    """Build Y1 of insightface: BatchNorm with MXNet's ε, a linear layer with a bias."""
    runs = ("dconv_23", "res_3", "dconv_34", "res_4", "dconv_45", "res_5")
    return _children(
        *zip(("conv_1", "conv_2_dw", *runs, "conv_6sep"), _trunk(_Y1), strict=True),
        ("conv_6dw7_7", _global(_Y1)),
        ("flatten", nn.Flatten()),
        ("pre_fc1", nn.Linear(512, embedding_size)),
        ("fc1", nn.BatchNorm1d(embedding_size, eps=2e-5)),
    )


def _treb1en(embedding_size: int = 512) -> Children:
    """Build TreB1eN's: the embedding has unit length."""
    runs = ("conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5")
    return _children(
        *zip(("conv1", "conv2_dw", *runs, "conv_6_sep"), _trunk(_TREB1EN), strict=True),
        ("conv_6_dw", _global(_TREB1EN)),
        ("conv_6_flatten", nn.Flatten()),
        ("linear", nn.Linear(512, embedding_size, bias=False)),
        ("bn", nn.BatchNorm1d(embedding_size)),
        ("unit_length", _UnitLength()),
    )


def _arcface_torch(
    embedding_size: int = 512,
    blocks: tuple[int, int, int, int] = (1, 4, 6, 2),
    scale: int = 2,
) -> Children:
    """Build arcface_torch's: ``scale`` times the channels between the bottlenecks."""
    *layers, last = _trunk(_ARCFACE_TORCH, blocks, scale)
    head = nn.Sequential(
        _global(_ARCFACE_TORCH),
        nn.Flatten(),
        nn.Linear(512, embedding_size, bias=False),
        nn.BatchNorm1d(embedding_size),
    )
    return _children(
        ("layers", nn.Sequential(*layers)),
        ("conv_sep", last),
        ("features", _around("layers", head)),
    )


def _xiaoccer(embedding_size: int = 128) -> Children:
    """Build Xiaoccer's: 112×96 faces, so a 7×6 map; the linear layer is a 1×1 convolution."""

    def block(row: _Row) -> nn.Sequential:
        parts = [part for unit in _units(_XIAOCCER, row) for part in unit]
        return _residual(_children(("conv", nn.Sequential(*parts))), row)

    return _children(
        ("central_columns", _CentralColumns()),
        ("conv1", _unit(_XIAOCCER, _conv(3, 64, 3, 2))),
        ("dw_conv1", _unit(_XIAOCCER, _conv(64, 64, 3, groups=64))),
        ("blocks", nn.Sequential(*map(block, _rows()))),
        ("conv2", _unit(_XIAOCCER, _conv(128, 512))),
        ("linear7", _global(_XIAOCCER, (7, 6))),
        ("linear1", _unit(_XIAOCCER, _conv(512, embedding_size), linear=True)),
        ("flatten", nn.Flatten()),
    )


def foamliu(embedding_size: int = 128) -> Children:
    """Build foamliu's: ReLU6 and, in the second unit, ReLU; the second unit is separable."""

    def unit(conv: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6())

    def block(row: _Row) -> nn.Sequential:
        widen, over, narrow = _convs(row)
        norm = nn.BatchNorm2d(narrow.out_channels)
        parts = nn.Sequential(unit(widen), unit(over), narrow, norm)
        return _residual(_children(("conv", parts)), row)

    separable = _children(
        ("depthwise", _conv(64, 64, 3, groups=64)),
        ("bn1", nn.BatchNorm2d(64)),
        ("relu1", nn.ReLU()),
        ("pointwise", _conv(64, 64)),
        ("bn2", nn.BatchNorm2d(64)),
        ("relu2", nn.ReLU()),
    )
    over_the_map = _children(
        ("depthwise", nn.Conv2d(512, 512, 7, groups=512, bias=False)), ("bn", nn.BatchNorm2d(512))
    )
    return _children(
        ("conv1", unit(_conv(3, 64, 3, 2))),
        ("dw_conv", nn.Sequential(separable)),
        ("features", nn.Sequential(*map(block, _rows()))),
        ("conv2", unit(_conv(128, 512))),
        ("gdconv", nn.Sequential(over_the_map)),
        ("conv3", nn.Conv2d(512, embedding_size, 1)),
        ("bn", nn.BatchNorm2d(embedding_size)),
        ("flatten", nn.Flatten()),
    )


LAYOUTS: dict[MobileFaceNetLayout, Callable[..., Children]] = {
    "y1": _y1,
    "foamliu": foamliu,
    "xiaoccer": _xiaoccer,
    "treb1en": _treb1en,
    "arcface_torch": _arcface_torch,
    "arcface_torch_large": partial(_arcface_torch, blocks=(2, 8, 12, 4), scale=4),
}
"""Builds the children of a network, given d; without it, as published."""


class _Residual(nn.Sequential):
    """Modules one after another, whose input is added to their output."""

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for module in self:
            y = module(y)
        return x + y


class _UnitLength(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x)


class _CentralColumns(nn.Module):
    """Cuts 112×112 to the middle 96 columns; leaves 112×96 as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., 8:-8] if x.shape[-1] == 112 else x


def _children(*named: tuple[str, nn.Module]) -> Children:
    return OrderedDict(named)


def _around(name: str | None, module: nn.Sequential) -> nn.Sequential:
    """Put a module into another under a name; return it as it is without one."""
    return module if name is None else nn.Sequential(_children((name, module)))


def _conv(i: int, o: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)


def _unit(names: _Names, conv: nn.Conv2d, linear: bool = False) -> nn.Sequential:
    """Build a convolution, BatchNorm and, unless ``linear``, PReLU."""
    parts: list[nn.Module] = [conv, nn.BatchNorm2d(conv.out_channels, names.eps)]
    if not linear:
        parts.append(nn.PReLU(conv.out_channels))
    named = zip(names.unit, parts, strict=False)
    return _around(names.unit_in, nn.Sequential(_children(*named)))


def _global(names: _Names, kernel: tuple[int, int] = (7, 7)) -> nn.Sequential:
    """Build the depthwise convolution over the whole map, linear."""
    return _unit(names, nn.Conv2d(512, 512, kernel, groups=512, bias=False), linear=True)


def _convs(row: _Row) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
    """Build a bottleneck's convolutions: widening, depthwise, narrowing."""
    i, hidden, o, stride = row
    return _conv(i, hidden), _conv(hidden, hidden, 3, stride, hidden), _conv(hidden, o)


def _units(names: _Names, row: _Row) -> tuple[nn.Sequential, nn.Sequential, nn.Sequential]:
    widen, over, narrow = _convs(row)
    return _unit(names, widen), _unit(names, over), _unit(names, narrow, linear=True)


def _residual(children: Children, row: _Row) -> nn.Sequential:
    """Add the input, if neither size nor channels change."""
    i, _, o, stride = row
    return _Residual(children) if stride == 1 and i == o else nn.Sequential(children)


def _block(names: _Names, row: _Row) -> nn.Sequential:
    children = _children(*zip(names.block, _units(names, row), strict=True))
    if names.block_in is not None:
        children = _children((names.block_in, nn.Sequential(children)))
    return _residual(children, row)


def _run(names: _Names, channels: int, hidden: int, count: int) -> nn.Sequential:
    """Build bottlenecks with residuals, one after another."""
    blocks = [_block(names, (channels, hidden, channels, 1)) for _ in range(count)]
    named = ((names.run.format(i), block) for i, block in enumerate(blocks))
    return _around(names.run_in, nn.Sequential(_children(*named)))


def _trunk(
    names: _Names, blocks: tuple[int, int, int, int] = (1, 4, 6, 2), scale: int = 1
) -> list[nn.Sequential]:
    """Build all up to 512 channels, for layouts that keep the runs apart: nine modules."""
    width = 64 * scale
    first = _unit(names, _conv(3, width, 3, 2))
    if blocks[0] == 1:
        modules = [first, _unit(names, _conv(width, width, 3, groups=64))]
    else:
        modules = [first, _run(names, width, 128, blocks[0])]
    for (first_hidden, channels, _, hidden), count in zip(_RUNS, blocks[1:], strict=True):
        modules.append(_block(names, (width, first_hidden, channels * scale, 2)))
        width = channels * scale
        modules.append(_run(names, width, hidden, count))
    return [*modules, _unit(names, _conv(width, 512))]


def _rows() -> list[_Row]:
    """List all bottlenecks, for the layouts that number them."""
    rows, width = list[_Row](), 64
    for first_hidden, channels, count, hidden in _RUNS:
        rows.append((width, first_hidden, channels, 2))
        rows += [(channels, hidden, channels, 1)] * count
        width = channels
    return rows
