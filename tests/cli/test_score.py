"""``captum-plq score``: options, what is told, and how it ends."""

import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("pyarrow", reason="needs the extra [gallery]")

from captum_plq.cli import score as command
from captum_plq.cli.app import app
from captum_plq.gallery import ScoreSettings, read_result

FAST = ["--workers", "0", "--shard-size", "8", "--batch-size", "4"]


def test_every_option_reaches_the_settings(tmp_path):
    line = (
        "score photos/ -o out --model m --checkpoint w --passes 7 --dropout .3 --seed 2 "
        "--estimator balanced --calibration none --aligned --all-faces --maps npz --embeddings "
        "--batch-size 8 --workers 3 --shard-size 99 --timeout 5 --device meta"
    )
    _, bound, _ = app.parse_args(line.split())
    assert bound.kwargs["options"].scoring() == ScoreSettings(
        model="m", checkpoint="w", passes=7, dropout=0.3, seed=2, estimator="balanced",
        calibration="none", aligned=True, all_faces=True, maps="npz", embeddings=True,
        batch_size=8, workers=3, shard_size=99, timeout=5.0, device="meta",
    )  # fmt: skip
    _, bound, _ = app.parse_args(["score", "photos/", "-o", "out"])
    assert "options" not in bound.kwargs
    assert command.Scoring().scoring() == ScoreSettings()


def test_a_folder_becomes_a_table_and_is_not_scored_twice(run, folder, small, tmp_path, capsys):
    (folder / "p00" / "bad.png").write_text("no image")
    assert run("score", folder, "-o", tmp_path / "out", *small, *FAST) == 0
    printed = capsys.readouterr().out
    assert "There is no local quality" in printed
    assert "holds 27 rows of 27 images" in printed
    assert "not an image   1" in printed
    assert "seconds in all processes and runs: read " in printed
    assert read_result(tmp_path / "out").table()["status"].to_pylist().count("ok") == 26
    assert run("score", folder, "-o", tmp_path / "out", *small, *FAST) == 0
    assert "all was done before" in capsys.readouterr().out
    assert run("score", folder, "-o", tmp_path / "out", *small, "--passes", "6") == 1
    assert "was begun with passes 5, not 6" in capsys.readouterr().err


def test_no_image_with_a_quality_is_a_failure(run, network, tmp_path, capsys, monkeypatch):
    kept = []
    monkeypatch.setattr("captum_plq._base.allocation.keep_freed_memory", lambda: kept.append(True))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").touch()
    assert run("score", tmp_path / "bad", "-o", tmp_path / "out", "--model", network, *FAST) == 1
    assert "empty  1" in capsys.readouterr().out
    assert kept == [True]
    assert run("score", tmp_path / "nowhere", "-o", tmp_path / "out") == 1
    assert "There is no folder, pattern" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_goes_to_standard_error(
    run, folder, small, tmp_path, capsys, monkeypatch, terminal
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setattr(command, "_EVERY", 0.0)
    assert run("score", folder, "-o", tmp_path / "out", *small, *FAST) == 0
    captured = capsys.readouterr()
    last = "100%|" if terminal else "26 of 26 images, "
    assert last in captured.err
    assert "a second" in captured.err or "images/s" in captured.err
    assert "images/s" not in captured.out


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_a_run_that_was_stopped_goes_on(run, folder, small, network, tmp_path):
    network.write_text(network.read_text().replace("sleep(0.0)", "sleep(0.4)"))
    out = tmp_path / "out"
    asked = ["score", str(folder), "-o", str(out), *map(str, small), *FAST]
    command = [sys.executable, "-m", "captum_plq", *asked]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("shards/part-*")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told.splitlines()[-1]) == (143, "captum-plq: stopped by SIGTERM")
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("shards/*")}
    assert 0 < len(done) < 4
    network.write_text(network.read_text().replace("sleep(0.4)", "sleep(0.0)"))
    assert run(*asked) == 0
    now = {path.name: path.stat().st_mtime_ns for path in out.glob("shards/*")}
    assert done.items() <= now.items()
    assert len(now) == 4
