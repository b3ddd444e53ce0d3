"""Which maps pass, on a network of two layers."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.protocols.sanity import RULE, Sanity, verdicts
from benchmarks.subjects.maps import select_maps
from benchmarks.subjects.methods import Method
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.metrics import smooth_mprt, spearman, with_random_weights
from captum_plq.models import FaceModel, ModelSpec
from tests.support.face_network import study_context

SIDE = 16


def brightness(subject):
    """Ignores the network; depends on the image."""
    return lambda images: images.mean(1)


def company(subject):
    """Knows the images that it comes with."""
    return lambda images: images.mean(1) + images.mean() * torch.arange(SIDE).view(1, SIDE, 1)


def gradient(subject):
    def explain(images):
        leaf = images.clone().requires_grad_()
        (found,) = torch.autograd.grad(subject.model(leaf).sum(), leaf)
        return found.abs().mean(1)

    return explain


def broken_when_random(subject):
    def explain(images):
        own, trained = (next(x.parameters()) for x in (subject.model, network()))
        if not torch.equal(own, trained):
            raise LookupError("no such weights")
        return images.mean(1)

    return explain


def network():
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 49, 6)
    )
    spec = ModelSpec("net", (SIDE, SIDE), mean=(127.5,) * 3, std=(127.5,) * 3)
    return FaceModel(layers, spec).eval()


@pytest.fixture(scope="module")
def faces():
    return torch.randint(0, 256, (14, 3, SIDE, SIDE), generator=torch.manual_seed(1)).float()


@pytest.fixture(scope="module")
def context(faces):
    own = (brightness, company, gradient, broken_when_random)
    methods = [Method(build.__name__, "other", build, bounded=True) for build in own]
    methods += select_maps(["random", "centre"])
    return study_context(network(), methods, faces[:4], faces[4:], passes=4)


@pytest.fixture(scope="module")
def rows(context, faces):
    return Sanity(model=("m",), samples=2, stages=2, others=3).rows(context, faces[:4], "abcd")


def of(rows, method, metric):
    return [row[metric] for row in rows if row["method"] == method]


def test_what_ignores_the_network_or_knows_its_company_is_found_out(rows):
    for method in ("brightness", "centre"):
        np.testing.assert_allclose(of(rows, method, "weights"), 1.0, rtol=1e-9)
        assert of(rows, method, "emprt") == [0.0] * 4
    assert max(of(rows, "gradient", "weights")) < 0.7
    assert min(of(rows, "company", "company")) > 0.001
    assert max(of(rows, "brightness", "company")) == 0


def test_numbers_are_those_of_the_definitions(rows, context, faces):
    curve = smooth_mprt(
        context.model,
        faces[:4],
        lambda net, x: gradient(context.subject.of(net))(x),
        samples=2,
        stages=2,
        calibration=faces[4:],
    )
    np.testing.assert_allclose(of(rows, "gradient", "weights"), curve.similarity[-1], rtol=1e-9)
    stages = [list(found.values()) for found in of(rows, "gradient", "stages")]
    np.testing.assert_allclose(stages, curve.similarity.T, rtol=1e-9)
    maps, others = faces[:4].mean(1), faces[4:7].mean(1)
    expected = [np.mean([spearman(one[None], x[None]).item() for x in others]) for one in maps]
    np.testing.assert_allclose(of(rows, "brightness", "others"), expected, rtol=1e-9)
    for metric in ("others", "centre"):
        np.testing.assert_allclose(of(rows, "centre", metric), 1.0, rtol=1e-9)


def test_a_map_that_breaks_on_random_weights_is_left_out(rows, context):
    assert of(rows, "broken_when_random", "weights") == []
    assert "no such weights" in context.failed["broken_when_random"]


def test_relative_maps_are_made_anew_for_each_network(faces, monkeypatch):
    """plq-relative compares with what the SAME network's map shows on the reference."""
    (method,) = select_maps(["plq-relative"])
    context = study_context(network(), (method,), faces[:4], faces[4:], passes=4)
    monkeypatch.setattr(Sanity, "noise", 0.0)
    rows = Sanity(model=("m",), samples=1, stages=1).rows(context, faces[:4], "abcd")
    null = with_random_weights(context.model, 0, images=faces[4:])
    fresh = ExplainedNetwork(null, passes=4, reference=faces[4:], batch=6)
    maps = [method.build(subject)(faces[:4]).detach() for subject in (context.subject, fresh)]
    np.testing.assert_allclose(of(rows, "plq-relative", "weights"), spearman(*maps), atol=1e-5)


def test_the_rule_by_hand():
    estimates = {
        "weights": {"good": (0.1, 0.2), "wide": (0.4, 0.6), "one": (0.4, None)},
        "others": {"good": (0.1, 0.2), "wide": (0.1, 0.2), "one": (0.9, None)},
        "company": {"good": (0, 0), "wide": (0, 0), "one": (0.01, None)},
    }
    cells = {
        metric: {name: {"all": {"mean": mean, "high": high}} for name, (mean, high) in own.items()}
        for metric, own in estimates.items()
    }
    assert verdicts(cells) == {"good": [], "wide": ["weights"], "one": ["others", "company"]}
    assert set(RULE) <= set(Sanity.words()[2])
