import dataclasses
from importlib.util import find_spec

import pytest
import torch

from benchmarks.subjects.attributions import (
    METHODS,
    REFERENCE,
    REPEATED,
    grid_of_cells,
    last_spatial_convolution,
    select_methods,
)
from benchmarks.subjects.methods import check_maps
from captum_plq import PixelQualityAttribution
from tests.conftest import assert_untouched, snapshot


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_runs_and_leaves_the_network_alone(name, subject, images):
    method = METHODS[name]
    if name == "kernel-shap" and find_spec("sklearn") is None:
        pytest.skip("Captum's KernelShap needs scikit-learn")
    before = snapshot(subject.model)
    with torch.random.fork_rng(devices=[]):
        output = method.build(subject)(images)
    assert_untouched(before, subject.model)
    assert output.shape == (images.shape if method.gives == "attribution" else (3,))
    assert torch.isfinite(output).all()
    assert output.any()
    assert not images.requires_grad


def run(name, subject, images):
    return METHODS[name].build(subject)(images)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [REFERENCE, REPEATED, "naive-plq"])
def test_same_target_as_plq(name, subject, images):
    plq = PixelQualityAttribution(subject.serfiq()).attribute(images)
    torch.testing.assert_close(run(name, subject, images), plq, rtol=1e-5, atol=0)


def test_official_serfiq_gives_the_same_quality(subject, images):
    with torch.no_grad():
        expected = subject.serfiq()(images)
    torch.testing.assert_close(run("official-serfiq", subject, images), expected, rtol=1e-6, atol=0)


def test_official_serfiq_does_not_depend_on_the_chunks(subject, images):
    one, all_ = (
        run("official-serfiq", dataclasses.replace(subject, rows=n), images) for n in (1, 99)
    )
    torch.testing.assert_close(one, all_)


def test_selection_keeps_the_order_and_adds_both_saliencies():
    names = [m.name for m in select_methods(["occlusion", "plq"])]
    assert names == ["plq", REFERENCE, REPEATED, "occlusion"]
    assert [m.name for m in select_methods(["all"])] == list(METHODS)
    assert {m.name for m in METHODS.values()} - {m.name for m in select_methods(["fast"])} == {
        m.name for m in METHODS.values() if m.slow
    }
    with pytest.raises(ValueError, match="nonsense"):
        select_methods(["plq", "nonsense"])


def test_grid_of_cells():
    grid = grid_of_cells(torch.zeros(2, 3, 14, 28))
    assert grid.shape == (1, 3, 14, 28)
    assert grid.unique().tolist() == list(range(49))
    assert (grid[0, 0] == 8).nonzero().amin(0).tolist() == [2, 4]
    assert (grid == 8).sum() == 3 * 2 * 4


def test_last_spatial_convolution(subject, images):
    found = last_spatial_convolution(subject.model, images)
    assert found is subject.model[3]
    over_the_map = torch.nn.Conv2d(12, 12, 7, groups=12).double()  # as MobileFaceNets have it
    network = torch.nn.Sequential(*subject.model[:5], over_the_map, *subject.model[5:6])
    assert last_spatial_convolution(network, images) is found
    with pytest.raises(ValueError, match="no 2-D convolution"):
        last_spatial_convolution(torch.nn.Linear(28, 2).double(), images)


def test_gradcam_of_a_network_that_ends_in_one_position(subject, images):
    head = [torch.nn.Conv2d(12, 12, 7, groups=12), torch.nn.Flatten(), torch.nn.Linear(12, 8)]
    network = torch.nn.Sequential(*subject.model[:5], *(layer.double() for layer in head)).eval()
    ends = dataclasses.replace(subject, model=network)
    for name in ("layer-gradcam", "guided-gradcam"):
        found = run(name, ends, images)
        assert check_maps(found, tuple(images.shape)) is found
