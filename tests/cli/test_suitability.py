"""``captum-plq suitability`` on real files."""

import json

import numpy as np
import pytest
from PIL import Image

from captum_plq.cli import main

USER_MODEL = """
import torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

def load_model():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5, 3), nn.PReLU(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)
    )
    return FaceModel(net, ModelSpec("mine", (32, 32), (127.5,) * 3, (128.0,) * 3))
"""

FAST = ["--passes", "5", "--aligned"]


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    """26 aligned crops of 13 people."""
    generator = np.random.default_rng(0)
    for person in range(13):
        for shot in range(2):
            path = tmp_path / "faces" / f"p{person}" / f"{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (tmp_path / "mine.py").write_text(USER_MODEL)
    return tmp_path


def test_prints_the_table_and_writes_the_figures(folder, capsys):
    out = folder / "out" / "mine.json"
    arguments = [folder / "faces", "--model", folder / "mine.py", "--faces", 22, "-o", out, *FAST]
    assert run("suitability", *arguments) == 0
    printed = capsys.readouterr()
    record = json.loads(out.read_text("utf-8"))
    lines = printed.out.splitlines()
    assert lines[0] == f"mine: SER-FIQ as usual on this network: {record['verdict']}"
    assert lines[-1] == str(out)
    assert len(lines) <= 26
    assert "22 of 22 images" in printed.err
    assert record["model"] == "mine"
    assert (record["passes"], record["seed"]) == (5, 0)
    assert len(record["images"]) == len(set(record["images"])) == 22
    people = [name.split("/")[0] for name in record["images"]]
    assert len(set(people[:13])) == 13  # other people before second shots
    assert record["left_out"] == []
    assert {t["site"]["kind"] for t in record["trials"]} == {"last linear map", "global pooling"}
    assert {t["site"]["layer"] for t in record["trials"]} == {"backbone.4", "backbone.2"}
    assert record["versions"]["torch"]


def test_the_same_as_the_python_call(folder):
    from captum_plq.faces import load_image
    from captum_plq.models import load_model
    from captum_plq.suitability import assess_suitability

    out = folder / "mine.json"
    arguments = [folder / "faces", "--model", folder / "mine.py", "--faces", 20, "-o", out, *FAST]
    assert run("suitability", *arguments, "--seed", 3) == 0
    record = json.loads(out.read_text("utf-8"))
    chips = np.stack([load_image(folder / "faces" / name) for name in record["images"]])
    expected = assess_suitability(load_model(folder / "mine.py"), chips, passes=5, seed=3)
    assert {k: record[k] for k in expected.to_json()} == json.loads(json.dumps(expected.to_json()))


def test_bad_images_are_recorded_and_the_rest_goes_on(folder, capsys):
    bad = folder / "faces" / "p0" / "0.png"
    bad.write_bytes(b"no image")
    (folder / "faces" / "notes.txt").write_text("not even called one")
    out = folder / "mine.json"
    arguments = [folder / "faces", "--model", folder / "mine.py", "--faces", 30, "-o", out, *FAST]
    assert run("suitability", *arguments) == 0
    record = json.loads(out.read_text("utf-8"))
    assert [entry["image"] for entry in record["left_out"]] == [str(bad)]
    assert "not an image" in record["left_out"][0]["reason"]
    assert len(record["images"]) == 25
    errors = capsys.readouterr().err
    assert f"{bad}: left out: is not an image" in errors
    assert "holds 25 usable faces; 30 were asked for" in errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--faces", "0"], "--faces must be at least 1"),
        (["--faces", "19"], "at least 20 images"),
        (["--passes", "1"], "passes must be an integer of at least 2"),
        (["--device", "abacus"], "cannot be used here"),
        (["--model", "no-such-network"], "There is no network"),
    ],
)
def test_wrong_parameters_end_in_one_line(folder, capsys, change, message):
    arguments = [folder / "faces", "--model", folder / "mine.py", *FAST, *change]
    assert run("suitability", *arguments) == 1
    (last,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("captum-plq: "))
    assert message in last


def test_a_folder_without_faces(folder, capsys):
    for path in (folder, folder / "nowhere"):
        assert run("suitability", path, "--model", folder / "mine.py", "--faces", 20) == 1
    errors = capsys.readouterr().err
    assert "holds no usable face; 26 images were left out" in errors
    assert "There is no folder" in errors


def test_faces_are_found_and_aligned_where_they_are_not(tmp_path):
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    from captum_plq.cli.suitability import _chips
    from captum_plq.faces import align_face, detect_faces
    from captum_plq.models import ModelSpec

    portrait = data.astronaut()
    Image.fromarray(portrait).save(tmp_path / "a.png")
    spec = ModelSpec("mine", (64, 64), (127.5,) * 3, (128.0,) * 3)
    (chip,), used, failures = _chips(tmp_path, spec, 1, seed=0, aligned=False)
    expected = align_face(portrait, detect_faces(portrait)[0], template="arcface", size=(64, 64))
    np.testing.assert_array_equal(chip, expected)
    assert (used, failures) == (["a.png"], {})
