"""timm's networks: by name without a network, from a folder, and from the hub's cache."""

import json
import pickle
import socket

import pytest
import timm
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.models.timm_models import HUB_FACE_MODELS, timm_model
from tests.support.checkpoints import on_meta, pixels, size_of
from tests.support.hub_folders import CONFIGS, NORMALISED, VIT, fill, fill_cache


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever tries to reach the network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def assert_is(model, network):
    images = pixels(2)
    mean, std = (torch.tensor(NORMALISED[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = network((images / 255 - mean) / std)
        torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-5)
    assert expected.shape == (2, 512)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", CONFIGS)
def test_a_folder_in_the_layout_of_the_hub(tmp_path, name):
    network = fill(tmp_path / name, name)
    before = torch.get_rng_state()
    models = [
        timm_model(f"local-dir:{tmp_path / name}"),
        timm_model(f"hf_hub:someone/{name}", weights=tmp_path / name),
        timm_model(f"hf-hub:someone/{name}", weights=tmp_path / name / "model.safetensors"),
    ]
    assert torch.equal(torch.get_rng_state(), before)
    for model in models:
        assert_is(model, network)
        assert not any(module.training for module in model.modules())
    spec = models[1].spec
    assert (spec.name, spec.input_size) == (f"hf_hub:someone/{name}", (112, 112))
    assert spec.mean == pytest.approx((127.5, 102, 76.5))
    assert spec.std == pytest.approx((127.5, 63.75, 51))
    assert (spec.scaling, spec.gamma, spec.trained_with_dropout) == (None, None, None)
    assert spec.licence_weights == "none stated"


def test_the_cache_of_the_hub_is_enough(cache):
    network = fill_cache(cache, f"someone/{VIT}", VIT)
    assert_is(timm_model(f"hf_hub:someone/{VIT}"), network)


def test_no_cache_and_no_network(cache):
    with pytest.raises(OSError, match="not in the hub's cache") as caught:
        timm_model(HUB_FACE_MODELS[0] + "@main")
    for told in (
        "`hf download gaunernst/vit_tiny_patch8_112.arcface_ms1mv3`",
        "config.json and model.safetensors of https://huggingface.co/gaunernst/",
        "weights=FOLDER",
    ):
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("name", "layer"), [("convnext_atto", "head.fc"), ("vit_tiny_patch16_224", "head")]
)
def test_serfiq_finds_the_embedding_layer_and_plq_runs(name, layer):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm_model(name, input_size=(32, 48))
    assert model.spec.embedding_layer == layer
    assert "untrained" in model.spec.note
    serfiq = SERFIQ(model, passes=4)
    attributions = PixelQualityAttribution(serfiq).attribute(pixels(2, 48)[..., :32, :])
    assert serfiq.tap.layer_name == f"backbone.{layer}"
    assert attributions.isfinite().all()
    assert (attributions != 0).float().mean() > 0.5


# Sizes stated in the README of gau-nernst/timm-face.
@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("vit_tiny_patch16_224", {}, 5_512_640),
        ("vit_small_patch16_224", {"class_token": False, "global_pool": "avg"}, 21_640_832),
    ],
)
def test_the_face_networks_of_the_hub_are_these(name, options, parameters):
    options |= {"num_classes": 512, "img_size": 112, "patch_size": 8}
    assert size_of(on_meta(lambda: timm.create_model(name, **options))) == parameters


@pytest.mark.parametrize("classes", [1000, 21_841])
def test_a_classifier_is_refused_unless_its_features_are_wanted(tmp_path, classes):
    fill(tmp_path, VIT, num_classes=classes)
    with pytest.raises(ValueError, match=f"is a classifier of {classes} classes, not an embedder"):
        timm_model(f"local-dir:{tmp_path}")
    pooled = timm_model(f"local-dir:{tmp_path}", embedding_size=0)
    assert pooled(pixels(1)).shape == (1, 192)
    assert pooled.spec.embedding_layer is None


class Code:
    def __reduce__(self):
        return (print, ("a pickle ran code",))


def another_network(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architecture": "resnet18"}))


def only_a_pickle(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))


def written(name, data):
    return lambda folder: (folder / name).write_bytes(data)


NO_NETWORK = "does not hold a network of timm in the hub's layout"


@pytest.mark.parametrize(
    ("damage", "error", "problem"),
    [
        (
            written("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
            ValueError,
            "is a Git LFS pointer",
        ),
        (written("model.safetensors", b"\0" * 100), ValueError, NO_NETWORK),
        (written("model.safetensors", pickle.dumps(Code())), ValueError, NO_NETWORK),
        (written("config.json", b"{"), ValueError, NO_NETWORK),
        (another_network, ValueError, NO_NETWORK),
        (only_a_pickle, FileNotFoundError, "pickled weights, which can run code, are not taken"),
        (lambda folder: (folder / "config.json").unlink(), FileNotFoundError, "no file .*config"),
    ],
)
def test_damaged_folders(tmp_path, capsys, damage, error, problem):
    fill(tmp_path, VIT)
    damage(tmp_path)
    with pytest.raises(error, match=problem):
        timm_model(f"local-dir:{tmp_path}")
    assert "a pickle ran code" not in capsys.readouterr().out


def test_a_new_head_may_begin_with_zeros_and_nothing_else(tmp_path):
    network = timm.create_model("convnext_atto", num_classes=32)
    torch.nn.init.zeros_(network.head.fc.weight)
    timm.models.save_for_hf(network, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match=r"zero throughout \(1: 'head\.fc\.weight'"):
        timm_model(f"local-dir:{tmp_path}")
    assert timm_model(f"local-dir:{tmp_path}", embedding_size=16)(pixels(1, 224)).shape == (1, 16)
    torch.nn.init.constant_(network.stages[0].blocks[0].conv_dw.weight, float("nan"))
    timm.models.save_for_hf(network, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match=r"NaN or infinite \(1: 'stages\.0\.blocks\.0\.conv_dw\.w"):
        timm_model(f"local-dir:{tmp_path}", embedding_size=16)


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("convnext_attoo", {}, "Unknown model .* Did you mean convnext_atto,"),
        ("resnet18.nonsense", {}, r"cannot build 'resnet18\.nonsense'"),
        ("resnet18", {"weights": "."}, "weights= is for hub names, but got 'resnet18'"),
        ("local-dir:.", {"input_size": (64, 64)}, "input_size is for untrained networks"),
        ("hf_hub:a/b", {"weights": __file__}, r"\.py is not called model\.safetensors"),
    ],
)
def test_wrong_names(name, options, problem):
    with pytest.raises(ValueError, match=problem):
        timm_model(name, **options)
