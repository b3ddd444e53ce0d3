"""``captum-plq calibrate`` and ``explain --calibration``, on files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from captum_plq.calibration import Calibration, calibrate
from captum_plq.models import load_model


@pytest.fixture
def options(network):
    return ["--aligned", "--model", network]


def test_end_to_end(run, folder, options, network, tmp_path, capsys):
    file = tmp_path / "new" / "mine.npz"
    assert run("calibrate", folder, *options, "-o", file) == 0
    printed = capsys.readouterr().out
    for part in ("mine: 26 faces", "r = ", "α = ", "γ = ", "13 faces of", "box 5×5", str(file)):
        assert part in printed
    assert "Fewer than 100 faces" in printed

    paths = sorted(folder.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    found, expected = Calibration.load(file), calibrate(load_model(network), [images])
    assert found.scaling == pytest.approx(expected.scaling, rel=1e-4)
    assert found.gamma == pytest.approx(expected.gamma, abs=1e-4)
    torch.testing.assert_close(
        found.reference.mean, expected.reference.mean, rtol=1e-4, atol=1e-4, equal_nan=True
    )
    assert found.source == "faces, aligned crops"
    assert (found.faces, found.left_out) == (26, 0)

    out = tmp_path / "out"
    assert run("explain", paths[0], *options, "--calibration", file, "-o", out) == 0
    record = json.loads((out / "00-0.json").read_text("utf-8"))
    assert record["calibration"] == found.header()
    assert record["parameters"]["alpha"] == found.scaling.alpha
    assert record["parameters"]["gamma"] == found.gamma
    arrays = np.load(out / "00-0.npz")
    assert arrays["relative_maps"].shape == arrays["maps"].shape == (1, 32, 32)


def test_boxes_can_be_chosen(run, folder, options, tmp_path, capsys):
    file = tmp_path / "smooth.npz"
    options += ["--passes", "20", "-o", file, "--pool", "7", "--smooth"]
    assert run("calibrate", folder, *options, "9") == 0
    assert "box 7×7, smoothed 9×9" in capsys.readouterr().out
    found = Calibration.load(file)
    assert (found.reference.pool_size, found.reference.blur_size) == (7, 9)
    assert found.conditions.passes == 20
    assert run("calibrate", folder, *options, "4") == 1
    assert "must be an odd number" in capsys.readouterr().err


def test_bad_images_do_not_cost_the_others(run, folder, options, tmp_path, capsys):
    """Neither one that is no image, nor one that the network refuses, in a batch with others."""
    file = tmp_path / "mine.npz"
    assert run("calibrate", folder, *options, "-o", file) == 0
    whole = Calibration.load(file)
    (folder / "bad.jpg").write_text("not an image")
    blank = folder / "p01" / "blank.png"
    Image.new("RGB", (32, 32)).save(blank)
    capsys.readouterr()
    assert run("calibrate", folder, *options, "-o", file) == 0
    errors = capsys.readouterr().err
    assert f"{folder / 'bad.jpg'}: left out: is not an image" in errors
    assert f"{blank}: left out: a blank image" in errors
    assert "could not be used: 2" in errors
    found = Calibration.load(file)
    assert (found.faces, found.left_out) == (26, 2)
    assert found.scaling == pytest.approx(whole.scaling, rel=1e-4)
    np.testing.assert_allclose(found.reference.mean, whole.reference.mean, atol=1e-4)


@pytest.mark.parametrize("command", ["calibrate", "suitability"])
def test_a_photo_is_not_overwritten_by_a_measurement(run, folder, crops, options, command, capsys):
    before = crops[0].read_bytes()
    assert run(command, folder, *options, "-o", crops[0]) == 1
    assert "name another file" in capsys.readouterr().err
    assert crops[0].read_bytes() == before


def test_faces_are_detected_and_aligned(run, tmp_path, network, capsys):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    portrait = pytest.importorskip("skimage.data", reason="needs scikit-image").astronaut()
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(10):
        dimmed = (portrait[:300, 100:400] * (1 - i / 20)).astype(np.uint8)
        Image.fromarray(dimmed).save(photos / f"{i}.jpg")
    Image.new("RGB", (300, 300)).save(photos / "wall.png")
    file = tmp_path / "mine.npz"
    assert run("calibrate", photos, "--model", network, "-o", file, "--passes", "20") == 0
    assert "No face" in capsys.readouterr().err
    found = Calibration.load(file)
    assert (found.faces, found.left_out) == (10, 1)
    assert found.source == "photos, detected faces"


def test_a_calibration_for_something_else_ends_in_one_line(
    run, folder, crops, options, network, tmp_path, capsys
):
    file, wrong, out = tmp_path / "mine.npz", tmp_path / "wrong.npz", tmp_path / "out"
    assert run("calibrate", folder, *options, "-o", file) == 0
    wrong.write_text("x")
    capsys.readouterr()
    for message, arguments in {
        "passes = 100, not 7": [file, "--passes", "7"],
        "weights = 'l1', not 'signed'": [file, "--weights", "signed"],
        "known as 'facenet'": ["facenet"],
        "is not a calibration file": [wrong],
        "the presets are 'arcface', 'facenet'": [tmp_path / "none.npz"],
    }.items():
        assert run("explain", crops[0], *options, "-o", out, "--calibration", *arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("captum-plq: ")
        assert error.count("\n") == 1
        assert message in error
    network.write_text(network.read_text().replace("manual_seed(0)", "manual_seed(1)"))
    assert run("explain", crops[0], *options, "-o", out, "--calibration", file) == 1
    assert "one of that name with other weights" in capsys.readouterr().err
    assert not out.exists()


def test_a_preset_says_what_it_holds_for(run, crops, options, network, tmp_path, capsys):
    code = network.read_text().replace('"mine", (32, 32)', '"iresnet100", (112, 112)')
    network.write_text(code)
    photo, out = tmp_path / "face.png", tmp_path / "out"
    Image.open(crops[0]).resize((112, 112)).save(photo)
    assert run("explain", photo, *options, "--calibration", "arcface", "-o", out) == 0
    assert "trained on MS1M" in capsys.readouterr().out
    record = json.loads((out / "face.json").read_text("utf-8"))
    assert (record["parameters"]["alpha"], record["parameters"]["gamma"]) == (130.0, 7.5)
    assert record["calibration"]["network"] == "ArcFace, ResNet-100"
    assert "relative_maps" not in np.load(out / "face.npz")


def test_folders_without_enough_images(run, folder, options, tmp_path, capsys):
    empty, file = tmp_path / "empty", tmp_path / "c.npz"
    empty.mkdir()
    for message, arguments in {
        "There is no folder": [tmp_path / "none", "-o", file],
        "holds no images": [empty, "-o", file],
        "at least 10 faces": [folder / "p00", "-o", file],
        "name the file to write": [folder, "-o", empty],
    }.items():
        assert run("calibrate", *arguments, *options) == 1
        assert message in capsys.readouterr().err
    assert not file.exists()
