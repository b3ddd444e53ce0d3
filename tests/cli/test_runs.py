"""Runs of ``captum-plq explain`` that go wrong from outside: signals, names, folders, readers."""

import io
import json
import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from captum_plq._base.folder_lock import folder_lock
from captum_plq.cli import main
from captum_plq.cli.app import app
from captum_plq.explanation import Explainer
from captum_plq.explanation.result import RESULT_ENDINGS
from captum_plq.explanation.run_record import RunRecord


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def program(arguments, reading, stdout, stderr):
    os.close(reading)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the shell ignores it
    sys.stdout, sys.stderr = os.fdopen(stdout, "w"), open(stderr, "w")  # noqa: SIM115
    sys.exit(main([str(argument) for argument in arguments]))


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGPIPE", 141)])
def test_a_signal_or_a_reader_that_goes_away_ends_a_run_in_order(
    run, network, crops, small, tmp_path, capsys, name, code
):
    network.write_text(network.read_text().replace("sleep(0.0)", "sleep(0.3)"))
    out, errors = tmp_path / "out", tmp_path / "errors"
    reading, writing = os.pipe()
    given = (["explain", *crops, *small, "-o", out], reading, writing, errors)
    process = multiprocessing.get_context("fork").Process(target=program, args=given)
    process.start()
    os.close(writing)
    with os.fdopen(reading) as stdout:
        assert "00-0.png: Q = " in stdout.readline()
        if name == "SIGPIPE":
            stdout.close()
        else:
            os.kill(process.pid, getattr(signal, name))
        process.join()
    assert process.exitcode == code
    assert errors.read_text() == ("" if name == "SIGPIPE" else f"captum-plq: stopped by {name}\n")
    found = summary(out)
    done = [row["record"] for row in found["explained"]]
    assert 1 <= len(done) < 4
    assert (found["interrupted"], found["not_reached"]) == (name, 4 - len(done))
    stems = {record.removesuffix(".json") for record in done}
    files = {f"{stem}{ending}" for stem in stems for ending in RESULT_ENDINGS}
    assert {path.name for path in out.iterdir()} == files | {"summary.json", "summary.jsonl"}
    network.write_text(network.read_text().replace("sleep(0.3)", "sleep(0.0)"))
    before = {name: (out / name).stat().st_mtime_ns for name in files}
    assert run("explain", *crops, *small, "-o", out) == 0
    printed = capsys.readouterr().out
    assert f"{len(done)} of 4 images are done by an earlier run" in printed
    assert "[4/4] " in printed
    assert len([line for line in printed.splitlines() if line.endswith("-0")]) == 4  # the table
    assert {name: (out / name).stat().st_mtime_ns for name in files} == before
    assert [len(rows) for rows in summary(out).values()] == [4, 0]
    assert not (out / "summary.jsonl").exists()


@pytest.mark.parametrize(
    ("stream", "arguments"),
    [("stdout", ["models"]), ("stdout", ["--help"]), ("stderr", ["explain", "x.png", "-o", "out"])],
)
def test_what_nobody_reads_is_no_error(run, small, tmp_path, monkeypatch, stream, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_fallback_console", None, raising=False)  # it stays quiet after this
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        assert run(*arguments, *(small if arguments[0] == "explain" else [])) == 141


def test_a_signal_waits_for_what_belongs_together(run, crops, small, tmp_path, monkeypatch):
    leave = RunRecord.__exit__

    def signalled(*_):
        os.kill(os.getpid(), signal.SIGTERM)

    def impatient(self, *error):
        signalled()  # once more, as the run ends
        leave(self, *error)

    monkeypatch.setattr(os, "fsync", signalled)  # of the first file of the first result
    monkeypatch.setattr(RunRecord, "__exit__", impatient)
    assert run("explain", *crops, *small, "-o", tmp_path / "out") == 143
    found = summary(tmp_path / "out")
    assert (len(found["explained"]), found["not_reached"]) == (1, 3)


def test_names_that_no_terminal_should_see(run, crops, small, tmp_path, capsys):
    good = tmp_path / os.fsdecode(b"na\xff\xfeme.png")
    bad = tmp_path / "new\nline\x1b[31m.png"
    crops[0].rename(good)
    bad.write_text("not an image")
    assert run("explain", good, bad, *small, "-o", tmp_path / "out") == 1
    assert run("explain", good, "--\x1b[31m", "x", "-o", tmp_path) == 2
    captured = capsys.readouterr()
    assert r"na\udcff\udcfeme.png: Q = " in captured.out
    assert r"new\nline\x1b[31m.png: failed: is not an image" in captured.err
    assert "\x1b" not in captured.out + captured.err
    (row,), (failed,) = summary(tmp_path / "out").values()
    assert os.fsencode(row["image"]) == os.fsencode(good)
    assert failed["image"] == str(bad)
    record = json.loads((tmp_path / "out" / row["record"]).read_text("utf-8"))
    assert record["source"] == str(good)
    assert (tmp_path / "out" / record["files"]["figure"]).stat().st_size > 1000


def test_a_terminal_of_few_letters_and_reasons_in_time(run, crops, small, tmp_path, monkeypatch):
    (tmp_path / "bad.png").write_text("no image")
    written, errors, told_before = io.BytesIO(), io.StringIO(), []
    explain = Explainer.__call__

    def watching(self, chips):
        told_before.append(errors.getvalue())
        return explain(self, chips)

    monkeypatch.setattr(Explainer, "__call__", watching)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", errors)
    assert run("explain", tmp_path / "bad.png", crops[0], *small, "-o", tmp_path / "out") == 1
    assert "is not an image" in told_before[0]
    assert rb" \xb1 0." in written.getvalue()


@pytest.mark.parametrize("command", ["explain", "demo"])
def test_a_folder_that_cannot_be_had_is_found_before_the_first_face(
    run, crops, small, tmp_path, capsys, command
):
    """Because it is a file, or another run has it."""
    out = tmp_path / "out"
    arguments = [command, *(crops + small if command == "explain" else small[1:]), "-o", out]
    with folder_lock(out):
        assert run(*arguments) == 1
    assert not list(out.iterdir())
    out.rmdir()
    out.write_text("mine")
    assert run(*arguments) == 1
    locked, file = capsys.readouterr().err.splitlines()
    assert "writes into" in locked
    assert f"{out} is a file, not a folder" in file
    assert out.read_text() == "mine"


def test_photos_in_the_output_folder_stay_and_maps_do_not_depend_on_others(
    run, crops, small, tmp_path, capsys
):
    (tmp_path / "summary.jsonl").write_text("{}\n")
    face, other, dark = tmp_path / "a.png", tmp_path / "other" / "a.png", tmp_path / "dark.png"
    other.parent.mkdir()
    crops[0].rename(face)
    crops[1].rename(other)
    Image.fromarray(np.asarray(Image.open(face)) // 8).save(dark)
    before = face.read_bytes()
    maps = []
    for images, stems in (([face, other], ["a-2", "a-3"]), ([dark, face], ["dark-2", "a-2"])):
        assert run("explain", *images, *small, "-o", tmp_path) == 0
        assert [row["record"][:-5] for row in summary(tmp_path)["explained"]] == stems
        maps.append(np.load(tmp_path / "a-2.npz")["maps"])
    np.testing.assert_array_equal(*maps)
    assert f"cut off; its rows are in {tmp_path / 'summary-2.jsonl'}" in capsys.readouterr().out
    assert face.read_bytes() == before
