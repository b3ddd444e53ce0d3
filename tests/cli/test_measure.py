"""``captum-plq calibrate`` and ``suitability``: from folders of photos to files."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from captum_plq.calibration import Calibration, calibrate
from captum_plq.cli.calibrate import describe
from captum_plq.models import load_model
from captum_plq.quality.scores import SCORES
from captum_plq.suitability import assess_suitability


@pytest.fixture
def options(network):
    return ["--aligned", "--model", network]


def pixels(paths):
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def test_from_a_calibration_to_an_explanation(run, folder, options, network, tmp_path, capsys):
    file, out = tmp_path / "new" / "mine.npz", tmp_path / "out"
    boxes = ["--pool", "7", "--smooth", "3"]
    assert run("calibrate", folder, *options, *boxes, "-o", file) == 0
    printed = capsys.readouterr().out
    for part in ("mine: 26 faces", "r = ", "α = ", "γ = ", "box 7×7, smoothed 3×3", str(file)):
        assert part in printed
    assert "local reference of the 13 faces of high quality: ρ₀ = " in printed
    assert ", 10×10 places of backbone." in printed
    assert "Fewer than 100 faces" in printed
    paths = sorted(folder.rglob("*.png"))
    images = torch.from_numpy(pixels(paths)).permute(0, 3, 1, 2).float()
    found = Calibration.load(file)
    expected = calibrate(load_model(network), [images], pool_size=7, blur_size=3)
    assert found.scaling == pytest.approx(expected.scaling, rel=1e-4)
    assert found.gamma == pytest.approx(expected.gamma, abs=1e-4)
    torch.testing.assert_close(
        found.reference.mean, expected.reference.mean, rtol=1e-4, atol=1e-4, equal_nan=True
    )
    assert (found.source, found.faces, found.left_out) == ("faces, aligned crops", 26, 0)

    without = dataclasses.replace(
        found, local=None, region_losses=None, without_local="It has no map."
    )
    assert "no local reference: It has no map." in describe(without)

    assert run("explain", paths[0], *options, "--calibration", file, "-o", out) == 0
    record = json.loads((out / "00-0.json").read_text("utf-8"))
    assert record["calibration"] == found.header()
    assert record["parameters"]["gamma"] == found.gamma
    arrays, (face,) = np.load(out / "00-0.npz"), record["faces"]
    assert arrays["relative_maps"].shape == (1, 32, 32)
    assert arrays["local_maps"].shape == arrays["local_zscores"].shape == (1, 10, 10)
    assert face["local"]["gained"] == pytest.approx(
        float(arrays["local_maps"].sum()) + face["local"]["offset"], abs=1e-6
    )
    assert "mean_relative_quality" not in face


def test_suitability_prints_and_writes_what_the_api_gives(run, folder, network, small, capsys):
    out = folder.parent / "out" / "mine.json"
    assert run("suitability", folder, *small, "--faces", 22, "--seed", 3, "-o", out) == 0
    printed = capsys.readouterr()
    record = json.loads(out.read_text("utf-8"))
    lines = printed.out.splitlines()
    assert lines[0] == f"mine: SER-FIQ with its usual setting: {record['verdict']}"
    assert lines[-1] == str(out)
    assert "22 of 22 images" in printed.err
    people = [name.split("/")[0] for name in record["images"]]
    assert (len(people), len(set(people[:13]))) == (22, 13)  # other people before second shots
    assert (record["model"], record["left_out"]) == ("mine", [])
    assert record["versions"]["torch"]
    chips = pixels(folder / name for name in record["images"])
    expected = assess_suitability(load_model(network), chips, passes=5, seed=3)
    assert {k: record[k] for k in expected.to_json()} == json.loads(json.dumps(expected.to_json()))


def test_suitability_of_the_quality_that_local_maps_add_up_to(run, folder, small, capsys):
    out = folder.parent / "out" / "mine.json"
    assert run("suitability", folder, *small, "--faces", 22, "--local", "-o", out) == 0
    assert "dropout on the last spatial map" in capsys.readouterr().out.splitlines()[0]
    record = json.loads(out.read_text("utf-8"))
    assert record["usual"]["site"]["kind"] == "last spatial map"
    assert record["passes"] == 0


def test_suitability_of_all_scores(run, folder, network, small, capsys):
    out = folder.parent / "out" / "mine.json"
    assert run("suitability", folder, *small, "--faces", 20, "--all-scores", "-o", out) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mine: Scores on 20 images")
    record = json.loads(out.read_text("utf-8"))
    assert {*record["readings"], *record["failed"]} == set(SCORES)
    assert all(name in printed for name in SCORES)
    assert run("suitability", folder, *small, "--all-scores", "--local") == 1


def test_bad_images_do_not_cost_the_others(run, folder, options, tmp_path, capsys):
    """Neither one that is no image, nor one that the network refuses, in a batch with others."""
    file, record = tmp_path / "mine.npz", tmp_path / "mine.json"
    bad, blank = folder / "bad.jpg", folder / "p01" / "blank.png"
    bad.write_text("not an image")
    Image.new("RGB", (32, 32)).save(blank)
    assert run("calibrate", folder, *options, "-o", file) == 0
    errors = capsys.readouterr().err
    assert f"{blank}: left out: a blank image" in errors
    assert f"{bad}: left out: is not an image" in errors
    assert "could not be used: 2" in errors
    found = Calibration.load(file)
    assert (found.faces, found.left_out) == (26, 2)

    blank.unlink()
    assert run("suitability", folder, *options, "--faces", 30, "-o", record) == 0
    assert "26 usable faces; 30 were asked for" in capsys.readouterr().err
    (left_out,) = json.loads(record.read_text("utf-8"))["left_out"]
    assert (left_out["image"], left_out["reason"][:15]) == (str(bad), "is not an image")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("calibrate NONE -o FILE", "There is no folder"),
        ("calibrate EMPTY -o FILE", "holds no images"),
        ("calibrate ONE -o FILE --aligned", "at least 10 faces"),
        ("calibrate ONE -o FILE", "No face"),
        ("calibrate ALL -o EMPTY", "name the file to write"),
        ("calibrate ALL -o PHOTO", "name another file"),
        ("calibrate ALL -o FILE --aligned --smooth 4", "must be an odd number"),
        ("suitability NONE", "There is no folder"),
        ("suitability ONE", "no usable face; 2 images were left out"),
        ("suitability ALL -o PHOTO", "name another file"),
        ("suitability ALL --faces 0", "--faces must be at least 1"),
        ("suitability ALL --faces 19 --aligned", "at least 20 images"),
        ("suitability ALL --device abacus", "cannot be used here"),
    ],
)
def test_what_cannot_be_measured_is_told(run, folder, crops, network, capsys, arguments, message):
    before, empty = crops[0].read_bytes(), folder.parent / "empty"
    empty.mkdir()
    places = {"ALL": folder, "ONE": folder / "p00", "EMPTY": empty, "PHOTO": crops[0]}
    places |= {"NONE": folder / "none", "FILE": empty / "file.npz"}
    words = [str(places.get(word, word)) for word in arguments.split()]
    assert run(*words, "--model", network) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("captum-plq: ")
    assert not list(empty.iterdir())
    assert crops[0].read_bytes() == before
