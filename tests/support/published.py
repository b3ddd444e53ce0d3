"""Published face networks: names, shapes, input and a functional reference of each, for the tests.

Written from the papers, the authors' code and the names in the published files, not from the code
under test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.support import published_mobile as mobile
from tests.support.checkpoints import batchnorm, bent, normed

WIDTHS = (64, 64, 128, 256, 512)
STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}


def blocks_of(depth):
    """(channels in, channels out, stride) of each block, stage by stage."""
    return [
        [(WIDTHS[s], WIDTHS[s + 1], 2), *[(WIDTHS[s + 1], WIDTHS[s + 1], 1)] * (count - 1)]
        for s, count in enumerate(STAGES[depth])
    ]


def chain_of(depth):
    """The same, one after another."""
    return [block for stage in blocks_of(depth) for block in stage]


# --- ArcFace, MagFace and CR-FIQA


def iresnet_shapes(depth):
    shapes = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,), **batchnorm("bn1", 64)}
    for stage, blocks in enumerate(blocks_of(depth), start=1):
        for i, (channels_in, channels, stride) in enumerate(blocks):
            name = f"layer{stage}.{i}"
            shapes |= {
                **batchnorm(f"{name}.bn1", channels_in),
                f"{name}.conv1.weight": (channels, channels_in, 3, 3),
                **batchnorm(f"{name}.bn2", channels),
                f"{name}.prelu.weight": (channels,),
                f"{name}.conv2.weight": (channels, channels, 3, 3),
                **batchnorm(f"{name}.bn3", channels),
            }
            if stride == 2:
                shapes[f"{name}.downsample.0.weight"] = (channels, channels_in, 1, 1)
                shapes |= batchnorm(f"{name}.downsample.1", channels)
    shapes |= {"fc.weight": (512, 25088), "fc.bias": (512,)}
    return {**shapes, **batchnorm("bn2", 512), **batchnorm("features", 512)}


def iresnet_reference(state, x, depth, eps=1e-5):
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    x = bent(state, "prelu", normed(state, "bn1", x, eps))
    for stage, blocks in enumerate(blocks_of(depth), start=1):
        for i, (_, _, stride) in enumerate(blocks):
            b = f"layer{stage}.{i}"
            y = F.conv2d(normed(state, f"{b}.bn1", x, eps), state[f"{b}.conv1.weight"], padding=1)
            y = bent(state, f"{b}.prelu", normed(state, f"{b}.bn2", y, eps))
            y = F.conv2d(y, state[f"{b}.conv2.weight"], stride=stride, padding=1)
            if stride == 2:
                x = F.conv2d(x, state[f"{b}.downsample.0.weight"], stride=2)
                x = normed(state, f"{b}.downsample.1", x, eps)
            x = x + normed(state, f"{b}.bn3", y, eps)
    x = normed(state, "bn2", x, eps).flatten(1) @ state["fc.weight"].T + state["fc.bias"]
    return normed(state, "features", x, eps)


def crfiqa_shapes(depth):
    return {**iresnet_shapes(depth), "qs.weight": (1, 512), "qs.bias": (1,)}


# --- AdaFace


def adaface_shapes(depth):
    """AdaFace's network, without the ``model.`` before each name of its checkpoints."""
    shapes = {
        "input_layer.0.weight": (64, 3, 3, 3),
        **batchnorm("input_layer.1", 64),
        "input_layer.2.weight": (64,),
    }
    for i, (channels_in, channels, _) in enumerate(chain_of(depth)):
        res, way = f"body.{i}.res_layer", f"body.{i}.shortcut_layer"
        if channels_in != channels:
            shapes[f"{way}.0.weight"] = (channels, channels_in, 1, 1)
            shapes |= batchnorm(f"{way}.1", channels)
        shapes |= {
            **batchnorm(f"{res}.0", channels_in),
            f"{res}.1.weight": (channels, channels_in, 3, 3),
            **batchnorm(f"{res}.2", channels),
            f"{res}.3.weight": (channels,),
            f"{res}.4.weight": (channels, channels, 3, 3),
            **batchnorm(f"{res}.5", channels),
        }
    last = batchnorm("output_layer.4", 512)
    return {
        **shapes,
        **batchnorm("output_layer.0", 512),
        "output_layer.3.weight": (512, 25088),
        "output_layer.3.bias": (512,),
        **{key: shape for key, shape in last.items() if not key.endswith((".weight", ".bias"))},
    }


def adaface_reference(state, x, depth, eps=1e-5):
    x = F.conv2d(x, state["input_layer.0.weight"], padding=1)
    x = bent(state, "input_layer.2", normed(state, "input_layer.1", x, eps))
    for i, (channels_in, channels, stride) in enumerate(chain_of(depth)):
        res, way = f"body.{i}.res_layer", f"body.{i}.shortcut_layer"
        y = F.conv2d(normed(state, f"{res}.0", x, eps), state[f"{res}.1.weight"], padding=1)
        y = bent(state, f"{res}.3", normed(state, f"{res}.2", y, eps))
        y = F.conv2d(y, state[f"{res}.4.weight"], stride=stride, padding=1)
        x = x[:, :, ::stride, ::stride]
        if channels_in != channels:
            x = normed(state, f"{way}.1", F.conv2d(x, state[f"{way}.0.weight"]), eps)
        x = x + normed(state, f"{res}.5", y, eps)
    x = normed(state, "output_layer.0", x, eps).flatten(1)
    x = x @ state["output_layer.3.weight"].T + state["output_layer.3.bias"]
    x = normed(state, "output_layer.4", x, eps)
    return x / (x * x).sum(dim=1, keepdim=True).sqrt()


# --- FaceNet

# Weights of facenet-pytorch: each of these has `conv.weight` and the five entries of `bn`.
STEM = {
    "conv2d_1a": (32, 3, 3, 3),
    "conv2d_2a": (32, 32, 3, 3),
    "conv2d_2b": (64, 32, 3, 3),
    "conv2d_3b": (80, 64, 1, 1),
    "conv2d_4a": (192, 80, 3, 3),
    "conv2d_4b": (256, 192, 3, 3),
}
BLOCK_35 = {
    "branch0": (32, 256, 1, 1),
    "branch1.0": (32, 256, 1, 1),
    "branch1.1": (32, 32, 3, 3),
    "branch2.0": (32, 256, 1, 1),
    "branch2.1": (32, 32, 3, 3),
    "branch2.2": (32, 32, 3, 3),
}
MIXED_6A = {
    "branch0": (384, 256, 3, 3),
    "branch1.0": (192, 256, 1, 1),
    "branch1.1": (192, 192, 3, 3),
    "branch1.2": (256, 192, 3, 3),
}
BLOCK_17 = {
    "branch0": (128, 896, 1, 1),
    "branch1.0": (128, 896, 1, 1),
    "branch1.1": (128, 128, 1, 7),
    "branch1.2": (128, 128, 7, 1),
}
MIXED_7A = {
    "branch0.0": (256, 896, 1, 1),
    "branch0.1": (384, 256, 3, 3),
    "branch1.0": (256, 896, 1, 1),
    "branch1.1": (256, 256, 3, 3),
    "branch2.0": (256, 896, 1, 1),
    "branch2.1": (256, 256, 3, 3),
    "branch2.2": (256, 256, 3, 3),
}
BLOCK_8 = {
    "branch0": (192, 1792, 1, 1),
    "branch1.0": (192, 1792, 1, 1),
    "branch1.1": (192, 192, 1, 3),
    "branch1.2": (192, 192, 3, 1),
}
# ... and each of these, besides its branches, `conv2d.weight` and `conv2d.bias`.
RESIDUALS = {
    **{f"repeat_1.{i}": (BLOCK_35, (256, 96, 1, 1)) for i in range(5)},
    **{f"repeat_2.{i}": (BLOCK_17, (896, 256, 1, 1)) for i in range(10)},
    **{f"repeat_3.{i}": (BLOCK_8, (1792, 384, 1, 1)) for i in range(5)},
    "block8": (BLOCK_8, (1792, 384, 1, 1)),
}
CLASSIFIER = {"logits.weight": (8631, 512), "logits.bias": (8631,)}


def facenet_shapes():
    convolutions = dict(STEM)
    shapes = {}
    for name, (branches, joined) in RESIDUALS.items():
        convolutions |= {f"{name}.{branch}": shape for branch, shape in branches.items()}
        shapes |= {f"{name}.conv2d.weight": joined, f"{name}.conv2d.bias": joined[:1]}
    convolutions |= {f"mixed_6a.{branch}": shape for branch, shape in MIXED_6A.items()}
    convolutions |= {f"mixed_7a.{branch}": shape for branch, shape in MIXED_7A.items()}
    for name, shape in convolutions.items():
        shapes |= {f"{name}.conv.weight": shape, **batchnorm(f"{name}.bn", shape[0])}
    return {**shapes, "last_linear.weight": (512, 1792), **batchnorm("last_bn", 512)}


def facenet_reference(state, x):
    """Inception-ResNet-v1 written out from the paper's figures, on the published names."""

    def conv(name, x, stride=1, padding=0):
        y = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        return normed(state, f"{name}.bn", y, 0.001).clamp(min=0)

    def add(name, x, branches, scale):
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        return x + scale * F.conv2d(torch.cat(branches, 1), weight, bias)

    def block8(name, x, scale):
        y = conv(f"{name}.branch1.1", conv(f"{name}.branch1.0", x), padding=(0, 1))
        y = conv(f"{name}.branch1.2", y, padding=(1, 0))
        return add(name, x, [conv(f"{name}.branch0", x), y], scale)

    x = conv("conv2d_1a", x, stride=2)
    x = conv("conv2d_2a", x)
    x = conv("conv2d_2b", x, padding=1)
    x = F.max_pool2d(x, 3, 2)
    x = conv("conv2d_3b", x)
    x = conv("conv2d_4a", x)
    x = conv("conv2d_4b", x, stride=2)
    for i in range(5):
        b = f"repeat_1.{i}.branch"
        y = conv(f"{b}1.1", conv(f"{b}1.0", x), padding=1)
        z = conv(f"{b}2.2", conv(f"{b}2.1", conv(f"{b}2.0", x), padding=1), padding=1)
        x = add(f"repeat_1.{i}", x, [conv(f"{b}0", x), y, z], 0.17).clamp(min=0)
    y = conv("mixed_6a.branch1.1", conv("mixed_6a.branch1.0", x), padding=1)
    y = conv("mixed_6a.branch1.2", y, stride=2)
    x = torch.cat([conv("mixed_6a.branch0", x, stride=2), y, F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        b = f"repeat_2.{i}.branch"
        y = conv(f"{b}1.1", conv(f"{b}1.0", x), padding=(0, 3))
        y = conv(f"{b}1.2", y, padding=(3, 0))
        x = add(f"repeat_2.{i}", x, [conv(f"{b}0", x), y], 0.10).clamp(min=0)
    w = conv("mixed_7a.branch0.1", conv("mixed_7a.branch0.0", x), stride=2)
    y = conv("mixed_7a.branch1.1", conv("mixed_7a.branch1.0", x), stride=2)
    z = conv("mixed_7a.branch2.1", conv("mixed_7a.branch2.0", x), padding=1)
    z = conv("mixed_7a.branch2.2", z, stride=2)
    x = torch.cat([w, y, z, F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        x = block8(f"repeat_3.{i}", x, 0.20).clamp(min=0)
    x = block8("block8", x, 1.0)
    x = normed(state, "last_bn", x.mean(dim=(2, 3)) @ state["last_linear.weight"].T, 0.001)
    return x / x.norm(dim=1, keepdim=True)


# --- all of them


def plain(x):
    return (x / 255 - 0.5) / 0.5


@dataclass(frozen=True)
class Published:
    """What its authors publish: the file's names and shapes, what they do to RGB of 0 to 255, and
    what the network computes of that, if that is written out here."""

    shapes: Callable[[], dict]
    layer: str
    prepare: Callable = plain
    reference: Callable | None = None
    dropout: tuple | None = None


NETWORKS = {
    **{
        f"iresnet{d}": Published(
            partial(iresnet_shapes, d),
            "fc",
            reference=partial(iresnet_reference, depth=d),
            dropout=(nn.Dropout, 0.0),
        )
        for d in STAGES
    },
    **{
        f"magface-iresnet{d}": Published(
            partial(iresnet_shapes, d),
            "fc",
            lambda x: x[:, [2, 1, 0]] / 255,
            partial(iresnet_reference, depth=d, eps=2e-5),
            (nn.Dropout2d, 0.4),
        )
        for d in (18, 50, 100)
    },
    **{
        f"crfiqa-iresnet{d}": Published(
            partial(crfiqa_shapes, d),
            "fc",
            reference=partial(iresnet_reference, depth=d),
            dropout=(nn.Dropout, 0.4),
        )
        for d in (50, 100)
    },
    **{
        f"adaface-ir{101 if d == 100 else d}": Published(
            partial(adaface_shapes, d),
            "output_layer.3",
            lambda x: plain(x[:, [2, 1, 0]]),
            partial(adaface_reference, depth=d),
            (nn.Dropout, 0.4),
        )
        for d in (18, 50, 100)
    },
    "facenet": Published(
        facenet_shapes,
        "last_linear",
        lambda x: (x - 127.5) / 128,
        facenet_reference,
        (nn.Dropout, 0.6),
    ),
    **{
        f"mobilefacenet-{layout.replace('_', '-')}": Published(
            partial(mobile.mobilefacenet_shapes, layout),
            mobile.HEADS[layout][0],
            mobile.PREPARED[layout],
            partial(mobile.mobilefacenet_reference, layout),
        )
        for layout in mobile.HEADS
    },
    **{
        name: Published(partial(mobile.edgeface_shapes, *row), layer)
        for name, (layer, row) in mobile.EDGEFACES.items()
    },
}
