"""Loading by name, from files of every kind, and from a user's own Python file."""

import sys
from pathlib import Path

import pytest
import timm
import torch

from captum_plq.models import (
    DEFAULT_MODEL,
    DLIB_SPEC,
    DROPOUT_MOBILEFACENET_SPEC,
    FaceModel,
    available_models,
    load_model,
    load_user_file,
)
from captum_plq.models.registry import ARCHITECTURES
from captum_plq.models.weight_files.dlib import find_dlib_weights

HEAD = """\
import torch
from captum_plq.models import FaceModel, ModelSpec

SPEC = ModelSpec("mine", (8, 8), mean=(127.5,) * 3, std=(128.0,) * 3)

def build():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))

"""


@pytest.fixture
def user_file(tmp_path):
    def write(body, head=HEAD):
        path = tmp_path / "my_network.py"
        path.write_text(head + body)
        return path

    return write


def private_modules():
    return {name for name in sys.modules if name.startswith("_captum_plq_user_")}


@pytest.fixture(autouse=True)
def forget_user_files():
    yield
    for name in private_modules():
        del sys.modules[name]


# --- by name


def test_available_models_lists_what_is_there_without_importing_or_loading_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("weights were read"))
    shipped, info, *others = available_models()
    assert shipped.spec is DROPOUT_MOBILEFACENET_SPEC
    assert shipped.spec.name == DEFAULT_MODEL
    assert shipped.weights_present
    assert not shipped.needs_file
    assert info.spec is DLIB_SPEC
    assert not info.needs_file
    assert all(other.needs_file for other in others)
    assert info.weights_present
    assert info.weights == find_dlib_weights()
    assert info.install == "pip install 'captum-plq[faces]'"
    assert "face_recognition_models" not in sys.modules


def test_without_the_weights(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_recognition_models", None)
    info = available_models()[1]
    assert not info.weights_present
    assert info.weights is None
    with pytest.raises(ImportError, match="pip install"):
        load_model("dlib")


def test_by_name_and_by_dat_file_are_the_same():
    by_name, by_file = load_model("dlib"), load_model(find_dlib_weights())
    images = torch.full((1, 3, 150, 150), 100.0)
    assert not by_name.training
    assert not by_file.training
    assert torch.equal(by_name(images), by_file(images))


def test_a_name_is_never_taken_for_a_file(tmp_path, monkeypatch):
    (tmp_path / "dlib").touch()
    monkeypatch.chdir(tmp_path)
    assert load_model("dlib").spec is DLIB_SPEC
    with pytest.raises(ValueError, match=r"is no \.py, \.onnx or \.dat"):
        load_model(Path("dlib"))


@pytest.mark.parametrize("name", ["mobilefacenet-foamliu", "edgeface_xxs"])
def test_other_architectures_by_name(name, tmp_path):
    architecture = next(a for a in ARCHITECTURES if a.spec.name == name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = architecture.build().eval()
    file = tmp_path / "weights.pt"
    torch.save({"net_state_dict": network.state_dict(), "epoch": 3}, file)
    model = load_model(name, weights=file)
    x = 255 * torch.rand(2, 3, 112, 112)
    expected = FaceModel(network, architecture.spec)(x)
    torch.testing.assert_close(model(x), expected)
    with pytest.raises(ValueError, match=f"They fit load_model\\('{name}'"):
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


def test_a_folder_in_the_layout_of_the_hub(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        load_model(f"local-dir:{tmp_path}")


def test_an_onnx_file_is_given_to_its_loader(tmp_path):
    pytest.importorskip("onnx2torch", reason="needs the extra [onnx]")
    (tmp_path / "face.onnx").write_bytes(b"no graph")
    with pytest.raises(ValueError, match=r"face\.onnx"):
        load_model(tmp_path / "face.onnx")


# --- what is refused


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"no network 'arcface'\. Known: 'mobilefacenet-dropout', 'dlib'"
    ):
        load_model("arcface")


@pytest.mark.parametrize("name", ["nowhere.py", "nowhere.dat", "nowhere.txt"])
def test_missing_file(name):
    with pytest.raises(FileNotFoundError, match=f"no file .*{name}"):
        load_model(name)


def test_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        load_model(tmp_path)


def test_file_of_no_known_kind(tmp_path):
    file = tmp_path / "face.jpg"
    file.touch()
    with pytest.raises(ValueError, match=r"face\.jpg is no \.py, \.onnx or \.dat file"):
        load_model(file)


@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt", "bin", "safetensors", "PTH"])
def test_weights_alone(suffix):
    with pytest.raises(ValueError, match="do not tell the architecture") as raised:
        load_model(f"weights.{suffix}")
    assert f"torch.load('weights.{suffix}', weights_only=True)" in str(raised.value)
    assert "def load_model():" in str(raised.value)


@pytest.mark.parametrize("suffix", ["pt2", "ts", "torchscript", "ptl"])
def test_scripted_or_exported(suffix):
    with pytest.raises(ValueError, match="hooks that find the embedding do not run"):
        load_model(f"network.{suffix}")


# --- a user's own file


@pytest.mark.parametrize("result", ["FaceModel(build().train(), SPEC)", "(build().train(), SPEC)"])
def test_user_file(user_file, result):
    path = user_file(f"def load_model():\n    return {result}\n")
    model = load_model(str(path))
    assert isinstance(model, FaceModel)
    assert model.spec.name == "mine"
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_the_documented_example(user_file, tmp_path):
    weights = torch.nn.Linear(3 * 8 * 8, 4).state_dict()
    torch.save(weights, tmp_path / "my_network.pt")
    (tmp_path / "architecture_next_to_it.py").write_text(
        "import torch\n\ndef build():\n    return torch.nn.Linear(192, 4)\n"
    )
    path = user_file(
        "from pathlib import Path\n"
        "import torch\n"
        "from captum_plq.models import FaceModel, ModelSpec\n"
        "from architecture_next_to_it import build\n"
        "def load_model() -> FaceModel:\n"
        "    net = build()\n"
        "    file = Path(__file__).with_name('my_network.pt')\n"
        "    net.load_state_dict(torch.load(file, weights_only=True))\n"
        "    return FaceModel(net, ModelSpec('mine', (8, 8), (0.0,) * 3, (1.0,) * 3))\n",
        head="",
    )
    try:
        model = load_model(path)
    finally:
        sys.modules.pop("architecture_next_to_it", None)
    assert torch.equal(model.backbone.weight, weights["weight"])


def test_user_file_leaves_no_traces(user_file, tmp_path):
    path = user_file(
        "torch.manual_seed(1)\ndef load_model():\n    torch.rand(9)\n    return build(), SPEC\n"
    )
    rng, search_path = torch.get_rng_state(), list(sys.path)
    load_user_file(path)
    assert torch.equal(torch.get_rng_state(), rng)
    assert sys.path == search_path
    assert [file.name for file in tmp_path.iterdir()] == ["my_network.py"]
    assert len(private_modules()) == 1
    assert "my_network" not in sys.modules


def test_what_a_user_file_prints_is_no_output(user_file, capfd):
    load_user_file(
        user_file(
            "print('at the top')\ndef load_model():\n    print('in it')\n    return build(), SPEC\n"
        )
    )
    assert capfd.readouterr() == ("", "at the top\nin it\n")


def test_an_edited_user_file_is_read_again(user_file):
    user_file("def load_model():\n    return build(), SPEC\n")
    assert (
        load_model(user_file("def load_model():\n    return build(), SPEC\n")).spec.name == "mine"
    )
    edited = user_file(
        "def load_model():\n    return build(), SPEC\n", HEAD.replace("mine", "ours")
    )
    assert load_model(edited).spec.name == "ours"


def test_user_file_may_define_dataclasses_and_change_the_search_path(user_file):
    path = user_file(
        "from __future__ import annotations\n"
        "import sys\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Config:\n    width: int = 4\n"
        "sys.path.pop(0)\n" + HEAD + "def load_model():\n    return build(), SPEC\n",
        head="",
    )
    search_path = list(sys.path)
    assert load_model(path)(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert sys.path == search_path


@pytest.mark.parametrize(
    ("body", "problem", "cause"),
    [
        ("def load_model(:\n", "could not be run: SyntaxError", SyntaxError),
        ("import no_such_module\n", "could not be run: ModuleNotFoundError", ModuleNotFoundError),
        ("load = build\n", r"defines no function load_model\(\)", None),
        ("load_model = 3\n", r"defines no function load_model\(\)", None),
        ("def load_model():\n    return 1 / 0\n", "failed: ZeroDivisionError", ZeroDivisionError),
        ("def load_model():\n    raise SystemExit(3)\n", "failed: SystemExit: 3", SystemExit),
        ("raise SystemExit(3)\n", "could not be run: SystemExit: 3", SystemExit),
        (
            "def load_model():\n    net = build()\n    net[1].weight.data[0, 0] = float('nan')\n"
            "    return net, SPEC\n",
            r"NaN or infinite \(1: 'backbone\.1\.weight'\)",
            None,
        ),
        ("def load_model(path):\n    return build(), SPEC\n", "failed: TypeError", TypeError),
        ("def load_model():\n    build()\n", "but returned NoneType", None),
        ("def load_model():\n    return build()\n", "but returned Sequential", None),
        ("def load_model():\n    return SPEC, build()\n", "returned ModelSpec, Sequential", None),
        ("def load_model():\n    return build(), 1\n", "returned Sequential, int", None),
        (
            "def load_model():\n    return FaceModel(build(), SPEC), SPEC\n",
            "but returned FaceModel, ModelSpec",
            None,
        ),
    ],
)
def test_bad_user_files(user_file, body, problem, cause):
    search_path = list(sys.path)
    with pytest.raises(ValueError, match=rf"(?s)my_network\.py.*{problem}") as raised:
        load_model(user_file(body))
    assert (type(raised.value.__cause__) if raised.value.__cause__ else None) is cause
    assert not private_modules()
    assert sys.path == search_path


def test_a_failing_edit_does_not_remove_what_was_loaded(user_file):
    load_model(user_file("def load_model():\n    return build(), SPEC\n"))
    loaded = private_modules()
    with pytest.raises(ValueError, match="failed"):
        load_model(user_file("def load_model():\n    raise OSError\n"))
    assert private_modules() == loaded


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_user_file_with_torchscript(user_file):
    path = user_file("def load_model():\n    return torch.jit.script(build()), SPEC\n")
    with pytest.raises(ValueError, match=r"my_network\.py returned a TorchScript module"):
        load_model(path)


def test_missing_user_file():
    with pytest.raises(FileNotFoundError, match="no file"):
        load_user_file("nowhere.py")
