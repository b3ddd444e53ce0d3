"""Runs of ``captum-plq explain`` that go wrong from outside: signals, names, folders, readers."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from captum_plq.cli import main  # noqa: E402
from captum_plq.explanation.run_record import folder_lock  # noqa: E402

USER_MODEL = """
import time, torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

class Slow(nn.Sequential):
    def forward(self, x):
        time.sleep(PAUSE)
        return super().forward(x)

def load_model():
    torch.manual_seed(0)
    net = Slow(nn.Conv2d(3, 4, 5, 4), nn.PReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 8))
    return FaceModel(net, ModelSpec("mine", (32, 32), (127.5,) * 3, (128.0,) * 3))
"""


@pytest.fixture
def crops(tmp_path):
    """Six aligned crops and two networks, one of which takes its time."""
    for name, pause in (("mine.py", 0), ("slow.py", 0.1)):
        (tmp_path / name).write_text(USER_MODEL.replace("PAUSE", str(pause)))
    folder = tmp_path / "crops"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(6):
        pixels = generator.integers(0, 256, (32, 32, 3), np.uint8)
        image_module.fromarray(pixels).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def options(tmp_path, model="mine.py", out="out"):
    return ["--aligned", "--passes", "5", "--model", tmp_path / model, "-o", tmp_path / out]


def run(*arguments):
    return main([os.fspath(argument) for argument in arguments])


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def started(*arguments, **pipes):
    code = "from captum_plq.cli import main; raise SystemExit(main())"
    return subprocess.Popen([sys.executable, "-c", code, *arguments], **pipes)


def wait_for_a_row(folder, process):
    rows = folder / "summary.jsonl"
    while not rows.exists() or not rows.read_bytes():
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_run_in_order(crops, tmp_path, name, code):
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = started("explain", *crops, *options(tmp_path, "slow.py"), **pipes)
    wait_for_a_row(tmp_path / "out", process)
    process.send_signal(getattr(signal, name))
    process.send_signal(getattr(signal, name))  # impatience costs nothing
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code
    assert errors == f"captum-plq: stopped by {name}\n"
    found = summary(tmp_path / "out")
    done = [row["record"] for row in found["explained"]]
    assert 1 <= len(done) < 6
    assert (found["interrupted"], found["not_reached"]) == (name, 6 - len(done))
    stems = {record.removesuffix(".json") for record in done}
    files = {f"{stem}{ending}" for stem in stems for ending in (".png", ".npz", ".json")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files | {"summary.json"}


def test_a_reader_that_goes_away_ends_a_run_in_order(crops, tmp_path):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = started("explain", *crops, *options(tmp_path, "slow.py"), **pipes)
    assert "0.png: Q = " in process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=600) == 141
    found = summary(tmp_path / "out")
    assert found["interrupted"] == "SIGPIPE"
    assert len(found["explained"]) + found["not_reached"] >= 5


def test_names_that_no_terminal_should_see(crops, tmp_path, capsys):
    folder = crops[0].parent
    good = folder / os.fsdecode(b"na\xff\xfeme.png")
    bad = folder / "new\nline\x1b[31m.png"
    crops[0].rename(good)
    bad.write_text("not an image")
    assert run("explain", good, bad, *options(tmp_path)) == 1
    captured = capsys.readouterr()
    assert r"na\udcff\udcfeme.png: Q = " in captured.out
    assert r"new\nline\x1b[31m.png: failed: is not an image" in captured.err
    assert "\x1b" not in captured.out + captured.err
    found = summary(tmp_path / "out")
    (row,) = found["explained"]
    assert os.fsencode(row["image"]) == os.fsencode(good)
    assert [row["image"] for row in found["failed"]] == [str(bad)]
    record = json.loads((tmp_path / "out" / row["record"]).read_text("utf-8"))
    assert record["source"] == str(good)
    assert (tmp_path / "out" / record["files"]["figure"]).stat().st_size > 1000


def test_a_terminal_of_few_letters(crops, tmp_path, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run("explain", crops[0], *options(tmp_path)) == 0
    assert rb" \xb1 0." in written.getvalue()


def test_reasons_are_told_when_they_occur(crops, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.png").write_text("no image")
    told_before = []

    from captum_plq.explanation import Explainer

    explain = Explainer.__call__

    def watching(self, chips):
        told_before.append(capsys.readouterr().err)
        return explain(self, chips)

    monkeypatch.setattr(Explainer, "__call__", watching)
    assert run("explain", tmp_path / "bad.png", crops[0], *options(tmp_path)) == 1
    assert "is not an image" in told_before[0]


@pytest.mark.parametrize("command", ["explain", "demo"])
def test_an_output_that_is_no_folder_is_found_before_the_first_face(
    crops, tmp_path, capsys, command
):
    (tmp_path / "out").write_text("mine")
    images = crops if command == "explain" else []
    arguments = options(tmp_path)[command == "demo" :]
    assert run(command, *images, *arguments) == 1
    assert f"{tmp_path / 'out'} is a file, not a folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("command", ["explain", "demo"])
def test_the_second_of_two_runs_in_a_folder_is_refused(crops, tmp_path, capsys, command):
    images = crops if command == "explain" else []
    arguments = options(tmp_path)[command == "demo" :]
    with folder_lock(tmp_path / "out"):
        assert run(command, *images, *arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "writes into" in error
    assert not list((tmp_path / "out").iterdir())


def test_photos_in_the_output_folder_stay(crops, tmp_path):
    before = [path.read_bytes() for path in crops]
    folder = crops[0].parent
    assert run("explain", *crops, *options(tmp_path, out="crops")) == 0
    assert [path.read_bytes() for path in crops] == before
    records = [row["record"] for row in summary(folder)["explained"]]
    assert records == [f"{i}-2.json" for i in range(6)]


def test_the_same_face_gets_the_same_map_after_a_dark_one(crops, tmp_path):
    dark = tmp_path / "dark.png"
    image_module.fromarray(np.asarray(image_module.open(crops[1])) // 8).save(dark)
    for out, images in (("alone", crops[:1]), ("after", [dark, crops[0]])):
        assert run("explain", *images, *options(tmp_path, out=out)) == 0
    alone, after = (np.load(tmp_path / out / "0.npz")["maps"] for out in ("alone", "after"))
    np.testing.assert_array_equal(alone, after)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_nobody_reads_is_no_error(tmp_path, monkeypatch, stream):
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["models"] if stream == "stdout" else ["explain", "x.png", *options(tmp_path)]
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        assert run(*arguments) == 141
