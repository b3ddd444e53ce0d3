"""MobileFaceNet in each layout of its published weights, and EdgeFace: see ``published``."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.support.checkpoints import LFW, WEIGHTS, batchnorm, bent, normed

# Channels in, hidden, out and stride: Table 1 of the paper, its bottlenecks one by one.
BOTTLENECKS = [
    (64, 128, 64, 2),
    *[(64, 128, 64, 1)] * 4,
    (64, 256, 128, 2),
    *[(128, 256, 128, 1)] * 6,
    (128, 512, 128, 2),
    *[(128, 256, 128, 1)] * 2,
]
# Name and shape of the linear layer, whether it has a bias, and the name of the last BatchNorm.
HEADS = {
    "y1": ("pre_fc1", (128, 512), True, "fc1"),
    "foamliu": ("conv3", (128, 512, 1, 1), True, "bn"),
    "xiaoccer": ("linear1.conv", (128, 512, 1, 1), False, "linear1.bn"),
    "treb1en": ("linear", (512, 512), False, "bn"),
    "arcface_torch": ("features.layers.2", (512, 512), False, "features.layers.3"),
}
# From 0–255 RGB to what the network takes, as its authors do it; xiaoccer's cuts the columns.
PREPARED = {
    "y1": lambda x: (x - 127.5) * 0.0078125,
    "foamliu": lambda x: (
        (x / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    ),
    "xiaoccer": lambda x: (x - 127.5) / 128,
    "treb1en": lambda x: (x[:, [2, 1, 0]] / 255 - 0.5) / 0.5,
    "arcface_torch": lambda x: (x / 255 - 0.5) / 0.5,
}


class Step(NamedTuple):
    """A convolution, its BatchNorm and what bends it: names of parameters, or of a function."""

    conv: str
    norm: str
    bend: str
    shape: tuple
    stride: int = 1
    padding: int = 0
    groups: int = 1
    remember: bool = False  # the input, to add it ...
    add: bool = False  # ... to this output


def unit_names(layout):
    """Names of (convolution, BatchNorm, PReLU) in the order in which they run."""
    if layout == "y1":
        blocks = ["dconv_23", *[f"res_3.model.block{i}" for i in range(4)]]
        blocks += ["dconv_34", *[f"res_4.model.block{i}" for i in range(6)]]
        blocks += ["dconv_45", *[f"res_5.model.block{i}" for i in range(2)]]
        units = [f"{b}.{u}" for b in blocks for u in ("conv_sep", "conv_dw", "conv_proj")]
        units = ["conv_1", "conv_2_dw", *units, "conv_6sep", "conv_6dw7_7"]
        return [(f"{u}.conv2d", f"{u}.batchnorm", f"{u}.relu") for u in units]
    if layout == "treb1en":
        blocks = ["conv_23", *[f"conv_3.model.{i}" for i in range(4)]]
        blocks += ["conv_34", *[f"conv_4.model.{i}" for i in range(6)]]
        blocks += ["conv_45", *[f"conv_5.model.{i}" for i in range(2)]]
        units = [f"{b}.{u}" for b in blocks for u in ("conv", "conv_dw", "project")]
        units = ["conv1", "conv2_dw", *units, "conv_6_sep", "conv_6_dw"]
        return [(f"{u}.conv", f"{u}.bn", f"{u}.prelu") for u in units]
    if layout == "arcface_torch":
        blocks = ["layers.2", *[f"layers.3.layers.{i}" for i in range(4)]]
        blocks += ["layers.4", *[f"layers.5.layers.{i}" for i in range(6)]]
        blocks += ["layers.6", *[f"layers.7.layers.{i}" for i in range(2)]]
        units = [f"{b}.layers.{u}" for b in blocks for u in range(3)]
        units = ["layers.0", "layers.1", *units, "conv_sep", "features.layers.0"]
        return [(f"{u}.layers.0", f"{u}.layers.1", f"{u}.layers.2") for u in units]
    if layout == "xiaoccer":
        inside = [("0", "1", "2"), ("3", "4", "5"), ("6", "7", "none")]
        units = [
            tuple(f"blocks.{b}.conv.{part}" for part in unit) for b in range(15) for unit in inside
        ]
        outside = [
            (f"{u}.conv", f"{u}.bn", f"{u}.prelu")
            for u in ("conv1", "dw_conv1", "conv2", "linear7")
        ]
        return [*outside[:2], *units, *outside[2:]]
    assert layout == "foamliu"
    inside = [("0.0", "0.1", "relu6"), ("1.0", "1.1", "relu6"), ("2", "3", "none")]
    units = [
        (f"features.{b}.conv.{conv}", f"features.{b}.conv.{norm}", bend)
        for b in range(15)
        for conv, norm, bend in inside
    ]
    return [
        ("conv1.0", "conv1.1", "relu6"),
        ("dw_conv.depthwise", "dw_conv.bn1", "relu"),
        ("dw_conv.pointwise", "dw_conv.bn2", "relu"),
        *units,
        ("conv2.0", "conv2.1", "relu6"),
        ("gdconv.depthwise", "gdconv.bn", "none"),
    ]


def steps(layout):
    scale = 2 if layout == "arcface_torch" else 1
    wide = 64 * scale
    # Shape, stride, padding and groups, whether it bends, and the two marks of a residual.
    rows = [((wide, 3, 3, 3), 2, 1, 1, True, False, False)]
    rows.append(((wide, wide // 64, 3, 3), 1, 1, 64, True, False, False))
    if layout == "foamliu":
        rows.append(((64, 64, 1, 1), 1, 0, 1, True, False, False))
    for i, hidden, o, stride in BOTTLENECKS:
        added = stride == 1
        rows.append(((hidden, i * scale, 1, 1), 1, 0, 1, True, added, False))
        rows.append(((hidden, 1, 3, 3), stride, 1, hidden, True, False, False))
        rows.append(((o * scale, hidden, 1, 1), 1, 0, 1, False, False, added))
    rows.append(((512, 128 * scale, 1, 1), 1, 0, 1, True, False, False))
    kernel = (7, 6) if layout == "xiaoccer" else (7, 7)
    rows.append(((512, 1, *kernel), 1, 0, 512, False, False, False))
    return [
        Step(conv, norm, bend if bends else "none", shape, stride, padding, groups, *marks)
        for (conv, norm, bend), (shape, stride, padding, groups, bends, *marks) in zip(
            unit_names(layout), rows, strict=True
        )
    ]


def mobilefacenet_shapes(layout):
    shapes = {}
    for step in steps(layout):
        shapes |= {f"{step.conv}.weight": step.shape, **batchnorm(step.norm, step.shape[0])}
        if step.bend not in ("none", "relu", "relu6"):
            shapes[f"{step.bend}.weight"] = (step.shape[0],)
    linear, shape, bias, norm = HEADS[layout]
    shapes[f"{linear}.weight"] = shape
    if bias:
        shapes[f"{linear}.bias"] = shape[:1]
    return {**shapes, **batchnorm(norm, shape[0])}


def mobilefacenet_reference(layout, state, x):
    """The network written out from the paper's Table 1, on the published names."""
    if layout == "xiaoccer":
        x = x[..., 8:104]
    remembered = None
    for step in steps(layout):
        if step.remember:
            remembered = x
        weight = state[f"{step.conv}.weight"]
        x = F.conv2d(x, weight, None, step.stride, step.padding, groups=step.groups)
        x = normed(state, step.norm, x, 0.001 if layout == "y1" else 1e-5)
        if step.bend in ("relu", "relu6"):
            x = x.clamp(0, 6 if step.bend == "relu6" else None)
        elif step.bend != "none":
            x = bent(state, step.bend, x)
        if step.add:
            x = x + remembered
    assert x.shape[1:] == (512, 1, 1)
    linear, shape, bias, norm = HEADS[layout]
    x = x.flatten(1) @ state[f"{linear}.weight"].view(shape[:2]).T
    x = x + state[f"{linear}.bias"] if bias else x
    x = normed(state, norm, x, 2e-5 if layout == "y1" else 1e-5)
    return x / x.norm(dim=1, keepdim=True) if layout == "treb1en" else x


# --- EdgeFace: of each, the last layer; channels and blocks of EdgeNeXt's stages, the share of
# the full rank, and the heads of its attention.

_XS, _S = (32, 64, 100, 192), (48, 96, 160, 304)
EDGEFACES = {
    "edgeface_xxs": ("model.head.fc", ((24, 48, 88, 168), (2, 2, 6, 2), None, 4)),
    "edgeface_xs": ("model.head.fc", (_XS, (3, 3, 9, 3), None, 4)),
    "edgeface_xs_gamma_06": ("model.head.fc.linear1", (_XS, (3, 3, 9, 3), 0.6, 4)),
    "edgeface_s": ("model.head.fc", (_S, (3, 3, 9, 3), None, 8)),
    "edgeface_s_gamma_05": ("model.head.fc.linear1", (_S, (3, 3, 9, 3), 0.5, 8)),
    "edgeface_base": ("model.head.fc", ((80, 160, 288, 584), (3, 3, 9, 3), None, 8)),
}


def edgeface_shapes(channels, blocks, share, heads):
    shapes = {}

    def module(name, *shape):
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})

    def linear(name, outputs, inputs):
        if share is None:
            module(name, outputs, inputs)
        else:
            rank = int(min(inputs, outputs) * share)
            shapes[f"{name}.linear1.weight"] = (rank, inputs)
            module(f"{name}.linear2", outputs, rank)

    module("model.stem.0", channels[0], 3, 4, 4)
    module("model.stem.1", channels[0])
    for stage, (c, count) in enumerate(zip(channels, blocks, strict=True)):
        if stage:
            module(f"model.stages.{stage}.downsample.0", channels[stage - 1])
            module(f"model.stages.{stage}.downsample.1", c, channels[stage - 1], 2, 2)
        for block in range(count):
            name = f"model.stages.{stage}.blocks.{block}"
            shapes[f"{name}.gamma"] = (c,)
            module(f"{name}.norm", c)
            linear(f"{name}.mlp.fc1", 4 * c, c)
            linear(f"{name}.mlp.fc2", c, 4 * c)
            if not stage or block < count - 1:
                kernel = 3 + 2 * stage
                module(f"{name}.conv_dw", c, 1, kernel, kernel)
                continue
            # the last block of the later stages splits its channels and attends across them
            for split in range(stage):
                width = -(-c // (stage + 1))
                module(f"{name}.convs.{split}", width, 1, 3, 3)
            if stage == 1:
                module(f"{name}.pos_embd.token_projection", c, 64, 1, 1)
            shapes[f"{name}.gamma_xca"] = (c,)
            module(f"{name}.norm_xca", c)
            shapes[f"{name}.xca.temperature"] = (heads, 1, 1)
            linear(f"{name}.xca.qkv", 3 * c, c)
            linear(f"{name}.xca.proj", c, c)
    module("model.head.norm", channels[3])
    linear("model.head.fc", 512, channels[3])
    return shapes


# --- real weights, where they lie beside this checkout

needs_weights = pytest.mark.skipif(
    not (WEIGHTS.is_dir() and LFW.is_dir()),
    reason="shared/data, with real weights and LFW, is not beside this checkout",
)


def real_weights(name):
    """A file of real weights in its published names: it holds trunk.3.body.0.1.bias and so on."""
    weights = torch.load(WEIGHTS / f"{name}.pth", weights_only=True)
    if name == "edgeface_xs":
        names = {"trunk.1.": "model.", "trunk.3.": "model.head.norm.", "head.": "model.head."}
        starts = {key: next(start for start in names if key.startswith(start)) for key in weights}
        return {names[starts[k]] + k.removeprefix(starts[k]): v for k, v in weights.items()}
    layout = name.removeprefix("mobilefacenet_")
    units = ["trunk.2.0", "trunk.2.1"] if layout == "foamliu" else ["trunk.2"]
    units = ["trunk.1", *units]
    units += [f"trunk.{block}.body.{unit}" for block in range(3, 18) for unit in range(3)]
    units += ["trunk.18", "trunk.19"]
    linear, shape, _, norm = HEADS[layout]
    names = {"head.fc": linear, "head.bn": norm}
    for unit, published in zip(units, unit_names(layout), strict=True):
        names |= {f"{unit}.{part}": name for part, name in enumerate(published)}
    parts = {key: key.rpartition(".") for key in weights}
    state = {f"{names[parts[key][0]]}.{parts[key][2]}": v for key, v in weights.items()}
    return {**state, f"{linear}.weight": state[f"{linear}.weight"].view(shape)}


def known_embeddings(name):
    """Of eight photographs by their names, as computed by whoever packed the weights."""
    known = np.load(WEIGHTS / "reference_embeddings.npz")
    return read_lfw(known["images"]), torch.from_numpy(known[name])


def read_lfw(names):
    image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    arrays = [np.array(image.open(LFW / name).convert("RGB")) for name in names]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float()
