"""Loading from a user's own Python file, which builds the network itself."""

import sys

import pytest
import torch

from captum_plq.models import FaceModel, load_model, load_user_file

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


PLAIN = "def load_model():\n    return build(), SPEC\n"


@pytest.mark.parametrize("result", ["FaceModel(build().train(), SPEC)", "(build().train(), SPEC)"])
def test_user_file(user_file, result):
    model = load_model(str(user_file(f"def load_model():\n    return {result}\n")))
    assert isinstance(model, FaceModel)
    assert model.spec.name == "mine"
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_user_file_leaves_no_traces(user_file, tmp_path, capfd):
    path = user_file("torch.manual_seed(1)\nprint('at the top')\n" + PLAIN.replace(
        "    return", "    print(len(torch.rand(9)))\n    return"
    ))  # fmt: skip
    rng, search_path = torch.get_rng_state(), list(sys.path)
    load_user_file(path)
    assert torch.equal(torch.get_rng_state(), rng)
    assert sys.path == search_path
    assert [file.name for file in tmp_path.iterdir()] == ["my_network.py"]
    assert len(private_modules()) == 1
    assert "my_network" not in sys.modules
    assert capfd.readouterr() == ("", "at the top\n9\n")


def test_an_edited_user_file_is_read_again(user_file):
    assert load_model(user_file(PLAIN)).spec.name == "mine"
    loaded = private_modules()
    assert load_model(user_file(PLAIN, HEAD.replace("mine", "ours"))).spec.name == "ours"
    with pytest.raises(ValueError, match="failed"):
        load_model(user_file("def load_model():\n    raise OSError\n"))
    assert private_modules() == loaded  # a failing edit does not remove what was loaded


def test_user_file_may_define_dataclasses_and_change_the_search_path(user_file):
    head = (
        "from __future__ import annotations\nimport sys\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Config:\n    width: int = 4\nsys.path.pop(0)\n"
    )
    search_path = list(sys.path)
    assert load_model(user_file(HEAD + PLAIN, head))(torch.zeros(1, 3, 8, 8)).shape == (1, 4)
    assert sys.path == search_path


@pytest.mark.parametrize(
    ("body", "problem", "cause"),
    [
        ("def load_model(:\n", "could not be run: SyntaxError", SyntaxError),
        ("load = build\n", r"defines no function load_model\(\)", None),
        ("def load_model():\n    return 1 / 0\n", "failed: ZeroDivisionError", ZeroDivisionError),
        ("def load_model():\n    raise SystemExit(3)\n", "failed: SystemExit: 3", SystemExit),
        ("raise SystemExit(3)\n", "could not be run: SystemExit: 3", SystemExit),
        (
            "def load_model():\n    net = build()\n    net[1].weight.data[0, 0] = float('nan')\n"
            "    return net, SPEC\n",
            r"NaN or infinite \(1: 'backbone\.1\.weight'\)",
            None,
        ),
        (
            "def load_model():\n    norm = torch.nn.BatchNorm1d(192)\n"
            "    norm.running_var[0] = -1\n"
            "    return torch.nn.Sequential(torch.nn.Flatten(), norm), SPEC\n",
            r"negative, but variances \(1: 'backbone\.1\.running_var'\)",
            None,
        ),
        ("def load_model(path):\n    return build(), SPEC\n", "failed: TypeError", TypeError),
        ("def load_model():\n    build()\n", "but returned NoneType", None),
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


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_user_file_with_torchscript(user_file):
    path = user_file("def load_model():\n    return torch.jit.script(build()), SPEC\n")
    with pytest.raises(ValueError, match=r"my_network\.py returned a TorchScript module"):
        load_model(path)


def test_missing_user_file():
    with pytest.raises(FileNotFoundError, match="no file"):
        load_user_file("nowhere.py")
