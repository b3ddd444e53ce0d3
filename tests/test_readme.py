"""What the README shows runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_quick_start_runs(tmp_path, monkeypatch):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()).save("portrait.jpg")
    code = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 20
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["maps"].shape == (1, 150, 150)
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_the_commands_it_shows_exist():
    from captum_plq.cli import _parser

    text = README.read_text("utf-8")
    commands = re.findall(r"^captum-plq (.*)$", text, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        _parser().parse_args(command.split())


def test_the_files_it_links_to_exist():
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", README.read_text("utf-8")):
        assert (README.parent / link).exists(), link
