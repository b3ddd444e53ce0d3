"""``captum-plq calibrate`` and ``explain --calibration``, on files."""

import json

import numpy as np
import pytest
import torch

image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from captum_plq.calibration import Calibration, calibrate  # noqa: E402
from captum_plq.cli import main  # noqa: E402
from captum_plq.models import load_model  # noqa: E402

USER_MODEL = """
import torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

def load_model():
    torch.manual_seed(SEED)
    net = nn.Sequential(nn.Conv2d(3, 4, 7, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 27 * 27, 16))
    return FaceModel(net, ModelSpec("mine", (112, 112), (127.5,) * 3, (128.0,) * 3))
"""


def run(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture
def network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(USER_MODEL.replace("SEED", "0"))
    return file


@pytest.fixture
def folder(tmp_path):
    """Twelve aligned crops of 112×112 in two subfolders, and a file that is none of them."""
    rng = np.random.default_rng(0)
    crops = tmp_path / "crops"
    y, x = np.mgrid[-1:1:112j, -1:1:112j]
    bump = np.exp(-3 * (x**2 + y**2))[..., None]
    for i in range(12):
        noise = rng.normal(0, 4 + 3 * i, (112, 112, 3))
        pixels = np.clip(80 + 120 * bump + noise, 0, 255).astype(np.uint8)
        path = crops / f"person{i % 2}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image_module.fromarray(pixels).save(path)
    (crops / "notes.txt").write_text("ignored")
    return crops


def crops_of(folder):
    paths = sorted(folder.rglob("*.png"))
    pixels = np.stack([np.array(image_module.open(path)) for path in paths])
    return paths, torch.from_numpy(pixels).permute(0, 3, 1, 2).float()


def test_end_to_end(folder, network, tmp_path, capsys):
    file = tmp_path / "new" / "mine.npz"
    options = ["--aligned", "--model", network]
    assert run("calibrate", folder, *options, "-o", file) == 0
    printed = capsys.readouterr().out
    for part in ("mine: 12 faces", "r = ", "α = ", "γ = ", "6 good faces", "box 5×5", str(file)):
        assert part in printed
    assert "Fewer than 100 faces" in printed

    paths, images = crops_of(folder)
    found, expected = Calibration.load(file), calibrate(load_model(network), [images])
    assert found.scaling == pytest.approx(expected.scaling, rel=1e-5)
    assert found.gamma == pytest.approx(expected.gamma, abs=1e-4)
    torch.testing.assert_close(
        found.reference.mean, expected.reference.mean, rtol=1e-4, atol=1e-4, equal_nan=True
    )
    assert found.source == "crops, aligned crops"
    assert (found.faces, found.left_out) == (12, 0)

    out = tmp_path / "out"
    assert run("explain", paths[0], *options, "--calibration", file, "-o", out) == 0
    record = json.loads((out / "00.json").read_text("utf-8"))
    assert record["calibration"] == found.header()
    assert record["parameters"]["alpha"] == found.scaling.alpha
    assert record["parameters"]["gamma"] == found.gamma
    arrays = np.load(out / "00.npz")
    assert arrays["relative_maps"].shape == arrays["maps"].shape == (1, 112, 112)
    assert record["faces"][0]["mean_relative_quality"] == pytest.approx(
        float(arrays["relative_maps"].mean()), abs=1e-6
    )
    with image_module.open(out / "00.png") as figure:
        assert figure.width > 2.5 * figure.height  # three panels


def test_boxes_can_be_chosen(folder, network, tmp_path, capsys):
    file = tmp_path / "smooth.npz"
    options = ["--aligned", "--model", network, "--pool", "7", "--smooth", "9"]
    assert run("calibrate", folder, *options, "-o", file) == 0
    assert "box 7×7, smoothed 9×9" in capsys.readouterr().out
    reference = Calibration.load(file).reference
    assert (reference.pool_size, reference.blur_size) == (7, 9)
    with pytest.raises(SystemExit):
        run("calibrate", folder, *options, "--smooth", "wide", "-o", file)
    assert (
        run("calibrate", folder, "--aligned", "--model", network, "--smooth", "4", "-o", file) != 0
    )
    assert "blur_size must be an odd number" in capsys.readouterr().err


def test_a_bad_image_does_not_cost_the_others(folder, network, tmp_path, capsys):
    (folder / "bad.jpg").write_text("not an image")
    file = tmp_path / "mine.npz"
    assert run("calibrate", folder, "--aligned", "--model", network, "-o", file) == 0
    captured = capsys.readouterr()
    assert f"{folder / 'bad.jpg'}: left out: is not an image" in captured.err
    assert "could not be used: 1" in captured.err
    found = Calibration.load(file)
    assert (found.faces, found.left_out) == (12, 1)


PICKY = """
class Picky(nn.Sequential):
    def forward(self, x):
        if (x.amax((1, 2, 3)) == x.amin((1, 2, 3))).any():
            raise ValueError("a blank image")
        return super().forward(x)
"""


def test_an_image_that_the_network_refuses_does_not_cost_its_batch(
    folder, network, tmp_path, capsys
):
    code = USER_MODEL.replace("SEED", "0").replace("\ndef ", f"{PICKY}\ndef ", 1)
    network.write_text(code.replace("net = nn.Sequential", "net = Picky"))
    file, options = tmp_path / "mine.npz", ["--aligned", "--model", network]
    assert run("calibrate", folder, *options, "-o", file) == 0
    whole = Calibration.load(file)
    blank = folder / "person0" / "05b.png"
    image_module.new("RGB", (112, 112)).save(blank)
    assert run("calibrate", folder, *options, "-o", file) == 0
    assert f"{blank}: left out: a blank image" in capsys.readouterr().err
    found = Calibration.load(file)
    assert (found.faces, found.left_out) == (12, 1)
    assert found.scaling == pytest.approx(whole.scaling, rel=1e-5)
    np.testing.assert_allclose(found.reference.mean, whole.reference.mean, atol=1e-4)


@pytest.mark.parametrize("command", ["calibrate", "suitability"])
def test_a_photo_is_not_overwritten_by_a_measurement(folder, network, command, capsys):
    photo = folder / "person0" / "00.png"
    before = photo.read_bytes()
    assert run(command, folder, "--aligned", "--model", network, "-o", photo) == 1
    assert "name another file" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_faces_are_detected_and_aligned(tmp_path, network, capsys):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    portrait = pytest.importorskip("skimage.data", reason="needs scikit-image").astronaut()
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(10):
        dimmed = (portrait * (1 - i / 20)).astype(np.uint8)
        image_module.fromarray(dimmed).save(photos / f"{i}.jpg")
    image_module.new("RGB", (300, 300)).save(photos / "wall.png")
    file = tmp_path / "mine.npz"
    assert run("calibrate", photos, "--model", network, "-o", file, "--passes", "20") == 0
    assert "No face" in capsys.readouterr().err
    found = Calibration.load(file)
    assert (found.faces, found.left_out, found.conditions.passes) == (10, 1, 20)
    assert found.source == "photos, detected faces"


def test_a_calibration_for_something_else_ends_in_one_line(folder, network, tmp_path, capsys):
    file, photo = tmp_path / "mine.npz", folder / "person0" / "00.png"
    assert run("calibrate", folder, "--aligned", "--model", network, "-o", file) == 0
    other = tmp_path / "other.py"
    other.write_text(USER_MODEL.replace("SEED", "1"))
    wrong = tmp_path / "wrong.npz"
    wrong.write_text("x")
    cases = {
        "passes = 100, not 7": [file, network, "--passes", "7"],
        "dropout = 0.5, not 0.3": [file, network, "--dropout", "0.3"],
        "weights = 'l1', not 'signed'": [file, network, "--weights", "signed"],
        "target_scalar = 'node', not 'serfiq'": [file, network, "--target", "serfiq"],
        "one of that name with other weights": [file, other],
        "known as 'facenet'": ["facenet", network],
        "is not a calibration file": [wrong, network],
        "the presets are 'arcface', 'facenet'": [tmp_path / "none.npz", network],
    }
    capsys.readouterr()
    for message, (calibration, model, *options) in cases.items():
        out = ["-o", tmp_path / "out", "--aligned", "--model", model]
        assert run("explain", photo, "--calibration", calibration, *out, *options) == 1
        error = capsys.readouterr().err
        assert error.startswith("captum-plq: ")
        assert error.count("\n") == 1
        assert message in error
    assert not (tmp_path / "out").exists()


def test_a_preset_says_what_it_holds_for(folder, network, tmp_path, capsys):
    network.write_text(network.read_text().replace('"mine"', '"iresnet100"'))
    photo, out = folder / "person0" / "00.png", tmp_path / "out"
    options = ["--aligned", "--model", network, "--calibration", "arcface", "-o", out]
    assert run("explain", photo, *options) == 0
    assert "trained on MS1M" in capsys.readouterr().out
    record = json.loads((out / "00.json").read_text("utf-8"))
    assert (record["parameters"]["alpha"], record["parameters"]["gamma"]) == (130.0, 7.5)
    assert record["calibration"]["network"] == "ArcFace, ResNet-100"
    assert "relative_maps" not in np.load(out / "00.npz")


def test_folders_without_enough_images(folder, network, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        "There is no folder": [tmp_path / "none", tmp_path / "c.npz"],
        "holds no images": [empty, tmp_path / "c.npz"],
        "at least 10 faces": [folder / "person0", tmp_path / "c.npz"],
        "name the file to write": [folder, empty],
    }
    for message, (directory, file) in cases.items():
        assert run("calibrate", directory, "--aligned", "--model", network, "-o", file) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "c.npz").exists()
