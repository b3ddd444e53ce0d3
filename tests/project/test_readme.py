"""What the README shows runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from captum_plq.faces import sample_face

README = Path(__file__).resolve().parents[2] / "README.md"


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def test_the_quick_start_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = python_blocks()[0]
    assert len(code.strip().splitlines()) <= 20
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["maps"].shape == (1, 112, 112)
    assert 0.6 < float(names["quality"]) < 0.8
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_a_photo_becomes_the_face_that_the_quick_start_explains(tmp_path, monkeypatch):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()).save("portrait.jpg", quality=95)
    names: dict[str, object] = {}
    exec(compile(python_blocks()[1], "README.md", "exec"), names)
    difference = np.abs(names["chip"].astype(float) - sample_face().chip)
    assert difference.mean() < 6  # what JPEG does; another crop differs by tens


def test_the_commands_it_shows_exist():
    from captum_plq.cli.app import _parser

    text = README.read_text("utf-8")
    commands = re.findall(r"^captum-plq (.*)$", text, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        _parser().parse_args(command.split())


def test_the_files_it_links_to_exist():
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", README.read_text("utf-8")):
        assert (README.parent / link).exists(), link
