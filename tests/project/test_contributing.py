"""The diffs of CONTRIBUTING fit the files that they change, and what they add does its work."""

import importlib
import re
import sys
import types
from pathlib import Path

import pytest
import torch

from captum_plq import SERFIQ, PixelQualityAttribution
from tests.quality.scores.contract import CHECKS
from tests.support.architectures import BatchNormTail, build, faces
from tests.support.checkpoints import shapes_in, under

ROOT = Path(__file__).resolve().parents[2]
DIFFS = re.findall(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
PARTS = {
    new or old: lines
    for diff in DIFFS
    for old, new, lines in re.findall(
        r"--- (?:a/(.+)|/dev/null\n\+\+\+ b/(.+))\n((?:[+ ].*\n|\+\n)+?)(?=---|\Z)", diff
    )
}


def patched(path):
    """A file's text with the lines that a diff adds, each after the line that it shows before."""
    text = (ROOT / path).read_text("utf-8") if (ROOT / path).exists() else ""
    end = 0
    for line in PARTS[path].splitlines():
        if line.startswith(" "):
            assert line[1:] + "\n" in text
            end = text.index(line[1:] + "\n", end) + len(line)
        else:
            text = text[:end] + line[1:] + "\n" + text[end:]
            end += len(line)
    return text


@pytest.fixture
def run(monkeypatch):
    """Runs a file as a diff leaves it; one that is new knows what those beside it import."""

    def run(path):
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        if not (ROOT / path).exists():
            for beside in (ROOT / path).parent.glob("[a-z]*.py"):
                package = name.rpartition(".")[0]
                module.__dict__.update(vars(importlib.import_module(f"{package}.{beside.stem}")))
        module.__dict__.update(__name__=name, __file__=str(ROOT / path))
        exec(compile(patched(path), path, "exec", dont_inherit=True), module.__dict__)
        return module

    return run


def test_all_of_them_are_read():
    assert len(PARTS) == sum(diff.count("--- ") for diff in DIFFS) == 8


def test_a_face_network(run, tmp_path):
    network = run("captum_plq/models/architectures/sphereface.py").SphereFace20()
    published = run("tests/support/published.py").NETWORKS["sphereface20"]
    assert shapes_in(network) == published.shapes()
    state = {**under("module.", network.state_dict()), "module.fc6.weight": torch.ones(512, 2)}
    torch.save(state, tmp_path / "weights.pth")
    registry = run("captum_plq/models/registry.py")
    model = registry.load_model("sphereface20", tmp_path / "weights.pth")
    images = torch.rand(2, 3, 112, 96) * 255
    torch.testing.assert_close(model(images), network(published.prepare(images)))
    serfiq = SERFIQ(model, passes=4)
    serfiq(images)
    assert serfiq.tap.layer_name == f"backbone.{published.layer}"


def test_a_quality_score(run):
    run("captum_plq/quality/scores/mirror.py")
    scores = run("captum_plq/quality/scores/__init__.py")
    for check in CHECKS:
        check("mirror", lambda net: scores.make_score("mirror", net))
    net, images = build(BatchNormTail), faces(2)
    score = scores.make_score("mirror", net)
    twins = torch.cat([images, images.flip(3)])
    assert torch.allclose(score(twins[:2]), score(twins[2:]))
    assert PixelQualityAttribution(net, target_scalar=score).attribute(images).any()


def test_a_protocol(run):
    from benchmarks.harness.study import MapStudy

    own = run("benchmarks/protocols/brightness.py").Brightness
    protocols = run("benchmarks/protocols/__init__.py")
    assert protocols.PROTOCOLS["brightness"][0] == "brightness:Brightness"
    assert issubclass(own, MapStudy)
    context = types.SimpleNamespace(
        subject=types.SimpleNamespace(quality=lambda images: images.mean((1, 2, 3)))
    )
    rows = own(model="mine").rows(context, torch.full((2, 3, 4, 4), 100.0), ["a", "b"])
    assert [row["quality"] for row in rows[::2]] == [25, 50, 100, 150, 200]


def test_a_method(run):
    assert "deconvolution" in run("benchmarks/subjects/attributions.py").__dict__["METHODS"]
