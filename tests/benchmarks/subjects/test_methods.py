"""Every attribution and every map of the registries, and what they must share with the package."""

import dataclasses

import pytest
import torch
from torch import nn

from benchmarks.subjects import attributions
from benchmarks.subjects.attributions import METHODS, REFERENCE, REPEATED
from benchmarks.subjects.maps import MAPS, select_maps
from benchmarks.subjects.methods import on_random_weights
from captum_plq import LocalQuality, PixelQualityAttribution, SpatialSERFIQ
from captum_plq.functional import merge_channels
from captum_plq.functional.enlargement import interpolate
from captum_plq.functional.local import local_reference, local_zscore
from captum_plq.functional.relative import gradient_reference, relative_pixel_quality
from captum_plq.metrics import spearman
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import assert_untouched, snapshot
from tests.support.face_network import study_context


def run(name, network, images):
    with torch.random.fork_rng(devices=[]):
        return METHODS[name].build(network)(images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_runs_and_leaves_the_network_alone(name, subject, images):
    if name == "kernel-shap":
        pytest.importorskip("sklearn", reason="Captum's KernelShap needs it")
    subject.node(images)
    before = snapshot(subject.model)
    output = run(name, subject, images)
    assert_untouched(before, subject.model)
    assert output.shape == (images.shape if METHODS[name].gives == "attribution" else (3,))
    assert torch.isfinite(output).all()
    assert output.any()
    assert not images.requires_grad
    if name in (REFERENCE, REPEATED, "naive-plq"):
        plq = PixelQualityAttribution(subject.serfiq()).attribute(images)
        torch.testing.assert_close(output, plq, rtol=1e-5, atol=0)


def test_official_serfiq_gives_the_same_quality_in_any_chunks(subject, images):
    for rows in (1, 8, 99):
        found = run("official-serfiq", dataclasses.replace(subject, rows=rows), images)
        torch.testing.assert_close(found, subject.quality(images), rtol=1e-6, atol=0)


def test_what_is_computed_once_is_computed_anew_for_other_images(subject, images):
    computed = []
    for batch in (images, images, images.clone()):
        subject.once("key", batch, lambda: computed.append("new"))
    batch.add_(1)
    subject.once("key", batch, lambda: computed.append("written to"))
    subject.once("other key", batch, lambda: computed.append("other"))
    assert computed == ["new", "new", "written to", "other"]


def test_what_the_reference_shows_is_computed_once(subject):
    computed = []
    for _ in range(2):
        subject.kept("key", lambda: computed.append("new"))
    subject.kept("other", lambda: computed.append("other"))
    dataclasses.replace(subject, seed=1).kept("key", lambda: computed.append("other network"))
    assert computed == ["new", "other", "other network"]


def test_selection_keeps_the_order_and_adds_both_saliencies():
    names = [m.name for m in attributions.select_methods(["occlusion", "plq"])]
    assert names == ["plq", REFERENCE, REPEATED, "occlusion"]
    assert [m.name for m in select_maps(["all"])] == list(MAPS)
    fast = {name for name, m in MAPS.items() if not m.slow}
    assert {m.name for m in select_maps(["fast"])} == fast < set(MAPS)
    with pytest.raises(ValueError, match=r"Unknown methods \['nonsense'\]"):
        select_maps(["plq", "nonsense"])


def test_an_attribution_is_a_map_too_where_its_entry_says_so():
    as_map = {name: m.as_map for name, m in METHODS.items() if m.as_map}
    endings = {"plain": ("",), "relative": ("", "-relative", "-relative-smooth")}
    expected = {name + ending for name, kind in as_map.items() for ending in endings[kind]}
    own = ("plq", "saliency", "local", "random", "centre", "eigenface")
    assert {name for name in MAPS if not name.startswith(own)} == expected
    assert all(MAPS[name].slow == METHODS[name].slow for name in as_map)


def test_grid_of_cells():
    grid = attributions.grid_of_cells(torch.zeros(2, 3, 14, 28))
    assert grid.shape == (1, 3, 14, 28)
    assert grid.unique().tolist() == list(range(49))
    assert (grid[0, 0] == 8).nonzero().tolist() == [[r, c] for r in (2, 3) for c in range(4, 8)]


@pytest.mark.filterwarnings("ignore")
def test_gradcam_of_a_network_that_ends_in_one_position(subject, images):
    """MobileFaceNets end in a convolution over the whole map."""
    own = subject.model
    head = [nn.Conv2d(12, 12, 7, groups=12), nn.Flatten(), nn.Linear(12, 8)]
    network = nn.Sequential(*own[:5], *head).double().eval()
    for model in (own, network):
        assert attributions.last_spatial_convolution(model, images) is own[3]
    for name in ("layer-gradcam", "guided-gradcam"):
        assert run(name, dataclasses.replace(subject, model=network), images).any()
    with pytest.raises(ValueError, match="no 2-D convolution"):
        attributions.last_spatial_convolution(nn.Linear(28, 2).double(), images)


@pytest.fixture(scope="module")
def faces():
    return torch.randint(0, 256, (3, 3, 24, 24), generator=torch.Generator().manual_seed(1)).float()


@pytest.fixture(scope="module")
def context(faces):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1),
            nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 36, 16),
        )  # fmt: skip
        reference = torch.randint(0, 256, (6, 3, 24, 24))
    model = FaceModel(network, ModelSpec("small", (24, 24), (127.5,) * 3, (127.5,) * 3)).eval()
    methods = (*select_maps(["all"]), on_random_weights(MAPS["plq"]))
    return study_context(model, methods, faces, reference, passes=20, batch=4)


@pytest.fixture(scope="module")
def maps(context, faces):
    """All of them, computed twice."""
    before = snapshot(context.model)
    found = context.maps(faces)
    assert context.failed == {}
    for name, again in context.maps(faces).items():
        torch.testing.assert_close(again, found[name], msg=name)
    assert_untouched(before, context.model)
    return found


def test_every_map_is_a_map(context, maps):
    assert list(maps) == [method.name for method in context.methods]
    for name, found in maps.items():
        assert found.shape == (3, 24, 24), name
        assert torch.isfinite(found).all(), name
        assert MAPS.get(name, context.methods[-1]).signed or (found >= 0).all(), name
        assert (context.positive(name, found) >= 0).all(), name
        p = context.pixel_qualities(name, found)
        assert ((p >= 0) & (p <= 1)).all(), name
    assert context.methods[-1].kind == "control"
    assert not torch.allclose(maps["plq"], maps["plq (random weights)"])


def test_plq_is_the_package_s_own_and_so_are_relative_maps(context, faces, maps):
    network = context.subject
    plq = PixelQualityAttribution(network.serfiq())
    merged = merge_channels(plq.attribute(faces))
    torch.testing.assert_close(maps["plq"], merged)
    assert (spearman(merged, maps["saliency"]) > 0.9999).all()
    reference = network.reference.float()
    quality = network.quality(reference)
    better = reference[quality >= quality.double().quantile(0.5)]
    assert len(better) == 3
    logs = merge_channels(plq.attribute(better)).log()
    for name, boxes in {"plq-relative": (5, 1), "plq-relative-smooth": (7, 7)}.items():
        expected = relative_pixel_quality(merged, gradient_reference(logs, *boxes))
        torch.testing.assert_close(maps[name], expected, rtol=1e-4, atol=1e-5)


def test_pooled_is_a_geometric_mean(maps):
    box = maps["plq"][0, :3, 4:9]  # around row 0, column 6
    expected = box.clamp_min(torch.finfo(box.dtype).tiny).double().log().mean().exp().item()
    assert maps["plq-pooled"][0, 0, 6].item() == pytest.approx(expected, rel=1e-4, abs=0)


def test_local_quality_is_the_package_s_own(context, faces, maps):
    network = context.subject
    spatial = SpatialSERFIQ(network.model)
    reference = local_reference(spatial.shares(network.reference.float()[network.better_reference]))
    own = LocalQuality(spatial, reference=reference).attribute(faces).sum(1)
    torch.testing.assert_close(maps["local"], own, rtol=1e-4, atol=1e-7)
    z = local_zscore(spatial.shares(faces), reference)
    expected = interpolate(z, tuple(faces.shape[2:]), spatial.tail.centres)
    torch.testing.assert_close(maps["local-z"], expected, rtol=1e-4, atol=1e-4)
    assert spatial.tail.centres is not None


def test_untrained_networks_are_held_against_the_faces_that_the_trained_one_chose(context):
    network = context.subject
    null = network.untrained()
    own = dataclasses.replace(null, judge=None)
    assert null.better_reference.tolist() == network.better_reference.tolist()
    assert own.better_reference.tolist() != network.better_reference.tolist()
    other = network.with_reference(network.reference.flip(0), nulls=[0])
    assert other.untrained().model is null.model
    assert other.untrained().better_reference.tolist() == network.better_reference.tolist()[::-1]


def test_eigenfaces_leave_what_reference_faces_do_not_have(context):
    reference = context.subject.reference.float()
    explain = MAPS["eigenface"].build(context.subject)
    average = reference.mean(0, keepdim=True)
    assert explain(average).abs().max() < 1e-3
    strange = average.clone()
    strange[..., 8:16, 8:16] += 90
    found = explain(strange)[0]
    assert found[10:14, 10:14].max() < -50
    assert found[:5].min() > -20
    far = explain(reference).mean().item()
    halved = dataclasses.replace(context.subject, reference=context.subject.reference[:2])
    assert MAPS["eigenface"].build(halved)(reference).mean() < far < 0


def test_signed_maps_become_qualities_by_the_reference_s_median(context, maps):
    some = context.explain(MAPS["local"])(context.subject.reference.float())
    p = context.pixel_qualities("local", some)
    assert p.median() == pytest.approx(0.5, abs=1e-3)
    assert 0.02 < p.quantile(0.05) < 0.2
    assert (spearman(maps["local"], context.positive("local", maps["local"])) > 0.9999).all()
    assert context.positive("plq", maps["plq"]) is maps["plq"]
