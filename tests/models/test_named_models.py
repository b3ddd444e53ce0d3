"""Every network that is loaded by name: its published file, its input, its embedding."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models import (
    AdaFaceIR,
    CRFIQAIResNet,
    FaceModel,
    ModelSpec,
    available_models,
    load_model,
    registry,
)
from captum_plq.models.registry import ARCHITECTURES
from tests.models.architectures.test_inception_resnet import CLASSIFIER, published_shapes
from tests.models.architectures.test_inception_resnet import oracle as facenet_reference
from tests.models.architectures.test_iresnet import on_meta, random_checkpoint, shapes_in
from tests.support import published

BY_NAME = {a.spec.name: a for a in ARCHITECTURES}

SHAPES = {
    **{f"iresnet{d}": partial(published.iresnet_shapes, d) for d in (18, 34, 50, 100, 200)},
    **{f"magface-iresnet{d}": partial(published.iresnet_shapes, d) for d in (18, 50, 100)},
    **{f"crfiqa-iresnet{d}": partial(published.crfiqa_shapes, d) for d in (50, 100)},
    "adaface-ir18": partial(published.adaface_shapes, 18),
    "adaface-ir50": partial(published.adaface_shapes, 50),
    "adaface-ir101": partial(published.adaface_shapes, 100),
    "facenet": published_shapes,
}

# What the published code does to an RGB image of 0 to 255, (B, 3, H, W).
INPUTS = {
    "iresnet": lambda x: (x / 255 - 0.5) / 0.5,
    "facenet": lambda x: (x - 127.5) / 128,
    "adaface": lambda x: (x[:, [2, 1, 0]] / 255 - 0.5) / 0.5,
    "magface": lambda x: x[:, [2, 1, 0]] / 255,
    "crfiqa": lambda x: (x / 255 - 0.5) / 0.5,
}


def published_input(name):
    return next(function for family, function in INPUTS.items() if name.startswith(family))


def rgb(count, size):
    """Images whose channels differ in brightness, so that no two orders look alike."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.tensor([60.0, 120.0, 200.0]).view(1, 3, 1, 1)
    return levels + 50 * torch.rand(count, 3, size, size, generator=generator)


# --- what each network is, without weights


def test_the_names_are_those_of_the_tables():
    in_files_of_their_own = {
        name for name in BY_NAME if name.startswith(("mobilefacenet-", "edgeface_"))
    }
    assert len(in_files_of_their_own) == 12
    assert set(BY_NAME) - in_files_of_their_own == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_names_and_shapes_are_the_published_ones(name):
    assert shapes_in(on_meta(BY_NAME[name].build)) == SHAPES[name]()


@pytest.mark.parametrize("name", SHAPES)
def test_order_scale_and_mean_of_the_input(name):
    spec = BY_NAME[name].spec
    x = rgb(2, spec.input_size[0])
    expected = published_input(name)(x)

    def seen_with(**changes: Any) -> Tensor:
        return FaceModel(nn.Identity(), replace(spec, output=None, **changes))(x)

    torch.testing.assert_close(seen_with(), expected, rtol=1e-5, atol=1e-5)
    other_order = {"RGB": "BGR", "BGR": "RGB"}[spec.channel_order]
    other_mean = 0.0 if spec.mean[0] else 127.5
    other_scale = 255.0 if spec.std[0] < 200 else 127.5
    for wrong in (
        {"channel_order": other_order},
        {"mean": (other_mean,) * 3},
        {"std": (other_scale,) * 3},
    ):
        assert (seen_with(**wrong) - expected).abs().max() > 0.1, wrong


@pytest.mark.parametrize("name", SHAPES)
def test_what_is_known_is_stated(name):
    spec = BY_NAME[name].spec
    assert spec.trained_with_dropout is (not name.startswith("iresnet"))
    assert spec.input_size == ((160, 160) if name == "facenet" else (112, 112))
    assert spec.alignment == "arcface"
    assert "unknown" not in {spec.licence_code, spec.licence_weights, spec.source}
    assert (spec.scaling, spec.gamma) == (None, None)  # measured on none of them
    network = on_meta(BY_NAME[name].build)
    assert isinstance(network.get_submodule(spec.embedding_layer), nn.Linear)


@pytest.mark.parametrize("name", SHAPES)
def test_dropout_of_training_is_the_published_one(name):
    network = on_meta(BY_NAME[name].build)
    rates = [
        (type(m), m.p) for m in network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)
    ]
    expected = {
        "iresnet": (nn.Dropout, 0.0),
        "facenet": (nn.Dropout, 0.6),
        "adaface": (nn.Dropout, 0.4),
        "magface": (nn.Dropout2d, 0.4),
        "crfiqa": (nn.Dropout, 0.4),
    }
    assert rates == [next(rate for family, rate in expected.items() if name.startswith(family))]


def test_dropout_of_magface_takes_whole_channels():
    network = on_meta(BY_NAME["magface-iresnet18"].build)
    seen = []
    network.dropout.register_forward_hook(lambda *args: seen.append(args[2].shape))
    network(torch.zeros(1, 3, 112, 112, device="meta"))
    assert seen == [(1, 512, 7, 7)]


# --- each kind of file


@dataclass
class Case:
    """A published file, made up: its layout in the file, and what it must compute."""

    name: str
    state: dict[str, Tensor]
    file: Any
    reference: Any
    unused: tuple[str, ...] = ()


def single(state):
    """As files hold it: float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def iresnet18():
    state = single(random_checkpoint(published.iresnet_shapes(18)))
    return Case("iresnet18", state, state, partial(published.iresnet_reference, depth=18))


def facenet():
    state = single(random_checkpoint(published_shapes()))
    logits = {key: torch.zeros(shape) for key, shape in CLASSIFIER.items()}
    unused = ("logits.bias", "logits.weight")
    return Case("facenet", state, {**state, **logits}, facenet_reference, unused)


def adaface18():
    """As Lightning saves it: the network under `model.`, the loss's head beside it."""
    state = single(random_checkpoint(published.adaface_shapes(18)))
    head = {"kernel": (512, 100), "t": (1,), "batch_mean": (1,), "batch_std": (1,)}
    inside = {f"model.{key}": value for key, value in state.items()}
    inside |= {f"head.{key}": torch.zeros(shape) for key, shape in head.items()}
    file = {"epoch": 25, "state_dict": inside, "hyper_parameters": {"arch": "ir_18", "lr": 0.1}}
    unused = ("head.batch_mean", "head.batch_std", "head.kernel", "head.t")
    return Case("adaface-ir18", state, file, partial(published.adaface_reference, depth=18), unused)


def magface18():
    """As its distributed training saves it: `features.module.`, and the class centres."""
    state = single(random_checkpoint(published.iresnet_shapes(18)))
    inside = {f"features.module.{key}": value for key, value in state.items()}
    inside["parallel_fc.weight"] = torch.zeros(512, 100)
    file = {"epoch": 25, "arch": "iresnet18", "state_dict": inside, "optimizer": {"state": {}}}
    reference = partial(published.iresnet_reference, depth=18, eps=2e-5)
    return Case("magface-iresnet18", state, file, reference, ("parallel_fc.weight",))


def crfiqa50():
    state = single(random_checkpoint(published.crfiqa_shapes(50)))
    return Case("crfiqa-iresnet50", state, state, partial(published.iresnet_reference, depth=50))


@pytest.fixture(scope="module", params=[iresnet18, facenet, adaface18, magface18, crfiqa50])
def case(request):
    return request.param()


@pytest.fixture(scope="module")
def path(case, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(case.file, file)
    yield file
    file.unlink()


@pytest.fixture(scope="module")
def model(case, path):
    before = torch.get_rng_state()
    model = load_model(case.name, weights=path)
    assert torch.equal(torch.get_rng_state(), before)
    return model


def test_every_weight_of_the_file_is_in_the_network_and_no_other(case, model):
    loaded = model.backbone.state_dict()
    assert set(loaded) == set(case.state)
    for key, value in case.state.items():
        assert torch.equal(loaded[key], value), key
    assert model.unused_weights == case.unused
    assert not any(module.training for module in model.modules())
    assert model.spec is BY_NAME[case.name].spec


def test_the_embedding_is_what_the_published_network_gives(case, model):
    size = model.spec.input_size[0]
    x = rgb(1, size).double()
    state = {k: v.double() if v.is_floating_point() else v for k, v in case.state.items()}
    expected = case.reference(state, published_input(case.name)(x))
    with torch.no_grad():
        model.double()
        embedding = model(x)
        model.float()
    assert isinstance(embedding, Tensor)
    assert embedding.shape == (1, 512)
    assert embedding.std() > 0.01  # and not a constant
    torch.testing.assert_close(embedding, expected, rtol=1e-5, atol=1e-7)


def test_serfiq_finds_the_embedding_layer_and_plq_runs(case, model):
    x = rgb(1, model.spec.input_size[0])
    serfiq = SERFIQ(model, passes=4)
    assert serfiq.tap.locate(model, (x,)) == f"backbone.{model.spec.embedding_layer}"
    attributions, quality = PixelQualityAttribution(serfiq).attribute(x, return_quality=True)
    assert attributions.shape == x.shape
    assert attributions.isfinite().all()
    assert attributions.abs().max() > 0
    assert 0 < float(quality) < 1


def test_a_spec_of_ones_own(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(random_checkpoint(published.adaface_shapes(18)), file)
    own = ModelSpec("mine", (112, 112), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    spec = load_model("adaface-ir18", file, own).spec
    assert spec == replace(own, embedding_layer="output_layer.3", output=0)
    chosen = replace(own, embedding_layer="output_layer.0", output=1)
    assert load_model("adaface-ir18", file, chosen).spec == chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("iresnet34", partial(published.iresnet_reference, depth=34)),
        ("iresnet50", partial(published.iresnet_reference, depth=50)),
        ("iresnet100", partial(published.iresnet_reference, depth=100)),
        ("iresnet200", partial(published.iresnet_reference, depth=200)),
        ("adaface-ir50", partial(published.adaface_reference, depth=50)),
        ("adaface-ir101", partial(published.adaface_reference, depth=100)),
        ("magface-iresnet50", partial(published.iresnet_reference, depth=50, eps=2e-5)),
        ("magface-iresnet100", partial(published.iresnet_reference, depth=100, eps=2e-5)),
        ("crfiqa-iresnet100", partial(published.iresnet_reference, depth=100)),
    ],
)
def test_the_deeper_networks_give_what_they_should(name, reference, tmp_path):
    state = single(random_checkpoint(SHAPES[name]()))
    # The residuals are made small, so that signals do not grow from block to block.
    for key, value in state.items():
        if key.endswith((".bn3.weight", "res_layer.5.weight")):
            value *= 0.3
    torch.save(state, tmp_path / "weights.pth")
    model = load_model(name, tmp_path / "weights.pth").double()
    x = rgb(1, 112).double()
    state = {k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    with torch.no_grad():
        expected = reference(state, published_input(name)(x))
        torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-7)


# --- quality beside the embedding


@pytest.mark.parametrize("wrong", [(1, 1, 1), (1, 1, 0, 1), ()])
def test_wrong_layers(wrong):
    with pytest.raises(ValueError, match="layers must be four positive numbers"):
        AdaFaceIR(wrong)


def test_adaface_returns_the_norm_and_crfiqa_the_quality_beside_it():
    with torch.device("meta"):
        images = torch.zeros(2, 3, 112, 112)
        for name in ("adaface-ir18", "crfiqa-iresnet50"):
            embedding, beside = BY_NAME[name].build().eval()(images)
            assert embedding.shape == (2, 512), name
            assert beside.shape == (2, 1), name


def test_the_quality_of_crfiqa_is_read_from_the_embedding():
    network = CRFIQAIResNet((1, 1, 1, 1)).eval()
    with torch.no_grad():
        embedding, quality = network(rgb(1, 112) / 255)
        expected = embedding @ network.qs.weight.T + network.qs.bias
    torch.testing.assert_close(quality, expected)


def test_the_norm_of_adaface_is_that_of_its_last_layer():
    network = AdaFaceIR((1, 1, 1, 1)).eval()
    seen = []
    network.output_layer.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        embedding, norm = network(rgb(1, 112) / 255)
    torch.testing.assert_close(embedding * norm, seen[0])
    torch.testing.assert_close(norm[:, 0], seen[0].square().sum(1).sqrt())


# --- without weights, and with others


@pytest.mark.parametrize("name", SHAPES)
def test_without_weights_the_error_says_which_where_and_under_which_licence(name):
    with pytest.raises(ValueError, match=f"{name} needs a weight file") as raised:
        load_model(name)
    info = next(info for info in available_models() if info.spec.name == name)
    assert (info.weights, info.weights_present, info.needs_file) == (None, False, True)
    for told in (info.install, info.spec.source, info.spec.licence_weights, "--checkpoint"):
        assert told in str(raised.value)


def test_a_missing_weight_file():
    with pytest.raises(FileNotFoundError, match=r"There is no file nowhere\.pth"):
        load_model("iresnet18", "nowhere.pth")


@pytest.mark.parametrize("name", ["my_network.py", "weights.pth", "no-such-network"])
def test_weights_go_with_a_name_only(name):
    with pytest.raises(ValueError, match="weights= goes with the name of a network") as raised:
        load_model(name, weights="weights.pth")
    assert "'iresnet50'" in str(raised.value)


def test_dlib_takes_its_own_file_as_weights_and_another_spec():
    from captum_plq.models.weight_files.dlib import find_dlib_weights

    file = find_dlib_weights()
    model = load_model("dlib", weights=file, spec=ModelSpec("mine", (150, 150), (0,) * 3, (1,) * 3))
    assert model.spec.name == "mine"
    assert model.spec.embedding_layer == "fc"
    with pytest.raises(ValueError, match="is not dlib's"):
        load_model("dlib", weights=Path(__file__))


@pytest.mark.parametrize(
    ("name", "shapes", "fits"),
    [
        ("iresnet50", published.iresnet_shapes(100), "'iresnet100' and 'magface-iresnet100'"),
        ("iresnet34", published.iresnet_shapes(50), "'iresnet50' and 'magface-iresnet50'"),
        ("iresnet50", published.iresnet_shapes(34), "'iresnet34'"),
        ("iresnet18", published.iresnet_shapes(200), "'iresnet200'"),
        ("iresnet50", published.crfiqa_shapes(50), "'crfiqa-iresnet50'"),
        ("crfiqa-iresnet50", published.iresnet_shapes(50), "'iresnet50'"),
        ("adaface-ir18", published.adaface_shapes(100), "'adaface-ir101'"),
        ("adaface-ir18", published_shapes(), "'facenet'"),
        (
            "iresnet18",
            {f"features.module.{k}": v for k, v in published.iresnet_shapes(18).items()},
            "'magface-iresnet18'",
        ),
    ],
)
def test_weights_of_another_network_are_named(name, shapes, fits, monkeypatch):
    file = "weights.pth"
    monkeypatch.setattr(registry, "read_weights", lambda _: published.weightless(shapes))
    with pytest.raises(ValueError, match=f"does not fit {name!r}") as raised:
        load_model(name, file)
    message = str(raised.value)
    assert message.startswith(file)
    assert f"It fits {fits}" in message
    assert "missing (" in message or "not expected (" in message


def test_weights_given_as_the_model_say_which_names_they_fit(tmp_path, monkeypatch):
    file = tmp_path / "backbone.pth"
    file.touch()
    weights = published.weightless(published.iresnet_shapes(50))
    monkeypatch.setattr(registry, "read_weights", lambda _: weights)
    with pytest.raises(ValueError, match="do not tell the architecture") as raised:
        load_model(file)
    assert f"load_model('iresnet50', weights={str(file)!r})" in str(raised.value)
