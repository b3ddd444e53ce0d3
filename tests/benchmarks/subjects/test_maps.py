"""Every map of the registry on a small network, and what maps must share with the package."""

import pytest
import torch
from torch import nn

from benchmarks.harness.old_context import StudyContext
from benchmarks.subjects.maps import MAPS, select_maps
from benchmarks.subjects.methods import on_random_weights
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq import PixelQualityAttribution
from captum_plq.functional import merge_channels
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics import spearman
from captum_plq.models import FaceModel, ModelSpec

SIDE = 24


@pytest.fixture
def context():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 36, 16),
    )
    spec = ModelSpec("small", (SIDE, SIDE), mean=(127.5,) * 3, std=(127.5,) * 3)
    model = FaceModel(network, spec).eval()
    reference = torch.randint(0, 256, (6, 3, SIDE, SIDE)).byte()
    subject = ExplainedNetwork(model, 0.0, 255.0, 20, 0.5, 0, 32, reference, 4)
    return StudyContext(model, subject, select_maps(["all"]))


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=generator).float()


def test_every_map_runs(context, images):
    before = {k: v.clone() for k, v in context.model.state_dict().items()}
    maps = context.maps(images)
    assert context.failed == {}
    assert list(maps) == list(MAPS)
    for name, found in maps.items():
        assert found.shape == (3, SIDE, SIDE), name
        assert torch.isfinite(found).all(), name
        assert (found >= 0).all(), name
        p = context.pixel_qualities(name, found)
        assert (p >= 0).all(), name
        assert (p <= 1).all(), name
    for name, found in context.maps(images).items():
        torch.testing.assert_close(found, maps[name], msg=name)
    assert all(torch.equal(v, before[k]) for k, v in context.model.state_dict().items())


def test_plq_is_the_packages_own(context, images):
    plq = PixelQualityAttribution(context.subject.serfiq())
    expected = merge_channels(plq.attribute(images))
    torch.testing.assert_close(context.maps(images)["plq"], expected)


def test_merged_saliency_ranks_like_plq(context, images):
    maps = context.maps(images)
    assert (spearman(maps["plq"], maps["saliency"]) > 0.9999).all()


def test_relative_is_the_packages_own(context, images):
    subject = context.subject
    plq = PixelQualityAttribution(subject.serfiq())
    reference = subject.reference.float()
    quality = subject.quality(reference)
    good = reference[quality >= quality.double().quantile(0.5)]
    assert len(good) == 3
    logs = merge_channels(plq.attribute(good)).log()
    merged = merge_channels(plq.attribute(images))
    maps = context.maps(images)
    for name, boxes in {"plq-relative": (5, 1), "plq-relative-smooth": (7, 7)}.items():
        expected = relative_pixel_quality(merged, gradient_reference(logs, *boxes))
        torch.testing.assert_close(maps[name], expected, rtol=1e-4, atol=1e-5)


def test_pooled_is_a_geometric_mean(context, images):
    maps = context.maps(images)
    box = (
        maps["plq"][0, :3, 4:9].clamp_min(torch.finfo(torch.float32).tiny).double()
    )  # around row 0, column 6
    assert maps["plq-pooled"][0, 0, 6].item() == pytest.approx(
        box.log().mean().exp().item(), rel=1e-4, abs=0
    )


def test_random_weights_explain_another_network(context, images):
    null = on_random_weights(MAPS["plq"])
    other = StudyContext(context.model, context.subject, [MAPS["plq"], null])
    maps = other.maps(images)
    assert null.random_weights
    assert null.kind == "control"
    assert not torch.allclose(maps["plq"], maps[null.name])


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Unknown maps"):
        select_maps(["plq", "nothing"])
    assert not any(method.slow for method in select_maps(["fast"]))
