"""A small network in a file, aligned crops of 13 people, and the command line in this process."""

import os

import numpy as np
import pytest

pytest.importorskip("cyclopts", reason="needs the extra [cli]")
image_module = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from captum_plq.cli import main  # noqa: E402

NETWORK = """
import time, torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

class Net(nn.Sequential):
    def forward(self, x):
        time.sleep(0.0)
        if (x[:, :, 0].amax((1, 2)) == x[:, :, 0].amin((1, 2))).any():  # the first row
            raise ValueError("a blank image")
        return super().forward(x)

def load_model():
    torch.manual_seed(0)
    net = Net(
        nn.Conv2d(3, 6, 5, 3), nn.PReLU(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 8)
    )
    return FaceModel(net, ModelSpec("mine", (32, 32), (127.5,) * 3, (128.0,) * 3))
"""


@pytest.fixture
def run():
    return lambda *arguments: main(
        [os.fspath(a) if hasattr(a, "__fspath__") else str(a) for a in arguments]
    )


@pytest.fixture
def network(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(NETWORK)
    return file


@pytest.fixture
def folder(tmp_path):
    """26 aligned crops of 13 people, ever more noisy, and a file that is none of them."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    bump = 80 + 120 * np.exp(-3 * (x**2 + y**2))[..., None]
    for person in range(13):
        for shot in range(2):
            pixels = bump + generator.normal(0, 4 + 3 * person, (32, 32, 3))
            path = tmp_path / "faces" / f"p{person:02}" / f"{person:02}-{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image_module.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    (tmp_path / "faces" / "notes.txt").write_text("ignored")
    return tmp_path / "faces"


@pytest.fixture
def crops(folder):
    return sorted(folder.rglob("*-0.png"))[:4]


@pytest.fixture
def small(network):
    """Options of a fast run."""
    return ["--aligned", "--passes", "5", "--model", network]
