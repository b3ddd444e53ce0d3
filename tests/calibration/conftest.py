"""A network, and a calibration of it."""

import pytest
import torch
from torch import nn

from captum_plq import QualityScaling
from captum_plq.calibration import Calibration
from captum_plq.calibration.settings import MethodSettings, network_digest
from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.functional.local import LocalReference
from captum_plq.functional.relative import GradientReference
from captum_plq.models import FaceModel, ModelSpec


def network(seed=0, name="toy", **changes):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 8, 5))
    facts = {"mean": (127.5,) * 3, "std": (128.0,) * 3, **changes}
    return FaceModel(net, ModelSpec(name, (6, 8), **facts)).eval()


@pytest.fixture
def calibration():
    mean = torch.linspace(-15, -9, 48).view(6, 8)
    spread = torch.linspace(0.5, 1, 48).view(6, 8)
    mean[5] = spread[5] = torch.nan
    return Calibration(
        network="toy",
        input_size=(6, 8),
        conditions=MethodSettings(passes=20),
        scaling=QualityScaling(120.0, 0.61),
        gamma=10.7,
        reference=GradientReference(mean, spread, 5, 0.65),
        network_digest=network_digest(network()),
        faces=150,
        good_faces=75,
        low_quality=0.58,
        high_quality=0.62,
        centre_quality=0.9,
        border_quality=0.1,
        gamma_holds=0.99,
        source="Gesichter, größtenteils gut",
        date="2026-01-02",
        versions={"torch": "2.6", "dlib-bin": None},
        note="a note",
        local=LocalReference(
            4.5,
            torch.arange(6.0).view(2, 3) - 3,
            1 + torch.rand(2, 3),
            torch.rand(2, 2, 3),
            PlaceCentres((0.1, 0.05), (0.5, 0.25)),
        ),
        local_layer="backbone.last",
    )
