"""Published face networks: names, shapes, input and a functional reference of each, for the tests.

Written from the papers, the authors' code and the names in the published files, not from the code
under test.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from tests.support import published_mobile as mobile
from tests.support.checkpoints import batchnorm, bent, normed, under

WIDTHS = (64, 64, 128, 256, 512)
STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 14, 3),
    100: (3, 13, 30, 3),
    200: (6, 26, 60, 6),
}

# --- ArcFace, MagFace, CR-FIQA and AdaFace


class Names(NamedTuple):
    """How the parts of a residual network are called, in the order in which they run."""

    stem: tuple
    block: str
    residual: tuple
    shortcut: str
    head: tuple


IRESNET = Names(
    ("conv1", "bn1", "prelu"),
    "layer{stage}.{i}",
    ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3"),
    "downsample",
    ("bn2", "fc", "features"),
)
ADAFACE = Names(  # without the ``model.`` of its checkpoints
    tuple(f"input_layer.{i}" for i in range(3)),
    "body.{n}",
    tuple(f"res_layer.{i}" for i in range(6)),
    "shortcut_layer",
    tuple(f"output_layer.{i}" for i in (0, 3, 4)),
)


def blocks_of(names, depth):
    """Names of each block's parts, channels in and out, stride, and of a convolved way around."""
    chain = [(stage, i) for stage, n in enumerate(STAGES[depth], 1) for i in range(n)]
    for n, (stage, i) in enumerate(chain):
        block = names.block.format(stage=stage, i=i, n=n)
        before, after = WIDTHS[stage - (i == 0)], WIDTHS[stage]
        around = (i == 0) if names is IRESNET else before != after
        parts = [f"{block}.{part}" for part in names.residual]
        yield parts, before, after, 1 + (i == 0), f"{block}.{names.shortcut}" if around else None


def residual_shapes(names, depth):
    conv, norm, bend = names.stem
    shapes = {f"{conv}.weight": (64, 3, 3, 3), **batchnorm(norm, 64), f"{bend}.weight": (64,)}
    for (norm1, conv1, norm2, bend, conv2, norm3), i, o, _, around in blocks_of(names, depth):
        shapes |= {**batchnorm(norm1, i), **batchnorm(norm2, o), **batchnorm(norm3, o)}
        shapes |= {f"{conv1}.weight": (o, i, 3, 3), f"{conv2}.weight": (o, o, 3, 3)}
        shapes[f"{bend}.weight"] = (o,)
        if around:
            shapes |= {f"{around}.0.weight": (o, i, 1, 1), **batchnorm(f"{around}.1", o)}
    before, linear, after = names.head
    shapes |= {f"{linear}.weight": (512, 25088), f"{linear}.bias": (512,)}
    shapes |= {**batchnorm(before, 512), **batchnorm(after, 512)}
    if names is ADAFACE:
        del shapes[f"{after}.weight"], shapes[f"{after}.bias"]
    return shapes


def residual_reference(state, x, names, depth, eps=1e-5):
    conv, norm, bend = names.stem
    x = F.conv2d(x, state[f"{conv}.weight"], padding=1)
    x = bent(state, bend, normed(state, norm, x, eps))
    for parts, _, _, stride, around in blocks_of(names, depth):
        norm1, conv1, norm2, bend, conv2, norm3 = parts
        y = F.conv2d(normed(state, norm1, x, eps), state[f"{conv1}.weight"], padding=1)
        y = bent(state, bend, normed(state, norm2, y, eps))
        y = F.conv2d(y, state[f"{conv2}.weight"], stride=stride, padding=1)
        x = x[:, :, ::stride, ::stride]
        if around:
            x = normed(state, f"{around}.1", F.conv2d(x, state[f"{around}.0.weight"]), eps)
        x = x + normed(state, norm3, y, eps)
    before, linear, after = names.head
    x = normed(state, before, x, eps).flatten(1) @ state[f"{linear}.weight"].T
    x = normed(state, after, x + state[f"{linear}.bias"], eps)
    return x / (x * x).sum(dim=1, keepdim=True).sqrt() if names is ADAFACE else x


iresnet_shapes = partial(residual_shapes, IRESNET)
adaface_shapes = partial(residual_shapes, ADAFACE)


def crfiqa_shapes(depth):
    return {**iresnet_shapes(depth), "qs.weight": (1, 512), "qs.bias": (1,)}


# --- FaceNet: of facenet-pytorch's names each convolution has `conv.weight` and a `bn`

STEM = {
    "conv2d_1a": (32, 3, 3, 3),
    "conv2d_2a": (32, 32, 3, 3),
    "conv2d_2b": (64, 32, 3, 3),
    "conv2d_3b": (80, 64, 1, 1),
    "conv2d_4a": (192, 80, 3, 3),
    "conv2d_4b": (256, 192, 3, 3),
}
# Channels in; of each branch the channels out and the kernels of its convolutions.
BLOCK_35 = (
    256,
    [(32, 1, 1)],
    [(32, 1, 1), (32, 3, 3)],
    [(32, 1, 1), (32, 3, 3), (32, 3, 3)],
)
BLOCK_17 = (896, [(128, 1, 1)], [(128, 1, 1), (128, 1, 7), (128, 7, 1)])
BLOCK_8 = (1792, [(192, 1, 1)], [(192, 1, 1), (192, 1, 3), (192, 3, 1)])
MIXED_6A = (256, [(384, 3, 3)], [(192, 1, 1), (192, 3, 3), (256, 3, 3)])
MIXED_7A = (
    896,
    [(256, 1, 1), (384, 3, 3)],
    [(256, 1, 1), (256, 3, 3)],
    [(256, 1, 1), (256, 3, 3), (256, 3, 3)],
)
RESIDUALS = {
    **{f"repeat_1.{i}": BLOCK_35 for i in range(5)},
    **{f"repeat_2.{i}": BLOCK_17 for i in range(10)},
    **{f"repeat_3.{i}": BLOCK_8 for i in range(5)},
    "block8": BLOCK_8,
}
CLASSIFIER = {"logits.weight": (8631, 512), "logits.bias": (8631,)}


def chain_names(name, branch, count):
    name = f"{name}.branch{branch}"
    return [name] if count == 1 else [f"{name}.{i}" for i in range(count)]


def facenet_shapes():
    convolutions, shapes = dict(STEM), {}
    blocks = {**RESIDUALS, "mixed_6a": MIXED_6A, "mixed_7a": MIXED_7A}
    for name, (inputs, *branches) in blocks.items():
        for branch, chain in enumerate(branches):
            width = inputs
            for part, (o, *kernel) in zip(
                chain_names(name, branch, len(chain)), chain, strict=True
            ):
                convolutions[part] = (o, width, *kernel)
                width = o
        if name in RESIDUALS:
            joined = sum(chain[-1][0] for chain in branches)
            shapes |= {f"{name}.conv2d.weight": (inputs, joined, 1, 1)}
            shapes |= {f"{name}.conv2d.bias": (inputs,)}
    for name, shape in convolutions.items():
        shapes |= {f"{name}.conv.weight": shape, **batchnorm(f"{name}.bn", shape[0])}
    return {**shapes, "last_linear.weight": (512, 1792), **batchnorm("last_bn", 512)}


def facenet_reference(state, x):
    """Inception-ResNet-v1 written out from the paper's figures, on the published names."""

    def conv(name, x, stride=1, padding=0):
        y = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        return normed(state, f"{name}.bn", y, 0.001).clamp(min=0)

    def same(x, *names):
        """Convolutions after another that keep the size of the map."""
        for name in names:
            height, width = state[f"{name}.conv.weight"].shape[2:]
            x = conv(name, x, padding=(height // 2, width // 2))
        return x

    def residual(name, x, scale):
        chains = enumerate(RESIDUALS[name][1:])
        branches = [same(x, *chain_names(name, branch, len(chain))) for branch, chain in chains]
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        return x + scale * F.conv2d(torch.cat(branches, 1), weight, bias)

    x = conv("conv2d_2a", conv("conv2d_1a", x, stride=2))
    x = F.max_pool2d(conv("conv2d_2b", x, padding=1), 3, 2)
    x = conv("conv2d_4a", conv("conv2d_3b", x))
    x = conv("conv2d_4b", x, stride=2)
    for i in range(5):
        x = residual(f"repeat_1.{i}", x, 0.17).clamp(min=0)
    y = conv("mixed_6a.branch1.2", same(x, *chain_names("mixed_6a", 1, 3)[:2]), stride=2)
    x = torch.cat([conv("mixed_6a.branch0", x, stride=2), y, F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        x = residual(f"repeat_2.{i}", x, 0.10).clamp(min=0)
    w = conv("mixed_7a.branch0.1", same(x, "mixed_7a.branch0.0"), stride=2)
    y = conv("mixed_7a.branch1.1", same(x, "mixed_7a.branch1.0"), stride=2)
    z = conv("mixed_7a.branch2.2", same(x, *chain_names("mixed_7a", 2, 3)[:2]), stride=2)
    x = torch.cat([w, y, z, F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        x = residual(f"repeat_3.{i}", x, 0.20).clamp(min=0)
    x = residual("block8", x, 1.0)
    x = normed(state, "last_bn", x.mean(dim=(2, 3)) @ state["last_linear.weight"].T, 0.001)
    return x / x.norm(dim=1, keepdim=True)


# --- how their files hold them, and all of them


def with_classifier(state):
    return {**state, **{key: torch.zeros(shape) for key, shape in CLASSIFIER.items()}}


def of_lightning(state):
    """As AdaFace saves it: the network under `model.`, the loss's head beside it."""
    head = {"kernel": (512, 100), "t": (1,), "batch_mean": (1,), "batch_std": (1,)}
    inside = under("model.", state) | {f"head.{key}": torch.zeros(n) for key, n in head.items()}
    return {"epoch": 25, "state_dict": inside, "hyper_parameters": {"arch": "ir_18", "lr": 0.1}}


def of_magface(state):
    """As its distributed training saves it: `features.module.`, and the class centres."""
    inside = under("features.module.", state) | {"parallel_fc.weight": torch.zeros(512, 100)}
    return {"epoch": 25, "arch": "iresnet18", "state_dict": inside, "optimizer": {"state": {}}}


def plain(x):
    return (x / 255 - 0.5) / 0.5


@dataclass(frozen=True)
class Published:
    """What its authors publish."""

    shapes: Callable[[], dict]  # of all entries of the file
    layer: str  # the last linear one
    prepare: Callable = plain  # what they do to RGB of 0 to 255
    reference: Callable | None = None  # what the network computes of that, if written out here
    dropout: tuple | None = None  # module and rate in training
    input_size: tuple[int, int] = (112, 112)
    wrap: Callable = dict  # how the file holds the weights
    unused: tuple[str, ...] = ()  # what in it is for training only


def residual(depth, names=IRESNET, eps=1e-5, rate=0.4, **facts):
    """A :class:`Published` of a residual network; what is not said is ArcFace's."""
    return Published(
        **{"shapes": partial(residual_shapes, names, depth), "layer": names.head[1]}
        | {"reference": partial(residual_reference, names=names, depth=depth, eps=eps)}
        | {"dropout": (nn.Dropout, rate)}
        | facts
    )


NETWORKS = {
    **{f"iresnet{d}": residual(d, rate=0.0) for d in STAGES},
    **{
        f"magface-iresnet{d}": residual(
            d,
            eps=2e-5,
            prepare=lambda x: x[:, [2, 1, 0]] / 255,
            dropout=(nn.Dropout2d, 0.4),
            wrap=of_magface,
            unused=("parallel_fc.weight",),
        )
        for d in (18, 50, 100)
    },
    **{f"crfiqa-iresnet{d}": residual(d, shapes=partial(crfiqa_shapes, d)) for d in (50, 100)},
    **{
        f"adaface-ir{101 if d == 100 else d}": residual(
            d,
            ADAFACE,
            prepare=lambda x: plain(x[:, [2, 1, 0]]),
            wrap=of_lightning,
            unused=("head.batch_mean", "head.batch_std", "head.kernel", "head.t"),
        )
        for d in (18, 50, 100)
    },
    "facenet": Published(
        facenet_shapes,
        "last_linear",
        lambda x: (x - 127.5) / 128,
        facenet_reference,
        (nn.Dropout, 0.6),
        (160, 160),
        with_classifier,
        ("logits.bias", "logits.weight"),
    ),
    **{
        f"mobilefacenet-{layout.replace('_', '-')}": Published(
            partial(mobile.mobilefacenet_shapes, layout),
            mobile.HEADS[layout][0],
            mobile.PREPARED[layout],
            partial(mobile.mobilefacenet_reference, layout),
            wrap=lambda state: {"net_state_dict": state, "iters": 3},  # as xiaoccer's
        )
        for layout in mobile.HEADS
    },
    **{
        name: Published(partial(mobile.edgeface_shapes, *row), layer)
        for name, (layer, row) in mobile.EDGEFACES.items()
    },
}
