"""Captum's metrics on a linear network, where they are known."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.protocols.captum_metrics import SIGNED, CaptumMetrics
from benchmarks.subjects.maps import MAPS, select_maps
from captum_plq.models import FaceModel, ModelSpec
from tests.support.face_network import study_context

SIDE = 8
NAMES = ["plq", "saliency-sum", "input-x-gradient", "plq-relative", "random", "centre"]


@pytest.fixture(scope="module")
def rows():
    """The node of a linear network is linear, so its gradient predicts every change exactly."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * SIDE**2, 5))
    spec = ModelSpec("net", (SIDE, SIDE), mean=(127.5,) * 3, std=(127.5,) * 3)
    images = torch.randint(1, 256, (9, 3, SIDE, SIDE)).float()
    model = FaceModel(layers, spec).eval()
    context = study_context(model, select_maps(NAMES), images[:3], images[3:], passes=6)
    found = CaptumMetrics(model=("net",), samples=12, draws=3).rows(context, images[:3], "abc")
    assert context.failed == {}
    return found


def of(rows, method, metric, perturbation="noise"):
    own = [r for r in rows if (r["method"], r["perturbation"]) == (method, perturbation)]
    return [row.get(metric) for row in own]


@pytest.mark.parametrize("perturbation", ["noise", "square"])
def test_gradients_explain_all_and_noise_does_not(rows, perturbation):
    # the network is linear but the unit embedding is not: what is left is its curvature
    chance = of(rows, "random", "infidelity_node", perturbation)
    for method in ("plq", "input-x-gradient"):
        own = of(rows, method, "infidelity_node", perturbation)
        assert max(own) < 0.1
        assert all(x < y / 3 for x, y in zip(own, chance, strict=True))
    serfiq = of(rows, "plq", "infidelity_serfiq", perturbation)
    assert all(0 <= x <= 1 + 1e-5 for x in (*chance, *serfiq))


def test_maps_without_a_sign_have_no_infidelity(rows):
    for method in ("plq-relative", "centre"):
        assert of(rows, method, "infidelity_node") == [None] * 3
    assert set(SIGNED) <= set(MAPS)


def test_sensitivity_and_sparseness_stand_once(rows):
    assert of(rows, "centre", "sensitivity") == [0.0] * 3
    assert min(of(rows, "random", "sensitivity")) > 0.3
    for metric in ("sensitivity", "gini", "complexity"):
        assert of(rows, "plq", metric, "square") == [None] * 3
    np.testing.assert_allclose(of(rows, "random", "gini"), 1 / 3, atol=0.1)  # uniform numbers
    assert max(of(rows, "plq", "complexity")) <= np.log(SIDE**2)
