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
PLAIN = "def load_model():\n    return build(), SPEC\n"


def load(*lines):
    return "def load_model():\n" + "".join(f"    {line}\n" for line in lines)


@pytest.fixture
def user_file(tmp_path):
    def write(body, head=HEAD):
        (tmp_path / "my_network.py").write_text(head + body)
        return tmp_path / "my_network.py"

    return write


def private_modules():
    return {name for name in sys.modules if name.startswith("_captum_plq_user_")}


@pytest.fixture(autouse=True)
def forget_user_files():
    search_path = list(sys.path)
    yield
    assert sys.path == search_path
    for name in private_modules():
        del sys.modules[name]


@pytest.mark.parametrize("result", ["FaceModel(build().train(), SPEC)", "(build().train(), SPEC)"])
def test_user_file(user_file, result):
    model = load_model(str(user_file(load(f"return {result}"))))
    assert isinstance(model, FaceModel)
    assert model.spec.name == "mine"
    assert not any(module.training for module in model.modules())
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)


def test_user_file_leaves_no_traces(user_file, tmp_path, capfd):
    body = load("print(len(torch.rand(9)))", "return build(), SPEC")
    path = user_file("torch.manual_seed(1)\nprint('at the top')\n" + body)
    rng = torch.get_rng_state()
    load_user_file(path)
    assert torch.equal(torch.get_rng_state(), rng)
    assert [file.name for file in tmp_path.iterdir()] == ["my_network.py"]
    assert len(private_modules()) == 1
    assert "my_network" not in sys.modules
    assert capfd.readouterr() == ("", "at the top\n9\n")


def test_an_edited_user_file_is_read_again(user_file):
    assert load_model(user_file(PLAIN)).spec.name == "mine"
    loaded = private_modules()
    assert load_model(user_file(PLAIN, HEAD.replace("mine", "ours"))).spec.name == "ours"
    with pytest.raises(ValueError, match="failed"):
        load_model(user_file(load("raise OSError")))
    assert private_modules() == loaded  # a failing edit does not remove what was loaded


def test_user_file_may_define_dataclasses_and_change_the_search_path(user_file):
    head = (
        "from __future__ import annotations\nimport sys\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass Config:\n    width: int = 4\nsys.path.pop(0)\n"
    )
    assert load_model(user_file(HEAD + PLAIN, head))(torch.zeros(1, 3, 8, 8)).shape == (1, 4)


NORM = "torch.nn.Sequential(torch.nn.Flatten(), norm)"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    ("body", "problem", "cause"),
    [
        ("def load_model(:\n", "could not be run: SyntaxError", SyntaxError),
        ("load = build\n", r"defines no function load_model\(\)", None),
        (load("return 1 / 0"), "failed: ZeroDivisionError", ZeroDivisionError),
        (load("raise SystemExit(3)"), "failed: SystemExit: 3", SystemExit),
        ("raise SystemExit(3)\n", "could not be run: SystemExit: 3", SystemExit),
        (
            load("net = build()", "net[1].weight.data[0, 0] = float('nan')", "return net, SPEC"),
            r"NaN or infinite \(1: 'backbone\.1\.weight'\)",
            None,
        ),
        (
            load("norm = torch.nn.BatchNorm1d(192)", "norm.running_var[0] = -1")
            + f"    return {NORM}, SPEC\n",
            r"negative, but variances \(1: 'backbone\.1\.running_var'\)",
            None,
        ),
        ("def load_model(path):\n    return build(), SPEC\n", "failed: TypeError", TypeError),
        (load("build()"), "but returned NoneType", None),
        (load("return build(), 1"), "returned Sequential, int", None),
        (load("return FaceModel(build(), SPEC), SPEC"), "but returned FaceModel, ModelSpec", None),
        (load("return torch.jit.script(build()), SPEC"), "returned a TorchScript module", None),
    ],
)
def test_bad_user_files(user_file, body, problem, cause):
    with pytest.raises(ValueError, match=rf"(?s)my_network\.py.*{problem}") as raised:
        load_model(user_file(body))
    assert isinstance(raised.value.__cause__, cause or type(None))
    assert not private_modules()


def test_missing_user_file():
    with pytest.raises(FileNotFoundError, match="no file"):
        load_user_file("nowhere.py")
