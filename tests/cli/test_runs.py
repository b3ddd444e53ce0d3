"""Runs of ``captum-plq explain`` that go wrong from outside: signals, names, folders, readers."""

import io
import json
import os
import signal
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from captum_plq.cli import main
from captum_plq.explanation import Explainer
from captum_plq.explanation.run_record import folder_lock


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


class Program:
    """The command line in a process of its own: a fork of this one, so that it starts at once.

    SIGINT acts there as in a foreground process, whatever it does here.
    """

    def __init__(self, *arguments):
        pipes = [os.pipe(), os.pipe()]
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for reading, _ in pipes:
                    os.close(reading)
                sys.stdout, sys.stderr = (os.fdopen(w, "w", encoding="utf-8") for _, w in pipes)
                code = main([str(argument) for argument in arguments])
            finally:
                os._exit(code)
        self.stdout, self.stderr = (os.fdopen(r, encoding="utf-8") for r, _ in pipes)
        for _, writing in pipes:
            os.close(writing)

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def started(*arguments):
    program = Program(*arguments)
    with program.stdout, program.stderr:
        yield program


@pytest.fixture
def slow(network):
    network.write_text(network.read_text().replace("sleep(0.0)", "sleep(0.3)"))


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_run_in_order(crops, small, tmp_path, name, code):
    out = tmp_path / "out"
    with started("explain", *crops, *small, "-o", out) as program:
        rows = out / "summary.jsonl"
        while not rows.exists() or not rows.read_bytes():
            time.sleep(0.02)
        for _ in range(2):  # impatience costs nothing
            os.kill(program.pid, getattr(signal, name))
        assert program.stderr.read() == f"captum-plq: stopped by {name}\n"
        assert program.wait() == code
    found = summary(out)
    done = [row["record"] for row in found["explained"]]
    assert 1 <= len(done) < 4
    assert (found["interrupted"], found["not_reached"]) == (name, 4 - len(done))
    stems = {record.removesuffix(".json") for record in done}
    files = {f"{stem}{ending}" for stem in stems for ending in (".png", ".npz", ".json")}
    assert {path.name for path in out.iterdir()} == files | {"summary.json"}


@pytest.mark.usefixtures("slow")
def test_a_reader_that_goes_away_ends_a_run_in_order(crops, small, tmp_path):
    with started("explain", *crops, *small, "-o", tmp_path / "out") as program:
        assert "00-0.png: Q = " in program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait() == 141
    found = summary(tmp_path / "out")
    assert found["interrupted"] == "SIGPIPE"
    assert len(found["explained"]) + found["not_reached"] == 4


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_nobody_reads_is_no_error(run, small, tmp_path, monkeypatch, stream):
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["models"] if stream == "stdout" else ["explain", "x.png", *small, "-o", tmp_path]
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        monkeypatch.setattr(sys, stream, pipe)
        assert run(*arguments) == 141


def test_names_that_no_terminal_should_see(run, crops, small, tmp_path, capsys):
    good = tmp_path / os.fsdecode(b"na\xff\xfeme.png")
    bad = tmp_path / "new\nline\x1b[31m.png"
    crops[0].rename(good)
    bad.write_text("not an image")
    assert run("explain", good, bad, *small, "-o", tmp_path / "out") == 1
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
    assert run("explain", good, "--\x1b[31m", "x", "-o", tmp_path) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_terminal_of_few_letters(run, crops, small, tmp_path, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run("explain", crops[0], *small, "-o", tmp_path / "out") == 0
    assert rb" \xb1 0." in written.getvalue()


def test_reasons_are_told_when_they_occur(run, crops, small, tmp_path, capsys, monkeypatch):
    (tmp_path / "bad.png").write_text("no image")
    told_before = []
    explain = Explainer.__call__

    def watching(self, chips):
        told_before.append(capsys.readouterr().err)
        return explain(self, chips)

    monkeypatch.setattr(Explainer, "__call__", watching)
    assert run("explain", tmp_path / "bad.png", crops[0], *small, "-o", tmp_path / "out") == 1
    assert "is not an image" in told_before[0]


@pytest.mark.parametrize("command", ["explain", "demo"])
def test_a_folder_that_cannot_be_had_is_found_before_the_first_face(
    run, crops, small, tmp_path, capsys, command
):
    """Because it is a file, or another run has it."""
    out = tmp_path / "out"
    arguments = [*crops, *small] if command == "explain" else small[1:]
    with folder_lock(out):
        assert run(command, *arguments, "-o", out) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "writes into" in error
    assert not list(out.iterdir())
    out.rmdir()
    out.write_text("mine")
    assert run(command, *arguments, "-o", out) == 1
    assert f"{out} is a file, not a folder" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_photos_in_the_output_folder_stay(run, crops, small, tmp_path):
    other = tmp_path / crops[0].name
    crops[0].rename(other)
    other.with_name("other").mkdir()
    crops[1].rename(tmp_path / "other" / crops[0].name)
    before = other.read_bytes()
    images = [other, tmp_path / "other" / crops[0].name]
    for names in (["00-0-2.json", "00-0-3.json"], ["00-0-2.json", "00-0-3.json"]):
        assert run("explain", *images, *small, "-o", tmp_path) == 0
        assert [row["record"] for row in summary(tmp_path)["explained"]] == names
    assert other.read_bytes() == before


def test_the_same_face_gets_the_same_map_after_a_dark_one(run, crops, small, tmp_path):
    dark = tmp_path / "dark.png"
    Image.fromarray(np.asarray(Image.open(crops[1])) // 8).save(dark)
    for out, images in (("alone", crops[:1]), ("after", [dark, crops[0]])):
        assert run("explain", *images, *small, "-o", tmp_path / out) == 0
    alone, after = (np.load(tmp_path / out / "00-0.npz")["maps"] for out in ("alone", "after"))
    np.testing.assert_array_equal(alone, after)
