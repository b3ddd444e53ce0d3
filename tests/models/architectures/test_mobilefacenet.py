"""MobileFaceNet against the published layouts of its weights, an oracle, and real weights."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import FaceModel
from captum_plq.models.architectures.mobilefacenet import MOBILEFACENET_SPECS, mobilefacenet
from tests.conftest import SHARED_DATA
from tests.models.architectures.test_iresnet import (
    batchnorm,
    flops,
    on_meta,
    random_checkpoint,
    random_images,
    shapes_in,
)

LAYOUTS = ["y1", "foamliu", "xiaoccer", "treb1en", "arcface_torch"]
WEIGHTS = SHARED_DATA / "weights"
LFW = SHARED_DATA / "faces" / "lfw"

# Channels in, hidden, out and stride: Table 1 of the paper, its bottlenecks one by one.
BOTTLENECKS = [
    (64, 128, 64, 2),
    *[(64, 128, 64, 1)] * 4,
    (64, 256, 128, 2),
    *[(128, 256, 128, 1)] * 6,
    (128, 512, 128, 2),
    *[(128, 256, 128, 1)] * 2,
]


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


# Name and shape of the linear layer, whether it has a bias, and the name of the last BatchNorm.
HEADS = {
    "y1": ("pre_fc1", (128, 512), True, "fc1"),
    "foamliu": ("conv3", (128, 512, 1, 1), True, "bn"),
    "xiaoccer": ("linear1.conv", (128, 512, 1, 1), False, "linear1.bn"),
    "treb1en": ("linear", (512, 512), False, "bn"),
    "arcface_torch": ("features.layers.2", (512, 512), False, "features.layers.3"),
}
KEYS = {"y1": 334, "foamliu": 307, "xiaoccer": 333, "treb1en": 333, "arcface_torch": 333}


def published_shapes(layout):
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


def oracle(layout, state, x):
    """The network written out from the paper's Table 1, on the published names."""

    def normed(name, x, eps):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        z = (x - mean.view(shape)) / (var.view(shape) + eps).sqrt()
        return z * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)

    def bent(name, x):
        if name == "none":
            return x
        if name in ("relu", "relu6"):
            return x.clamp(0, 6 if name == "relu6" else None)
        return torch.where(x > 0, x, x * state[f"{name}.weight"].view(1, -1, 1, 1))

    remembered = None
    for step in steps(layout):
        if step.remember:
            remembered = x
        weight = state[f"{step.conv}.weight"]
        x = F.conv2d(x, weight, None, step.stride, step.padding, groups=step.groups)
        x = bent(step.bend, normed(step.norm, x, 0.001 if layout == "y1" else 1e-5))
        if step.add:
            x = x + remembered
    assert x.shape[1:] == (512, 1, 1)
    linear, shape, bias, norm = HEADS[layout]
    x = x.flatten(1) @ state[f"{linear}.weight"].view(shape[:2]).T
    x = x + state[f"{linear}.bias"] if bias else x
    x = normed(norm, x, 2e-5 if layout == "y1" else 1e-5)
    return x / x.norm(dim=1, keepdim=True) if layout == "treb1en" else x


# From 0–255 RGB to what the network takes, as its authors do it.
PREPARED = {
    "y1": lambda x: (x - 127.5) * 0.0078125,
    "foamliu": lambda x: (
        (x / 255 - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1))
        / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    ),
    "xiaoccer": lambda x: ((x - 127.5) / 128)[:, :, :, 8:104],
    "treb1en": lambda x: (x[:, [2, 1, 0]] / 255 - 0.5) / 0.5,
    "arcface_torch": lambda x: (x / 255 - 0.5) / 0.5,
}


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture(scope="module")
def state(layout):
    return random_checkpoint(published_shapes(layout))


@pytest.fixture(scope="module")
def model(layout, state):
    """The network with that checkpoint, in float32."""
    network = on_meta(mobilefacenet, layout)
    network.load_state_dict(state, strict=True, assign=True)
    return FaceModel(network.float(), MOBILEFACENET_SPECS[layout]).eval()


def pixels(count, dtype=torch.float32):
    return 127.5 + 127.5 * random_images(count, 112, dtype)


def test_a_published_checkpoint_loads_and_gives_what_it_should(layout, state):
    assert len(state) == KEYS[layout]
    network = on_meta(mobilefacenet, layout)
    network.load_state_dict(state, strict=True, assign=True)
    images = random_images(2, 112)[..., 8:104] if layout == "xiaoccer" else random_images(2, 112)
    with torch.no_grad():
        embeddings = network(images)
        torch.testing.assert_close(embeddings, oracle(layout, state, images), rtol=1e-9, atol=1e-9)
    assert embeddings.std(dim=0).max() > 1e-3  # and not a constant
    assert (abs(float(embeddings[0].norm()) - 1) < 1e-9) is (layout == "treb1en")


def test_names_and_shapes(layout):
    assert shapes_in(on_meta(mobilefacenet, layout)) == published_shapes(layout)


def test_preprocessing_is_that_of_the_authors(layout, state, model):
    images = pixels(1, torch.float64)
    expected = oracle(layout, state, PREPARED[layout](images).double()).float()
    scale = expected.abs().max()

    def error(spec):
        with torch.no_grad():
            return (FaceModel(model.backbone, spec)(images.float()) - expected).abs().max() / scale

    spec = MOBILEFACENET_SPECS[layout]
    assert error(spec) < 1e-5
    other = "RGB" if spec.channel_order == "BGR" else "BGR"
    assert error(replace(spec, channel_order=other)) > 1e-2
    other_std = 128.0 if spec.std[0] == 127.5 else 127.5
    assert error(replace(spec, std=(other_std,) * 3)) > 2e-4
    assert error(replace(spec, mean=(0.0,) * 3)) > 1e-2


def test_serfiq_finds_the_embedding_layer_and_plq_runs(layout, model):
    images = pixels(2)
    serfiq = SERFIQ(model, passes=4)
    attributions, quality = PixelQualityAttribution(serfiq).attribute(images, return_quality=True)
    assert serfiq.tap.layer_name == f"backbone.{HEADS[layout][0]}"
    assert MOBILEFACENET_SPECS[layout].embedding_layer == HEADS[layout][0]
    assert ((quality > 0) & (quality < 1)).all()
    assert attributions.isfinite().all()
    read = (attributions != 0).any(dim=(0, 1, 2))
    unread = 8 if layout == "xiaoccer" else 0
    assert read[unread : 112 - unread].all()
    assert not read[:unread].any()
    assert not read[112 - unread :].any()


def test_maps_have_the_published_sizes():
    network = on_meta(mobilefacenet, "y1")
    sizes = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *args: sizes.append(args[2].shape[2]))
    network(torch.zeros(1, 3, 112, 112, device="meta"))
    assert sorted(set(sizes), reverse=True) == [56, 28, 14, 7, 1]


# OpenVINO's Open Model Zoo, face-recognition-mobilefacenet-arcface: 0.993 million parameters
# with the batch normalisations folded, 0.449 GFLOPs with elementwise operations.
def test_size_of_y1():
    network = on_meta(mobilefacenet, "y1")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    folded = parameters - sum(norm.num_features for norm in norms) - 128  # pre_fc1 had a bias
    assert folded == pytest.approx(0.993e6, abs=500)
    assert flops(network, 112) == pytest.approx(0.449e9, rel=0.02)


# insightface's table of its networks calls it "mobilefacenet-0.45G": multiply-adds.
def test_size_of_arcface_torch():
    assert flops(on_meta(mobilefacenet, "arcface_torch"), 112) / 2 == pytest.approx(
        0.45e9, rel=0.03
    )


def test_large_is_four_times_as_wide_and_twice_as_deep():
    shapes = shapes_in(on_meta(mobilefacenet, "arcface_torch_large"))
    assert shapes["layers.0.layers.0.weight"] == (256, 3, 3, 3)
    assert shapes["layers.1.layers.1.layers.0.layers.0.weight"] == (128, 256, 1, 1)
    for stage, last in {"1": 1, "3": 7, "5": 11, "7": 3}.items():
        assert f"layers.{stage}.layers.{last}.layers.2.layers.1.bias" in shapes
        assert f"layers.{stage}.layers.{last + 1}.layers.0.layers.0.weight" not in shapes
    assert shapes["layers.6.layers.1.layers.0.weight"] == (512, 1, 3, 3)
    assert shapes["conv_sep.layers.0.weight"] == (512, 512, 1, 1)
    assert shapes["features.layers.2.weight"] == (512, 512)


@pytest.mark.parametrize("name", ["y1", "foamliu", "treb1en", "arcface_torch_large"])
def test_width_can_be_chosen(name):
    network = on_meta(mobilefacenet, name, 256)
    assert network(torch.zeros(3, 3, 112, 112, device="meta")).shape == (3, 256)


def test_unknown_layout():
    with pytest.raises(ValueError, match=r"layout must be 'y1', .* but got 'y2'"):
        mobilefacenet("y2")


# --- real weights ----------------------------------------------------------------------------

needs_weights = pytest.mark.skipif(
    not (WEIGHTS.is_dir() and LFW.is_dir()),
    reason="shared/data, with real weights and LFW, is not beside this checkout",
)


def renamed(layout):
    """The bench's file of real weights (trunk.3.body.0.1.bias, head.fc), in its own layout."""
    file = WEIGHTS / f"mobilefacenet_{layout}.pth"
    weights = torch.load(file, weights_only=True)
    units = ["trunk.2.0", "trunk.2.1"] if layout == "foamliu" else ["trunk.2"]
    units = ["trunk.1", *units]
    units += [f"trunk.{block}.body.{unit}" for block in range(3, 18) for unit in range(3)]
    units += ["trunk.18", "trunk.19"]
    linear, shape, _, norm = HEADS[layout]
    names = {"head.fc": linear, "head.bn": norm}
    for unit, published in zip(units, unit_names(layout), strict=True):
        names |= {f"{unit}.{part}": name for part, name in enumerate(published)}
    state = {}
    for key, value in weights.items():
        module, _, field = key.rpartition(".")
        state[f"{names[module]}.{field}"] = value
    state[f"{linear}.weight"] = state[f"{linear}.weight"].view(shape)
    return state


def read_lfw(names):
    image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    arrays = [np.array(image.open(LFW / name).convert("RGB")) for name in names]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module", params=["y1", "foamliu"])
def real(request):
    network = mobilefacenet(request.param)
    network.load_state_dict(renamed(request.param), strict=True)
    return request.param, FaceModel(network, MOBILEFACENET_SPECS[request.param]).eval()


@needs_weights
def test_real_weights_give_the_known_embeddings(real):
    layout, model = real
    known = np.load(WEIGHTS / "reference_embeddings.npz")
    expected = torch.from_numpy(known[f"mobilefacenet_{layout}"])
    images = read_lfw(known["images"])

    def error(model):
        with torch.no_grad():
            return float((model(images) - expected).abs().max() / expected.abs().max())

    assert error(model) < 1e-5
    spec = model.spec
    assert error(FaceModel(model.backbone, replace(spec, channel_order="BGR"))) > 0.05
    assert error(FaceModel(model.backbone, replace(spec, std=(127.5,) * 3))) > 1e-3
    assert error(FaceModel(model.backbone, replace(spec, mean=(127.5,) * 3, std=(1.0,) * 3))) > 0.5


@needs_weights
def test_real_weights_tell_people_apart(real):
    _, model = real
    rows = np.genfromtxt(
        SHARED_DATA / "faces" / "lfw_pairs_folds1-5.csv", dtype=str, delimiter=",", skip_header=1
    )
    chosen = np.concatenate([rows[rows[:, 3] == mated][:8] for mated in np.unique(rows[:, 3])])
    with torch.no_grad():
        first, second = (model(read_lfw(chosen[:, column])) for column in (1, 2))
    similar = F.cosine_similarity(first, second)
    assert similar[8:].min() > similar[:8].max()  # "0" before "1"
