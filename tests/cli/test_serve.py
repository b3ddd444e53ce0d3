"""``captum-plq serve``: a real process that is asked, told to end, and does."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

for module in ("fastapi", "uvicorn", "cv2", "dlib"):
    pytest.importorskip(module, reason="needs the extra [web]")

from captum_plq.cli.app import app  # noqa: E402
from captum_plq.cli.options import Estimating  # noqa: E402
from captum_plq.cli.serve import Serving  # noqa: E402
from captum_plq.explanation import Settings  # noqa: E402
from captum_plq.web import WebSettings  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
HEAD = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'


@contextmanager
def serving(folder, *options):
    """A server on a free port: its process, and its address."""
    command = [sys.executable, "-m", "captum_plq", "serve", "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**environment, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # not as with `&`
    )
    try:
        assert select.select([process.stdout], [], [], 120)[0], "it does not start"
        line = process.stdout.readline()
        yield process, re.fullmatch(r"(http://\S+)/ \(Ctrl-C ends it\)\n", line)[1]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ask(url, body=None, **headers):
    request = urllib.request.Request(url, body, {**FORM, **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_it_tells_its_address_answers_and_ends_at_a_signal(tmp_path):
    with serving(tmp_path) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        status, page = ask(f"{url}/")
        assert (status, b"<title>" in page) == (200, True)
        assert json.loads(ask(f"{url}/api/about")[1])["network"] == "mobilefacenet-places"
        status, answer = ask(f"{url}/api/photo", HEAD + b"x" * 200 + b"\r\n--x--\r\n")
        assert (status, b"is not an image" in answer) == (415, True)
        # Heard out, so that the sentence is read: not a connection that breaks.
        status, answer = ask(f"{url}/api/photo", HEAD + b"x" * (25 * 2**20) + b"\r\n--x--\r\n")
        assert (status, b"longer than 10 MiB" in answer) == (413, True)
        assert ask(f"{url}/", Host="evil.org")[0] == 403
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert process.stderr.read() == "captum-plq: stopped by SIGINT\n"
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_it_means_to_open_it_and_to_keep_photos(tmp_path):
    options = ("--host", "0.0.0.0", "--proxied-as", "a.org", "--keep", "kept", "--model")
    with serving(tmp_path, *options, "mobilefacenet-dropout") as (process, url):
        port = int(url.rpartition(":")[2])
        assert ask(f"http://127.0.0.1:{port}/api/about", Host="a.org")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        told = process.stderr.read()
    assert "whoever reaches 0.0.0.0 can send photos to this machine, unencrypted" in told
    assert "Open to whoever the proxy lets in as a.org" in told
    assert "are kept in kept" in told


def test_a_port_that_is_taken_is_an_error_of_one_line(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run("serve", "--port", port) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"captum-plq: Port {port} of 127.0.0.1 cannot be used")
    assert error.endswith("usage: captum-plq serve --help\n")
    assert error.count("\n") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nothing"], "nothing"),
        (["--calibration", "nothing.npz"], "no calibration file"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_one_line(run, capsys, options, message):
    assert run("serve", *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


NO_PORT = "is no port; give a whole number from 1 to 65535, or 0 for any that is free."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], f"Invalid value for --port: '99999' {NO_PORT}"),
        (["--port", "abc"], f"'abc' {NO_PORT}"),
        (["--port=-1"], f"'-1' {NO_PORT}"),
        (["--port", ""], f"'' {NO_PORT}"),
        (["--port", "8000.5"], f"'8000.5' {NO_PORT}"),
        (["--port", "²"], f"'²' {NO_PORT}"),
        (["--host", ""], "--host: it is empty; give an address"),
        (["--host", "ü..x"], "Port 8000 of ü..x cannot be used"),
        (["--keep", ""], "--keep: it is empty; give a folder, or leave the option out"),
        (["--keep", "  "], "--keep: it is empty; give a folder"),
        (["--proxied-as", ""], "--proxied-as: it is empty; give a name"),
        (["--proxied-as", "http://a"], "a name such as"),
        (["--rate", "0"], "rate must be 1 or more"),
        (["--rate", "many"], "Invalid value for --rate: 'many' is not a whole number."),
        (["--places", "0"], "places must be 1 or more"),
    ],
)
def test_bad_choices_are_wrong_usage_before_the_network_is_loaded(
    run, capsys, monkeypatch, options, message
):
    monkeypatch.setattr("captum_plq.web.assess.load_model", None)  # which could not be called
    assert run("serve", *options) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.endswith("\nusage: captum-plq serve --help\n")
    assert error.count("\n") == 2


def test_a_folder_for_photos_is_tried_before_the_network_is_loaded(run, capsys, monkeypatch):
    monkeypatch.setattr("captum_plq.web.assess.load_model", None)
    assert run("serve", "--port", "0", "--keep", "/proc/nowhere") == 1
    assert "Photos cannot be kept in /proc/nowhere" in capsys.readouterr().err


def test_every_option_reaches_the_settings():
    line = (
        "serve --model m --checkpoint w --passes 7 --device meta --dropout .3 --seed 2 --estimator "
        "balanced --calibration c --host h --port 1 --proxied-as p --keep k --max-bytes 5000 "
        "--max-pixels 60000 --rate 9 --places 5"
    )
    _, bound, _ = app.parse_args(line.split())
    options, network = bound.kwargs["options"], bound.kwargs["network"]
    assert options.port == 1
    assert options.settings(network) == WebSettings(
        model="m",
        checkpoint=Path("w"),
        calibration="c",
        explaining=Settings(passes=7, dropout=0.3, seed=2, estimator="balanced", device="meta"),
        host="h",
        proxied_as="p",
        keep=Path("k"),
        max_bytes=5000,
        max_pixels=60_000,
        rate=9,
        places=5,
    )
    assert Serving().settings(Estimating()) == WebSettings()
