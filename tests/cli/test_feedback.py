"""Feedback on the command line: ``explain --feedback`` and the columns of ``score``."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("dlib", reason="needs the extra [faces]")
data = pytest.importorskip("skimage.data", reason="needs scikit-image")

from captum_plq.faces import blur, detect_faces, sample_face  # noqa: E402
from captum_plq.faces.disturb.standards import change_exposure  # noqa: E402


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "dark.png"
    path.parent.mkdir()
    Image.fromarray(change_exposure(data.astronaut(), -4.0)).save(path)
    return path


def test_explain_tells_verdict_and_reasons_as_text_and_json(run, photo, tmp_path, capsys):
    assert run("explain", photo, "--feedback", "--write", "none", "-o", tmp_path / "out") == 0
    told = json.loads((tmp_path / "out" / "dark.json").read_text("utf-8"))["feedback"]
    assert told["verdict"] == "retake"
    first = told["reasons"][0]
    assert first["cause"] == "too dark"
    assert first["evidence"]["luminance_mean"] == pytest.approx(told["measures"]["luminance_mean"])
    assert told["measures"]["inter_eye_distance"] > 30
    lines = capsys.readouterr().out
    assert "  retake\n" in lines
    assert first["sentence"] in lines


@pytest.mark.parametrize("command", ["explain", "score"])
def test_a_cut_off_face_and_a_weak_detection_are_told(run, tmp_path, monkeypatch, command):
    def told():
        if command == "explain":
            assert run("explain", path, "--feedback", "--write", "none", "-o", out) == 0
            found = json.loads((out / "cut.json").read_text("utf-8"))["feedback"]
            reasons = [(x["cause"], x["weak"]) for x in found["reasons"]]
            return found["verdict"], reasons
        pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
        from captum_plq.gallery import read_result

        assert run("score", path.parent, "--feedback", "--workers", "0", "-o", out) == 0
        (row,) = read_result(out).table().to_pylist()
        return row["verdict"], list(zip(row["causes"], row["weak"], strict=True))

    portrait, path = data.astronaut(), tmp_path / "photos" / "cut.png"
    path.parent.mkdir()
    (face,) = detect_faces(portrait)
    left, _, right, _ = face.box
    Image.fromarray(portrait[:, left + (right - left) // 3 :]).save(path)
    out = tmp_path / "out"
    verdict, reasons = told()
    assert (verdict, reasons[0]) == ("retake", ("cut off", False))

    def faintly(image):
        return [dataclasses.replace(face, score=0.1) for face in detect_faces(image)]

    monkeypatch.setattr("captum_plq.faces.aligned.detect_faces", faintly)
    out = tmp_path / "faint"
    verdict, reasons = told()
    assert (verdict, reasons[1]) == ("perhaps no face", ("cut off", True))


def test_without_the_option_nothing_is_said(run, photo, tmp_path, capsys):
    assert run("explain", photo, "--write", "none", "-o", tmp_path / "out") == 0
    assert "feedback" not in json.loads((tmp_path / "out" / "dark.json").read_text("utf-8"))
    assert "retake" not in capsys.readouterr().out


def test_score_has_columns_of_verdict_and_causes(run, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra [gallery]")
    from captum_plq.gallery import read_result

    crops = tmp_path / "crops"
    crops.mkdir()
    for i, chip in enumerate((sample_face().chip, blur(sample_face().chip, 3.0))):
        Image.fromarray(chip).save(crops / f"{i}.png")
    Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(crops / "2.png")
    out = tmp_path / "result"
    fast = ["--aligned", "--estimator", "closed-form", "--workers", "0", "-o", out]
    assert run("score", crops, "--feedback", *fast) == 0
    table = read_result(out).table(["status", "verdict", "causes", "weak"])
    assert table["status"].to_pylist() == ["ok", "ok", "refused"]
    assert table["verdict"].to_pylist()[1:] == ["retake", None]
    assert table["causes"].to_pylist()[1][0] == "blurred"
    assert table["weak"].to_pylist()[1][0] is False
    assert table["causes"].to_pylist()[2] is None
    shutil.rmtree(out)
    assert run("score", crops, *fast) == 0
    assert "verdict" not in read_result(out).table().column_names
