"""Every network that takes a published file: its names, its input, what it computes, its size."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from captum_plq.models import (
    INCEPTION_RESNET_V1_SPEC,
    MOBILEFACENET_SPECS,
    AdaFaceIR,
    CRFIQAIResNet,
    EdgeFace,
    FaceModel,
    InceptionResnetV1,
    IResNet,
    available_models,
    edgeface,
    iresnet,
    load_model,
    mobilefacenet,
)
from captum_plq.models.registry import ARCHITECTURES
from tests.support import published
from tests.support.checkpoints import flops, on_meta, random_checkpoint, rgb, shapes_in, size_of
from tests.support.published import NETWORKS

BY_NAME = {a.spec.name: a for a in ARCHITECTURES if a.installed is None}
EVERY = pytest.mark.parametrize("name", NETWORKS)


def test_the_names_are_those_of_the_tables():
    assert set(BY_NAME) - set(NETWORKS) == {"mobilefacenet-arcface-torch-large"}


@EVERY
def test_names_and_shapes_are_the_published_ones(name):
    assert shapes_in(on_meta(BY_NAME[name].build)) == NETWORKS[name].shapes()


@EVERY
def test_the_input_is_prepared_as_its_authors_do(name):
    spec = BY_NAME[name].spec
    x = rgb(2, *spec.input_size)

    def seen_with(**changes):
        return FaceModel(nn.Identity(), replace(spec, output=None, **changes))(x)

    expected = NETWORKS[name].prepare(x)
    torch.testing.assert_close(seen_with(), expected, rtol=1e-5, atol=1e-5)
    for wrong in (
        {"channel_order": {"RGB": "BGR", "BGR": "RGB"}[spec.channel_order]},
        {"mean": (0.0 if spec.mean[0] else 127.5,) * 3},
        {"std": (127.5 if spec.std[0] > 200 else 255.0,) * 3},
    ):
        assert (seen_with(**wrong) - expected).abs().max() > 0.1, wrong


@EVERY
def test_what_is_known_is_stated(name):
    spec, network = BY_NAME[name].spec, on_meta(BY_NAME[name].build)
    assert spec.embedding_layer == NETWORKS[name].layer
    assert isinstance(network.get_submodule(spec.embedding_layer), (nn.Linear, nn.Conv2d))
    assert (spec.input_size, spec.alignment) == (NETWORKS[name].input_size, "arcface")
    assert "unknown" not in {spec.licence_code, spec.licence_weights, spec.source}
    assert (spec.scaling, spec.gamma) == (None, None)  # measured on none of them
    dropout = NETWORKS[name].dropout
    dropouts = [m for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    assert not dropout or [(type(m), m.p) for m in dropouts] == [dropout]
    assert spec.trained_with_dropout is bool(dropout and dropout[1])


@EVERY
def test_without_weights_the_error_says_which_where_and_under_which_licence(name):
    with pytest.raises(ValueError, match=f"{name} needs a weight file") as raised:
        load_model(name)
    info = next(info for info in available_models() if info.spec.name == name)
    assert (info.weights, info.weights_present, info.needs_file) == (None, False, True)
    for told in (info.install, info.spec.source, info.spec.licence_weights, "--checkpoint"):
        assert told in str(raised.value)


# IResNet: 50 as AdaDistill (ECCV 2024) states it; OpenVINO's Open Model Zoo has 34.13 and 65.13
# million for 34 and 100, 23.469 million for FaceNet and 0.993 million for y1, all with the batch
# normalisations folded. EdgeFace: the table in the README of otroshi/edgeface. Operations: the
# same sources; for arcface_torch insightface's table, "mobilefacenet-0.45G" multiply-adds.
@pytest.mark.parametrize(
    ("name", "parameters", "gigaflops", "tolerance"),
    [
        ("iresnet18", 24_025_600, None, None),
        ("iresnet34", 34_139_328, 8.934, 0.005),
        ("iresnet50", 43_590_848, 12.6, 0.005),
        ("iresnet100", 65_156_160, 24.2115, 0.005),
        ("iresnet200", 118_833_920, None, None),
        ("facenet", 23_482_624, 2.846, 0.005),
        ("mobilefacenet-y1", None, 0.449, 0.02),
        ("mobilefacenet-arcface-torch", None, 0.9, 0.03),
        ("edgeface_base", 18.23e6, 1.39883, 0.005),
        ("edgeface_s_gamma_05", 3.65e6, 0.30612, 0.005),
        ("edgeface_xs_gamma_06", 1.77e6, 0.154, 0.005),
        ("edgeface_xxs", 1.24e6, 0.09472, 0.005),
    ],
)
def test_number_of_parameters_and_operations(name, parameters, gigaflops, tolerance):
    network = on_meta(BY_NAME[name].build)
    if parameters:
        rounded = 6000 if name.startswith("edgeface") else 0
        assert size_of(network) == pytest.approx(parameters, abs=rounded)
    if gigaflops:
        operations = flops(network, BY_NAME[name].spec.input_size)
        assert operations == pytest.approx(1e9 * gigaflops, rel=tolerance)


def test_number_of_parameters_of_y1_with_the_batch_normalisations_folded():
    network = on_meta(mobilefacenet, "y1")
    norms = [m for m in network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    folded = size_of(network) - sum(norm.num_features for norm in norms)
    assert folded - 128 == pytest.approx(0.993e6, abs=500)  # pre_fc1 had a bias


def test_large_is_four_times_as_wide_and_twice_as_deep():
    shapes = shapes_in(on_meta(mobilefacenet, "arcface_torch_large"))
    assert shapes["layers.0.layers.0.weight"] == (256, 3, 3, 3)
    assert shapes["layers.1.layers.1.layers.0.layers.0.weight"] == (128, 256, 1, 1)
    for stage, last in {"1": 1, "3": 7, "5": 11, "7": 3}.items():
        assert f"layers.{stage}.layers.{last}.layers.2.layers.1.bias" in shapes
        assert f"layers.{stage}.layers.{last + 1}.layers.0.layers.0.weight" not in shapes
    assert shapes["features.layers.2.weight"] == (512, 512)


def test_low_rank_layers_of_edgeface_are_products():
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
    images = rgb(2, 112, 112).double() / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(low(images), full(images), rtol=1e-9, atol=1e-9)
        assert low(images).std() > 0.01


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_facenet_drops_the_classifier_of_a_state_dict(prefix):
    network = on_meta(InceptionResnetV1)
    module = FaceModel(network, INCEPTION_RESNET_V1_SPEC) if prefix else network
    shapes = {**published.facenet_shapes(), **published.CLASSIFIER}
    state = {prefix + key: torch.zeros(shape, device="meta") for key, shape in shapes.items()}
    module.load_state_dict(state, strict=True, assign=True)
    assert not any("logits" in key for key in module.state_dict())
    assert prefix + "logits.weight" in state  # the caller's dictionary is left alone
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**state, prefix + "logits_2.weight": torch.zeros(1)})


def test_adaface_returns_the_norm_and_crfiqa_the_quality_beside_the_embedding():
    adaface, crfiqa, seen = AdaFaceIR((1, 1, 1, 1)), CRFIQAIResNet((1, 1, 1, 1)), []
    adaface.output_layer.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        embedding, norm = adaface.eval()(rgb(1, 112, 112) / 255)
        torch.testing.assert_close(embedding * norm, seen[0])
        torch.testing.assert_close(norm[:, 0], seen[0].square().sum(1).sqrt())
        embedding, quality = crfiqa.eval()(rgb(1, 112, 112) / 255)
        torch.testing.assert_close(quality, embedding @ crfiqa.qs.weight.T + crfiqa.qs.bias)


def test_dropout_of_magface_takes_whole_channels():
    network, seen = on_meta(BY_NAME["magface-iresnet18"].build), []
    network.dropout.register_forward_hook(lambda *args: seen.append(args[2].shape))
    network(torch.zeros(1, 3, 112, 112, device="meta"))
    assert seen == [(1, 512, 7, 7)]


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: IResNet((1, 1, 1, 2), embedding_size=256, dropout=0.2), 112),
        (lambda: InceptionResnetV1(embedding_size=256, dropout=0.2), 160),
        *((lambda name=name: mobilefacenet(name, 256), 112) for name in MOBILEFACENET_SPECS),
    ],
)
def test_width_and_dropout_can_be_chosen(make, size):
    network = on_meta(make)
    assert network(torch.zeros(3, 3, size, size, device="meta")).shape == (3, 256)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] in ([], [0.2])


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: iresnet(101), r"depth must be one of \[18, 34, 50, 100, 200\], .* 101"),
        (lambda: IResNet((2, 2, 2)), "layers must be four positive numbers"),
        (lambda: AdaFaceIR((2, 0, 2, 2)), "layers must be four positive numbers"),
        (lambda: mobilefacenet("y2"), r"layout must be 'y1', .* but got 'y2'"),
        (lambda: edgeface("xs"), r"variant must be 'edgeface_xxs', .* but got 'xs'"),
        (lambda: EdgeFace("edgenext_xx_small", 0), r"rank_ratio must be in \(0, 1\], but got 0"),
    ],
)
def test_wrong_arguments(make, problem):
    with pytest.raises(ValueError, match=problem):
        make()
