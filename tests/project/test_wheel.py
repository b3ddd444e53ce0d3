"""What is installed is what is tested: the wheel, in an environment of its own."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

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
import sys
import torch
from torch import nn
import captum_plq
from captum_plq import LayerPixelQuality, PixelQualityAttribution, quality_map

torch.manual_seed(0)
conv = nn.Conv2d(3, 4, 3)
model = nn.Sequential(conv, nn.PReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 8))
images = torch.rand(2, 3, 16, 16)
attributions, quality = PixelQualityAttribution(model).attribute(images, return_quality=True)
maps = quality_map(attributions, gamma=3.0)
assert maps.shape == (2, 16, 16) and maps.std() > 0 and quality.shape == (2,)
assert LayerPixelQuality(model, conv).attribute(images).shape == (2, 4, 14, 14)
assert captum_plq.__version__ == "{version}"
print(captum_plq.__file__)
"""


def run(*command, cwd):
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={"PATH": "", "HOME": str(cwd)}
    )
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
    version = __import__("captum_plq").__version__
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip")
    build = ("wheel", *options, "--no-build-isolation", "--wheel-dir", str(tmp_path))
    run(*pip, *build, str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "captum_plq").rglob("*")
        if path.suffix == ".py"
        or path.name == "py.typed"
        or path.parent.name in ("data", "weights")
    }
    assert wheel.stat().st_size < 10e6
    packaged = {name for name in held if name.startswith("captum_plq/")}
    assert packaged == sources
    assert {name.partition("/")[0] for name in held - packaged} == {
        f"captum_plq-{version}.dist-info"
    }
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert any(name.endswith("LICENSE-APACHE-2.0.txt") for name in held - packaged)

    place = tmp_path / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    run(*pip, "--python", str(python), "install", *options, str(wheel), cwd=tmp_path)
    (packages,) = place.glob("lib/python*/site-packages")
    # The dependencies are looked up where they are; files of paths there are not read anew.
    installed = {sysconfig.get_path("purelib"), *map(str, _site_packages())}
    (packages / "dependencies.pth").write_text("\n".join(sorted(installed)))
    where = run(str(python), "-c", USE.format(version=version), cwd=tmp_path)
    assert Path(where).is_relative_to(packages)
    assert run(str(python), "-c", IMPORTS, cwd=tmp_path) == "captum_plq"
    listed = run(str(place / "bin" / "captum-plq"), "models", cwd=tmp_path)
    assert "iresnet50" in listed
    shown = run(
        str(place / "bin" / "captum-plq"), "demo", "-o", "out", "--passes", "5", cwd=tmp_path
    )
    assert "surgical mask" in shown
    assert (tmp_path / "out" / "astronaut.png").exists()


def _site_packages():
    """Where the packages that this environment sees are, but for the checkout."""
    return [Path(p) for p in sys.path if p.endswith("site-packages")]
