"""Inpainting: planted maps, regions and qualities of a known network."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.protocols.inpainting import Inpainting
from benchmarks.protocols.parts.fillers import FILLERS, painted_over, widened
from benchmarks.protocols.parts.quality_runs import quality_runs
from benchmarks.protocols.parts.region_controls import (
    RANDOM_SQUARE,
    SHIFTED,
    TRUE_MASK,
    control_regions,
)
from benchmarks.subjects.faces import sample_image, spec_landmarks
from benchmarks.subjects.network import ExplainedNetwork
from benchmarks.subjects.occluders import OCCLUDERS, occlude
from captum_plq import SERFIQ
from captum_plq.metrics.repeatability import QualitySpread
from captum_plq.models import FaceModel, ModelSpec

pytest.importorskip("cv2", reason="needs the extra [metrics]")
SPEC = ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3, alignment="arcface")


@pytest.fixture
def subject():
    torch.manual_seed(0)
    net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 14 * 14, 16))
    return ExplainedNetwork(FaceModel(net, SPEC).eval(), passes=10)


def faces(count):
    image = sample_image(SPEC, torch.zeros(1))
    return torch.stack([image.roll(i, 2) for i in range(count)])


def test_runs_are_serfiq_with_masks_of_their_own(subject):
    images = faces(3)
    found = quality_runs(subject, images, 4)
    serfiq = SERFIQ(subject.model, passes=40, dropout=0.5, seed=1)
    with torch.no_grad():
        _, stochastic = serfiq.embeddings(images)  # (B, m, d)
    units = nn.functional.normalize(stochastic.double(), dim=2).unflatten(1, (4, 10))
    # Eq. 1 with the sum over pairs i < j, twice over m² of them
    distances = torch.stack([torch.pdist(run).sum() * 2 / 100 for run in units.flatten(0, 1)])
    expected = (2 * torch.sigmoid(-distances)).view(3, 4)
    np.testing.assert_allclose(found.mean, expected.mean(1), atol=1e-4)
    np.testing.assert_allclose(found.sd, expected.std(1), atol=1e-4)


def test_controls_have_the_occluders_area():
    mask = torch.zeros(40, 30, dtype=torch.bool)
    mask[3:9, 5:16] = True
    found = control_regions(mask, "a face", 0)
    assert torch.equal(found[TRUE_MASK], mask)
    assert all(region.sum() == mask.sum() for region in found.values())
    rows, columns = found[RANDOM_SQUARE].nonzero().T
    assert max(rows.max() - rows.min(), columns.max() - columns.min()) <= 9
    again, other = control_regions(mask, "a face", 0), control_regions(mask, "another", 0)
    assert all(torch.equal(again[key], found[key]) for key in found)
    assert not torch.equal(other[SHIFTED], found[SHIFTED])


@pytest.mark.parametrize("name", OCCLUDERS)
def test_occluders_change_what_they_mask_and_nothing_else(name):
    image = faces(1)[0]
    changed, mask = occlude(image, spec_landmarks(SPEC), name, "one", 0)
    assert 0.01 < mask.float().mean() < 0.6
    assert torch.equal(changed[:, ~mask], image[:, ~mask])
    assert not torch.equal(changed, image)


@pytest.mark.parametrize("filler", FILLERS)
def test_fillers_leave_what_is_outside(filler, subject):
    if filler == "biharmonic":
        pytest.importorskip("skimage")
    images = faces(2)
    context = SimpleNamespace(subject=replace(subject, reference=faces(6)))
    regions = torch.zeros(2, 112, 112, dtype=torch.bool)
    regions[0, 20:40, 30:70] = regions[1, 60:70, :50] = True
    painted = painted_over(context, images, regions, filler)
    outside = ~regions[:, None].expand_as(images)
    assert torch.equal(painted[outside], images[outside])
    assert not torch.equal(painted, images)
    assert torch.equal(painted, painted.round().clamp(0, 255))


def test_widening_by_hand():
    region = torch.zeros(1, 5, 6, dtype=torch.bool)
    region[0, 0, 1] = region[0, 4, 5] = True
    found = widened(region, 1)
    assert found.nonzero()[:, 1:].tolist() == [
        [0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2], [3, 4], [3, 5], [4, 4], [4, 5]
    ]  # fmt: skip
    assert widened(region, 0) is region


def test_a_planted_map_does_as_the_true_mask_and_an_inverted_one_worst(monkeypatch):
    """The map is the occluder itself; Q is the brightness, which a black square lowers."""
    images = faces(2)

    def brightness(subject, shown, runs):
        return QualitySpread(shown.mean((1, 2, 3)), torch.full((2,), 0.5))

    def maps(occluded):
        changed = ((occluded - images).abs().amax(1) > 0).float()
        return {"planted": 1 - changed, "inverted": changed}

    monkeypatch.setattr("benchmarks.protocols.inpainting.quality_runs", brightness)
    context = SimpleNamespace(model=SimpleNamespace(spec=SPEC), subject=None, maps=maps)
    given = {"occluders": ("square",), "runs": 3, "pool": 1}
    protocol = Inpainting(model=("m",), fillers=("telea", "navier-stokes"), widened=(0, 2), **given)
    every = protocol.rows(context, images, ["one", "two"])
    fillings = {row["filler"] for row in every}
    assert fillings == {f"{x}{y}" for x in protocol.fillers for y in ("", ", 2 px wider")}
    by = {(row["method"], row["image"]): row for row in every if row["filler"] == "telea"}
    assert len(every) == 4 * len(by)
    for image in ("one", "two"):
        planted, ceiling = by["planted", image], by[TRUE_MASK, image]
        assert ceiling["iou"] == 1
        assert planted["iou"] > 0.9  # a pixel as black as the square may not have changed
        assert by["inverted", image]["iou"] < 0.1
        for row in (planted, ceiling):
            shares = [row[key] for key in ("improved", "unchanged", "decreased", "outcome")]
            assert shares == [1, 0, 0, 1]
            assert (row["harmful"], row["cell"]) == ("yes, telea", "square, telea")
            assert row["quality_gain"] == pytest.approx(row["occluder_cost"], rel=0.5)
