"""What the README and the page on photos show runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from captum_plq.faces import sample_face

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PHOTOS = ROOT / "docs" / "how_to" / "photos.md"


def run(page):
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, page.name, "exec"), names)
    return names


def test_the_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run(README)
    assert names["maps"].shape == (1, 7, 7)
    assert names["paper"].shape == (1, 112, 112)
    assert 0.6 < float(names["quality"]) < 0.8
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_a_photo_becomes_the_face_that_the_readme_explains(tmp_path, monkeypatch):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.fromarray(data.astronaut()).save("portrait.jpg", quality=95)
    difference = np.abs(run(PHOTOS)["chip"].astype(float) - sample_face().chip)
    assert difference.mean() < 6  # what JPEG does; another crop differs by tens


@pytest.mark.parametrize("page", [README, PHOTOS], ids=lambda page: page.name)
def test_the_commands_exist(page):
    from captum_plq.cli.app import app

    commands = re.findall(r"^captum-plq ([^#\n]*)", page.read_text("utf-8"), re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        app.parse_args(command.split())
