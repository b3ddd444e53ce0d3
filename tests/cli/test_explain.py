"""``captum-plq explain`` and ``demo``: what they write, and what bad input does."""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("dlib", reason="needs the extra [faces]")
data = pytest.importorskip("skimage.data", reason="needs scikit-image")

from captum_plq import PixelQualityAttribution, quality_map  # noqa: E402
from captum_plq.calibration import load_calibration  # noqa: E402
from captum_plq.faces import align_face, detect_faces  # noqa: E402
from captum_plq.models import DEFAULT_MODEL, iresnet, load_model  # noqa: E402

FAST = ["--passes", "5"]


PORTRAIT = data.astronaut()


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "portrait.png"
    path.parent.mkdir()
    Image.fromarray(PORTRAIT).save(path)
    return path


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_explain_writes_what_the_api_computes(run, photo, tmp_path, capsys):
    assert run("explain", photo, "-o", tmp_path / "out") == 0
    calibration = load_calibration(DEFAULT_MODEL)
    face = detect_faces(PORTRAIT)[0]
    chip = align_face(PORTRAIT, face, template="arcface", size=112)
    x = torch.from_numpy(chip).permute(2, 0, 1)[None].float()
    plq = PixelQualityAttribution(load_model(DEFAULT_MODEL), scaling=calibration.scaling)
    attributions, quality = plq.attribute(x, return_quality=True)

    files = [tmp_path / "out" / f"portrait{ending}" for ending in (".png", ".npz", ".json")]
    arrays, record = np.load(files[1]), read(files[2])
    np.testing.assert_array_equal(arrays["images"], chip[None])
    expected = quality_map(attributions, calibration.gamma)
    np.testing.assert_allclose(arrays["maps"], expected, atol=1e-4)
    assert record["faces"][0]["quality"] == pytest.approx(float(quality), abs=1e-6)
    assert record["detection"]["box"] == list(face.box)
    assert record["source"] == str(photo)
    printed = capsys.readouterr().out
    assert all(str(file) in printed for file in files)
    with Image.open(files[0]) as figure:
        assert min(figure.size) > 300


def test_one_bad_file_does_not_cost_the_others(run, photo, tmp_path, capsys):
    bad = {"text.jpg": "not an image", "landscape.png": "No face", "missing.jpg": "exist"}
    text, landscape, missing = paths = [tmp_path / name for name in bad]
    text.write_text("not an image")
    Image.fromarray(data.coffee()).save(landscape)
    out = tmp_path / "out"
    assert run("explain", text, landscape, photo, missing, "-o", out, *FAST) == 1
    assert (out / "portrait.png").exists()
    summary = read(out / "summary.json")
    assert [entry["record"] for entry in summary["explained"]] == ["portrait.json"]
    reasons = {entry["image"]: entry["reason"] for entry in summary["failed"]}
    errors = capsys.readouterr().err
    assert "3 of 4 images failed" in errors
    for path, word in zip(paths, bad.values(), strict=True):
        assert word in reasons.pop(str(path))
        assert f"{path}: failed: " in errors
    assert not reasons


def test_several_faces_the_surest_or_all(run, tmp_path, capsys):
    two = np.concatenate([PORTRAIT // 3, PORTRAIT], axis=1)
    path = tmp_path / "two.png"
    Image.fromarray(two).save(path)
    faces = detect_faces(two)
    assert len(faces) >= 2
    assert run("explain", path, "-o", tmp_path / "best", *FAST) == 0
    printed = capsys.readouterr().out
    assert f"{len(faces)} faces found" in printed
    assert f"{faces[0].score:.2f}" in printed
    record = read(tmp_path / "best" / "two.json")
    assert record["detection"]["score"] == max(record["detection"]["scores_of_all_found"])
    assert not (tmp_path / "best" / "two-face1.json").exists()
    assert run("explain", path, "-o", tmp_path / "all", "--all-faces", *FAST) == 0
    records = [read(tmp_path / "all" / f"two-face{i + 1}.json") for i in range(len(faces))]
    assert [r["detection"]["box"] for r in records] == [list(face.box) for face in faces]
    with Image.open(tmp_path / "all" / "two-faces.png") as overview:
        assert overview.size == (1024, 512)


def test_a_weak_detection_and_a_face_at_the_edge_are_told(run, tmp_path, capsys, monkeypatch):
    (face,) = detect_faces(PORTRAIT)
    left, _, right, _ = face.box
    cut, whole = tmp_path / "cut.png", tmp_path / "whole.png"
    Image.fromarray(PORTRAIT[:, : right - (right - left) // 5]).save(cut)
    Image.fromarray(PORTRAIT).save(whole)
    assert run("explain", cut, whole, "-o", tmp_path / "out", "--write", "none", *FAST) == 0
    errors = capsys.readouterr().err
    assert "cut.png: the face is cut off by the photo's edge (" in errors
    assert "whole.png" not in errors
    rows = {
        Path(row["image"]).stem: row for row in read(tmp_path / "out/summary.json")["explained"]
    }
    assert "cut off" in rows["cut"]["warnings"][0]
    assert "warnings" not in rows["whole"]
    monkeypatch.setattr("captum_plq.faces.detect.WEAK_SCORE", 9.0)
    assert run("explain", whole, "-o", tmp_path / "out", "--write", "none", *FAST) == 0
    assert "the face is a weak detection (score 1." in capsys.readouterr().err
    assert read(tmp_path / "out" / "whole.json")["detection"]["weak"]


def test_aligned_images_are_taken_as_they_are(run, crops, small, tmp_path):
    flat, big = tmp_path / "flat.png", tmp_path / "big.png"
    image = Image.open(crops[0])
    image.crop((0, 0, 32, 20)).save(flat)
    image.resize((64, 64)).save(big)
    out = tmp_path / "out"
    options = ["--target", "serfiq", "--gamma", "9", "-o", out]
    assert run("explain", crops[0], big, flat, *small, *options) == 1
    assert {path.stem for path in out.iterdir()} == {"00-0", "big", "summary", "contact-sheet"}
    np.testing.assert_array_equal(np.load(out / "00-0.npz")["images"][0], np.asarray(image))
    assert np.load(out / "big.npz")["images"].shape == (1, 32, 32, 3)
    record = read(out / "00-0.json")
    assert "detection" not in record
    assert record["model"]["name"] == "mine"
    assert record["parameters"]["embedding_layer"] == "backbone.4"
    assert (record["parameters"]["target_scalar"], record["parameters"]["gamma"]) == ("serfiq", 9)


def test_a_named_network_and_a_checkpoint(run, photo, tmp_path, capsys):
    """The file is as MagFace's training saves one."""
    state = {f"features.module.{key}": x for key, x in iresnet(18).state_dict().items()}
    state["parallel_fc.weight"] = torch.zeros(512, 10)
    torch.save({"epoch": 25, "state_dict": state}, checkpoint := tmp_path / "00025.pth")
    options = ["--model", "magface-iresnet18", "--checkpoint", checkpoint, "-o", tmp_path]
    assert run("explain", photo, *options, *FAST) == 0
    record = read(tmp_path / "portrait.json")
    assert (record["model"]["name"], record["checkpoint"]) == ("magface-iresnet18", str(checkpoint))
    printed = capsys.readouterr().out
    assert "Left out, for training only: parallel_fc.weight" in printed
    assert "dropout of whole channels" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dropout", "1"], "strictly between 0 and 1"),
        (["--model", "no-such-network"], "Known: 'mobilefacenet-places'"),
        (["--model", "iresnet5O"], "Did you mean 'iresnet50'? Known"),
        (["--model", "iresnet50"], "backbone.pth of r50"),
        (["--model", "mine.py", "--checkpoint", "w.pth"], "goes with the name of a network"),
        (["--batch-size", "0"], "must be at least 1"),
        (["--device", "abacus"], "cannot be used here"),
        (["--calibration", "facenet"], "known as 'facenet'"),
        (["--calibration", __file__], "is damaged"),
    ],
)
def test_wrong_parameters_end_in_one_line(run, photo, tmp_path, capsys, arguments, message):
    assert run("explain", photo, "-o", tmp_path / "out", *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("captum-plq: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("model", "size"), [(DEFAULT_MODEL, 112), ("dlib", 150)])
def test_demo_makes_one_figure_of_four(run, model, size, tmp_path, capsys):
    assert run("demo", "-o", tmp_path, "--model", model, *FAST) == 0
    printed = capsys.readouterr().out
    for name in ("as it is", "square over one eye", "surgical mask", "blur"):
        assert f"{name:19}  Q = 0." in printed
    assert ("weakly informative" in printed) == (model == "dlib")
    assert str(tmp_path / "astronaut.png") in printed
    arrays = np.load(tmp_path / "astronaut.npz")
    assert arrays["images"].shape == (4, size, size, 3)
    changed = (arrays["images"][1:] != arrays["images"][0]).any(axis=3).mean(axis=(1, 2))
    assert 0.03 < changed[0] < 0.15  # the square
    assert 0.2 < changed[1] < 0.5  # the mask
    assert changed[2] > 0.9  # the blur
    record = read(tmp_path / "astronaut.json")
    assert [face["name"] for face in record["faces"]][:2] == ["as it is", "square over one eye"]
    assert "NASA" in record["source"]


def test_runs_as_an_installed_command(crops, small, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "captum_plq", "explain", crops[0], *small]
    result = subprocess.run(
        [*command, "-o", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_folder_is_explained_with_a_table_and_a_sheet(run, folder, small, tmp_path, capsys):
    out = folder / "results"
    for _ in range(2):  # the figures of the first are no photos of the second
        assert run("explain", folder, *small, "--write", "figure", "-o", out) == 0
        printed = capsys.readouterr().out
        assert "[26/26] " in printed
        assert " left] " in printed
        lines = printed.splitlines()
        table = lines[lines.index(next(line for line in lines if line.split()[:2] == ["Q", "±"])) :]
        qualities = [float(line.split()[0]) for line in table[1:27]]
        assert qualities == sorted(qualities)
        rows = read(out / "summary.json")["explained"]
        assert len(rows) == 26
        assert qualities[0] == pytest.approx(min(row["quality"] for row in rows), abs=6e-4)
    with Image.open(out / "contact-sheet.png") as sheet:
        assert min(sheet.size) > 500
    assert not list(out.glob("*.npz"))
    assert run("explain", folder, *small, "-o", folder) == 1
    assert "name another folder with -o" in capsys.readouterr().err
    assert run("explain", out, *small, "-o", out / "deeper") == 1  # figures are no crops


def test_results_do_not_depend_on_the_batch_nor_on_a_bad_image_in_it(
    run, crops, small, tmp_path, capsys
):
    blank = tmp_path / "blank.png"
    pixels = np.asarray(Image.open(crops[0])).copy()
    pixels[0] = 7  # which the network refuses
    Image.fromarray(pixels).save(blank)
    found = {}
    for size in (1, 3, 16):
        out = tmp_path / str(size)
        images = [*crops[:2], blank, *crops[2:]]
        assert run("explain", *images, *small, "-o", out, "--batch-size", size) == 1
        assert "blank.png: failed: a blank image" in capsys.readouterr().err
        summary = read(out / "summary.json")
        assert len(summary["failed"]) == 1
        qualities = [row["quality"] for row in summary["explained"]]
        arrays = [np.load(out / f"{crop.stem}.npz") for crop in crops]
        found[size] = [qualities, *(a[name] for a in arrays for name in ("maps", "attributions"))]
    for size in (3, 16):
        for one, other in zip(found[1], found[size], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_lists_tables_patterns_and_archives_are_taken_together(run, crops, small, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
    (tmp_path / "list.txt").write_text(f"{crops[0]}\n")
    (tmp_path / "table.csv").write_text(f"id,face\n1,{crops[1]}\n")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(crops[2], "deep/2.png")
        archive.add(crops[2], "3.png")
    pattern = crops[3].parent / "*-0.png"
    sources = [tmp_path / name for name in ("list.txt", "table.csv", "a.tar")]
    out, more = tmp_path / "out", ["--column", "face", "--workers", "1", "--batch-size", "1"]
    assert run("explain", *sources, pattern, *small, *more, "--write", "none", "-o", out) == 0
    rows = read(out / "summary.json")["explained"]
    members = [f"{tmp_path}/a.tar::{name}" for name in ("deep/2.png", "3.png")]
    expected = [*map(str, crops[:2]), *members, str(crops[3])]
    assert [row["image"] for row in rows] == expected
    records = [f"{name}.json" for name in ("00-0", "01-0", "2", "3", "03-0")]
    assert [row["record"] for row in rows] == records
    assert rows[2]["sha256"] == hashlib.sha256(crops[2].read_bytes()).hexdigest()
    assert read(out / "2.json")["source"] == expected[2]
    assert run("explain", *sources, *small, "--timeout", "0", "-o", out) == 1
    assert "timeout must be above 0" in capsys.readouterr().err
