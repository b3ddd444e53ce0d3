"""EdgeFace against the published layout of its weights, and real weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import FaceModel
from captum_plq.models.architectures.edgeface import EDGEFACE_SPECS, EdgeFace, edgeface
from tests.models.architectures.test_iresnet import (
    flops,
    on_meta,
    random_checkpoint,
    random_images,
    shapes_in,
)
from tests.models.architectures.test_mobilefacenet import WEIGHTS, needs_weights, read_lfw

# Channels and blocks of EdgeNeXt's four stages, and the paper's share of the full rank.
VARIANTS = {
    "edgeface_xxs": ((24, 48, 88, 168), (2, 2, 6, 2), None),
    "edgeface_xs": ((32, 64, 100, 192), (3, 3, 9, 3), None),
    "edgeface_xs_gamma_06": ((32, 64, 100, 192), (3, 3, 9, 3), 0.6),
    "edgeface_s": ((48, 96, 160, 304), (3, 3, 9, 3), None),
    "edgeface_s_gamma_05": ((48, 96, 160, 304), (3, 3, 9, 3), 0.5),
    "edgeface_base": ((80, 160, 288, 584), (3, 3, 9, 3), None),
}


def published_shapes(channels, blocks, share, heads):
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_and_shapes(variant):
    heads = 8 if variant in ("edgeface_s", "edgeface_s_gamma_05", "edgeface_base") else 4
    shapes = published_shapes(*VARIANTS[variant], heads)
    assert shapes_in(on_meta(edgeface, variant)) == shapes


# The table in the README of otroshi/edgeface: millions of parameters and of FLOPs.
@pytest.mark.parametrize(
    ("variant", "parameters", "operations"),
    [
        ("edgeface_base", 18.23, 1398.83),
        ("edgeface_s_gamma_05", 3.65, 306.12),
        ("edgeface_xs_gamma_06", 1.77, 154.00),
        ("edgeface_xxs", 1.24, 94.72),
    ],
)
def test_published_sizes(variant, parameters, operations):
    network = on_meta(edgeface, variant)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(parameters, abs=0.006)
    assert flops(network, 112) / 1e6 == pytest.approx(operations, rel=0.005)


@pytest.fixture(scope="module", params=["edgeface_xxs", "edgeface_xs_gamma_06"])
def model(request):
    """With random biases and scales too: timm's own start is blind to the pixels' scale."""
    network = edgeface(request.param)
    network.load_state_dict(random_checkpoint(shapes_in(network)), strict=True)
    return FaceModel(network, EDGEFACE_SPECS[request.param]).eval()


def test_low_rank_layers_are_products():
    """A network in low rank equals the one of full rank whose matrices are the products."""
    low = edgeface("edgeface_xs_gamma_06").double().eval()
    low.load_state_dict(random_checkpoint(shapes_in(low)), strict=True)
    state = {}
    for key, value in low.state_dict().items():
        name = key.replace(".linear2", "")
        state[name] = value
        if key.endswith("linear2.weight"):
            state[name] = value @ state.pop(key.replace("linear2", "linear1"))
    full = on_meta(edgeface, "edgeface_xs")
    full.load_state_dict(state, strict=True, assign=True)
    images = random_images(2, 112)
    with torch.no_grad():
        torch.testing.assert_close(low(images), full(images), rtol=1e-9, atol=1e-9)
        assert low(images).std() > 0.01


def test_preprocessing(model):
    images = 127.5 + 127.5 * random_images(2, 112, torch.float32)
    with torch.no_grad():
        expected = model.backbone(images / 127.5 - 1)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
        for change in (
            {"channel_order": "BGR"},
            {"std": (255.0,) * 3},
            {"mean": (0.0,) * 3, "std": (255.0,) * 3},
        ):
            other = FaceModel(model.backbone, replace(model.spec, **change))(images)
            assert (other - expected).abs().max() > 0.01 * expected.abs().max()


def test_serfiq_finds_the_embedding_layer_and_plq_runs(model):
    images = 127.5 + 127.5 * random_images(2, 112, torch.float32)
    serfiq = SERFIQ(model, passes=4)
    attributions, quality = PixelQualityAttribution(serfiq).attribute(images, return_quality=True)
    assert serfiq.tap.layer_name == f"backbone.{model.spec.embedding_layer}"
    last = "model.head.fc.linear1" if "gamma" in model.spec.name else "model.head.fc"
    assert model.spec.embedding_layer == last
    assert ((quality > 0) & (quality < 1)).all()
    assert attributions.isfinite().all()
    assert (attributions != 0).float().mean() > 0.8


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"variant must be 'edgeface_xxs', .* but got 'xs'"):
        edgeface("xs")
    with pytest.raises(ValueError, match=r"rank_ratio must be in \(0, 1\], but got 0"):
        EdgeFace("edgenext_xx_small", 0)


def renamed():
    """The bench's file of real weights (trunk.1.stem.0.weight, head.fc.bias), in Idiap's names."""
    weights = torch.load(WEIGHTS / "edgeface_xs.pth", weights_only=True)
    names = {"trunk.1.": "model.", "trunk.3.": "model.head.norm.", "head.fc.": "model.head.fc."}
    state = {}
    for key, value in weights.items():
        (old,) = [start for start in names if key.startswith(start)]
        state[names[old] + key.removeprefix(old)] = value
    return state


@needs_weights
def test_real_weights_give_the_known_embeddings():
    network = edgeface("edgeface_xs")
    network.load_state_dict(renamed(), strict=True)
    spec = EDGEFACE_SPECS["edgeface_xs"]
    known = np.load(WEIGHTS / "reference_embeddings.npz")
    expected = torch.from_numpy(known["edgeface_xs"])
    images = read_lfw(known["images"])

    def error(spec):
        with torch.no_grad():
            embeddings = FaceModel(network.eval(), spec)(images)
        return float((embeddings - expected).abs().max() / expected.abs().max())

    assert error(spec) < 1e-5
    assert error(replace(spec, channel_order="BGR")) > 0.05
    assert error(replace(spec, std=(128.0,) * 3)) > 1e-4
    assert error(replace(spec, mean=(0.0,) * 3, std=(255.0,) * 3)) > 0.05
