"""What is installed is what is tested: the wheel, in an environment of its own."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from captum_plq import __version__

ROOT = Path(__file__).resolve().parents[2]

IMPORTS = """
import sys
import torch, captum.attr
before = set(sys.modules)
import captum_plq
import captum_plq.integrations.quantus, captum_plq.integrations.grad_cam
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""

USE = """
import torch
from torch import nn
import captum_plq
model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8))
attributions = captum_plq.PixelQualityAttribution(model).attribute(torch.rand(2, 3, 16, 16))
assert captum_plq.quality_map(attributions, gamma=3.0).shape == (2, 16, 16)
print(captum_plq.__file__)
"""


PAGE = """
from fastapi.testclient import TestClient
from captum_plq.web import WebSettings, create_app
app = create_app(WebSettings(), assessor=object())
print(TestClient(app, base_url="http://localhost").get("/").status_code)
"""


def run(*command, cwd):
    env = {"PATH": "", "HOME": str(cwd)}
    done = subprocess.run(map(str, command), cwd=cwd, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_importing_it_imports_nothing_else_of_weight():
    """Beyond torch and captum: no timm, matplotlib, Pillow, compiler, or toolkit."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["captum_plq"]


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path):
    pytest.importorskip("hatchling", reason="builds the wheel")
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip")
    build = ("wheel", *options, "--no-build-isolation", "--wheel-dir", tmp_path)
    run(*pip, *build, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "captum_plq").rglob("*")
        if path.suffix in (".py", ".html")
        or path.name == "py.typed"
        or path.parent.name in ("data", "static", "weights")
    }
    assert wheel.stat().st_size < 10e6
    packaged = {name for name in held if name.startswith("captum_plq/")}
    assert packaged == sources
    about = f"captum_plq-{__version__}.dist-info"
    assert {name.partition("/")[0] for name in held - packaged} == {about}
    for licence in ("licenses/LICENSE", "LICENSE-APACHE-2.0.txt"):
        assert any(name.endswith(licence) for name in held - packaged)

    place = tmp_path / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python, command = place / "bin" / "python", place / "bin" / "captum-plq"
    run(*pip, "--python", python, "install", *options, wheel, cwd=tmp_path)
    (packages,) = place.glob("lib/python*/site-packages")
    # The dependencies are looked up where they are; files of paths there are not read anew.
    installed = {path for path in sys.path if path.endswith("site-packages")}
    installed.add(sysconfig.get_path("purelib"))
    (packages / "dependencies.pth").write_text("\n".join(sorted(installed)))
    assert run(python, "-c", PAGE, cwd=tmp_path) == "200"
    where = run(python, "-c", USE, cwd=tmp_path)
    assert Path(where).is_relative_to(packages)
    assert run(python, "-c", IMPORTS, cwd=tmp_path) == "captum_plq"
    assert "iresnet50" in run(command, "models", cwd=tmp_path)
    assert "surgical mask" in run(command, "demo", "-o", "out", "--passes", "5", cwd=tmp_path)
    assert (tmp_path / "out" / "astronaut.png").exists()
