"""Bad images become rows, and never hold a run up or cost the others."""

import os
import signal
import socket
import time

import numpy as np
import pytest
import torch
from PIL import Image

from captum_plq.faces import sample_face
from captum_plq.gallery import read_result, run, score_gallery
from captum_plq.preparation import REASONS, loader, prepare
from tests.gallery.conftest import rows_of, write_crops
from tests.preparation.test_listing import EVIL, archive  # noqa: F401

data = pytest.importorskip("skimage.data", reason="needs scikit-image")
posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")


def rows(result):
    return {row["path"]: row for row in read_result(result).table().to_pylist()}


@posix
@pytest.mark.parametrize("workers", [0, 1])
def test_every_bad_kind_is_a_row(settings, tmp_path, monkeypatch, workers):
    source = write_crops(tmp_path / "crops", 3)
    whole = (source / "a" / "00.png").read_bytes()
    (source / "b" / "cut.png").write_bytes(whole[:900])
    (source / "b" / "empty.png").touch()
    (source / "b" / "text.jpg").write_text("not an image")
    (source / "b" / "folder.jpg").mkdir()
    Image.fromarray(sample_face().chip[:, :80]).save(source / "b" / "narrow.png")
    Image.fromarray(sample_face().chip).resize((8, 8)).save(source / "b" / "small.png")
    Image.new("F", (112, 112)).save(source / "b" / "float.tif")
    Image.new("1", (9000, 9000)).save(source / "b" / "huge.png")
    os.mkfifo(source / "b" / "fifo.jpg")
    monkeypatch.chdir(source / "b")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    for name, target in {"zero": "/dev/zero", "gone": "nowhere", "loop": "loop.jpg"}.items():
        (source / "b" / f"{name}.jpg").symlink_to(target)
    start = time.monotonic()
    summary = score_gallery(source, tmp_path / "result", settings(workers=workers, batch_size=8))
    assert time.monotonic() - start < 60
    found = rows(tmp_path / "result")
    reasons = {os.path.basename(path): row["reason"] for path, row in found.items()}
    assert reasons == {
        **dict.fromkeys(("00.png", "01.png", "02.png"), None),
        **{"cut.png": "damaged", "empty.png": "empty", "text.jpg": "not_an_image"},
        **dict.fromkeys(("folder.jpg", "fifo.jpg", "socket.jpg", "zero.jpg"), "not_a_file"),
        **{"narrow.png": "proportions", "small.png": "too_small", "huge.png": "too_large"},
        **{"float.tif": "unknown_range", "gone.jpg": "missing", "loop.jpg": "unreadable"},
    }
    for row in found.values():
        assert row["status"] == REASONS.get(row["reason"], "ok")
        assert (
            (row["quality"] is None) == (row["detail"] is not None) == (row["reason"] is not None)
        )
        assert str(source) not in (row["detail"] or "")
    assert found["b/cut.png"]["sha256"] is not None
    assert summary.counts["not_a_file"] == 4


def test_faces_are_found_and_all_of_them_on_request(settings, tmp_path):
    portrait = data.astronaut()
    source = tmp_path / "photos"
    source.mkdir()
    Image.fromarray(np.concatenate([portrait // 3, portrait], axis=1)).save(source / "two.png")
    Image.fromarray(data.coffee()).save(source / "none.png")
    score_gallery(source, tmp_path / "best", settings(aligned=False))
    none, two = rows(tmp_path / "best").values()
    assert (none["reason"], none["face"], none["box"]) == ("no_face", None, None)
    assert (two["status"], two["face"], two["faces"] >= 2) == ("ok", 1, True)
    assert len(two["box"]) == 4
    assert len(two["landmarks"]) == 10
    score_gallery(source, tmp_path / "all", settings(aligned=False, all_faces=True, batch_size=1))
    table = read_result(tmp_path / "all").table()
    assert table["face"].to_pylist() == [None, *range(1, two["faces"] + 1)]
    scores = table["detector_score"].to_pylist()[1:]
    assert scores == sorted(scores, reverse=True)
    assert table["cut_off"].to_pylist()[:2] == [None, 0.0]
    assert table["quality"][1].as_py() == pytest.approx(two["quality"], abs=1e-5)


def test_an_archive_of_evil_names_writes_nothing_outside(settings, tmp_path, archive):  # noqa: F811
    before = {path for path in tmp_path.rglob("*")}
    score_gallery(archive, tmp_path / "result", settings(maps="png", batch_size=9))
    written = {path for path in tmp_path.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path / "result") for path in written)
    assert not any("evil" in path.name for path in written)
    assert not os.path.exists("/etc/evil.png")
    found = rows(tmp_path / "result")
    assert len(found) == sum(name.endswith(".png") for name in EVIL)
    assert {row["reason"] for row in found.values()} == {"uninformative", "not_a_file", "empty"}


def badly(monkeypatch, act):
    """Let the decoder act badly on one image."""
    real = prepare.decode_image

    def decode(content, name):
        if name.endswith("01.png"):
            act()
        return real(content, name)

    monkeypatch.setattr(prepare, "decode_image", decode)


@posix
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_was_killed_costs_nothing(
    crops, undisturbed, settings, tmp_path, monkeypatch, workers
):
    def once():
        try:
            (tmp_path / "killed").mkdir()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    badly(monkeypatch, once)
    notes = []
    score_gallery(
        crops,
        tmp_path / "result",
        settings(workers=workers),
        progress=lambda p: notes.append(p.note),
    )
    assert any("killed" in note or "exited" in note for note in notes)
    assert rows_of(tmp_path / "result") == rows_of(undisturbed)


@posix
def test_an_image_that_kills_every_worker_is_a_row(
    crops, undisturbed, settings, tmp_path, monkeypatch
):
    badly(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    done = []
    score_gallery(crops, tmp_path / "result", settings(workers=1), progress=done.append)
    here, there = rows(tmp_path / "result"), rows(undisturbed)
    killer = here.pop("b/01.png")
    there.pop("b/01.png")
    assert (killer["status"], killer["reason"]) == ("failed", "crash")
    assert "2 times" in killer["detail"]
    assert [row["quality"] for row in here.values()] == pytest.approx(
        [row["quality"] for row in there.values()], abs=1e-5
    )
    assert done[-1].done == done[-1].total


@posix
@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_takes_too_long_is_given_up(crops, settings, tmp_path, monkeypatch, workers):
    badly(monkeypatch, lambda: time.sleep(60))
    score_gallery(crops, tmp_path / "result", settings(workers=workers, timeout=0.5))
    row = rows(tmp_path / "result")["b/01.png"]
    assert (row["status"], row["reason"]) == ("failed", "timeout")
    assert row["detail"] == "was given up after 0.5 seconds."
    assert read_result(tmp_path / "result").table()["status"].to_pylist().count("ok") == 13
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


@posix
@pytest.mark.slow
def test_a_worker_that_nothing_wakes_is_given_up(crops, settings, tmp_path, monkeypatch):
    def hang():
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        time.sleep(600)

    badly(monkeypatch, hang)
    monkeypatch.setattr(loader, "_GRACE", 2.0)
    score_gallery(crops, tmp_path / "result", settings(workers=1, timeout=1.0))
    assert rows(tmp_path / "result")["b/01.png"]["reason"] == "timeout"


def test_a_face_without_a_quality_does_not_cost_the_others(settings):
    scorer = run.FaceScorer(settings())
    images = torch.stack([scorer._sample_face()[0]] * 3)
    images[1] = torch.nan
    measured = scorer(images)
    assert list(measured.refused) == [1]
    assert measured.refused[1][0] == "uninformative"
    quality = measured.columns["quality"]
    assert np.isnan(quality).tolist() == [False, True, False]
    assert measured.maps.shape == (3, 7, 7)
    whole = scorer(images[[0, 2]])
    np.testing.assert_allclose(quality[[0, 2]], whole.columns["quality"], atol=1e-6)
