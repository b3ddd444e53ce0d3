"""Key tables and functional references of published face networks, for the tests.

Written from the papers and the names in the published files, not from the code under test.
"""

import torch
import torch.nn.functional as F

from tests.models.architectures.test_iresnet import batchnorm

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


def iresnet_shapes(depth):
    """insightface's ``backbone.pth``; MagFace and CR-FIQA name their networks alike."""
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


def crfiqa_shapes(depth):
    return {**iresnet_shapes(depth), "qs.weight": (1, 512), "qs.bias": (1,)}


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


def normed(state, name, x, eps):
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var = (state[f"{name}.running_{what}"].view(shape) for what in ("mean", "var"))
    z = (x - mean) / (var + eps).sqrt()
    if f"{name}.weight" not in state:
        return z
    return z * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)


def bent(state, name, x):
    return x.clamp(min=0) + state[f"{name}.weight"].view(1, -1, 1, 1) * x.clamp(max=0)


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


def weightless(shapes):
    """A state dict of these shapes that takes no memory."""
    return {
        key: torch.zeros((), dtype=torch.long if key.endswith("tracked") else None).expand(shape)
        for key, shape in shapes.items()
    }
