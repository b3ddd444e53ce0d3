"""Inpainting: planted maps, regions and qualities of a known network."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.protocols.inpainting import Inpainting
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
from captum_plq.models import FaceModel, ModelSpec

pytest.importorskip("cv2", reason="needs the extra [metrics]")
SPEC = ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3, alignment="arcface")


@pytest.fixture
def subject():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Dropout(0.5),
            torch.nn.Linear(3 * 14 * 14, 16),
        )  # fmt: skip
    return ExplainedNetwork(FaceModel(net, SPEC).eval(), 0.0, 255.0, 10, 0.5, 0, 32, None, 4)


def faces(count):
    image = sample_image(SPEC, torch.zeros(1))
    return torch.stack([image.roll(i, 2) for i in range(count)])


def test_runs_are_serfiq_with_masks_of_their_own(subject):
    images = faces(3)
    found = quality_runs(subject, images, 4)
    serfiq = SERFIQ(subject.model, passes=40, dropout=0.5, seed=1)
    with torch.no_grad():
        _, stochastic = serfiq.embeddings(images)  # (B, m, d)
    expected = []
    for run in range(4):
        own = stochastic[:, run * 10 : (run + 1) * 10].double()
        unit = torch.nn.functional.normalize(own, dim=2)
        for_image = []
        for i in range(3):
            distances = torch.pdist(unit[i])
            # Eq. 1 with the sum over pairs i < j, twice over m² of them
            mean = 2 * distances.sum() / 100
            for_image.append(float(2 * torch.sigmoid(-mean)))
        expected.append(for_image)
    expected = np.array(expected)
    np.testing.assert_allclose(found.mean, expected.mean(0), atol=1e-4)
    np.testing.assert_allclose(found.sd, expected.std(0, ddof=1), atol=1e-4)


def test_controls_have_the_occluders_area():
    mask = torch.zeros(40, 30, dtype=torch.bool)
    mask[3:9, 5:16] = True
    found = control_regions(mask, "a face", 0)
    assert set(found) == {TRUE_MASK, RANDOM_SQUARE, SHIFTED}
    assert torch.equal(found[TRUE_MASK], mask)
    for region in found.values():
        assert region.sum() == mask.sum()
    rows, columns = found[RANDOM_SQUARE].nonzero().T
    assert rows.max() - rows.min() <= 9
    assert columns.max() - columns.min() <= 9
    again = control_regions(mask, "a face", 0)
    assert all(torch.equal(again[key], found[key]) for key in found)
    assert not torch.equal(control_regions(mask, "another", 0)[SHIFTED], found[SHIFTED])


@pytest.mark.parametrize("name", OCCLUDERS)
def test_occluders_change_what_they_mask_and_nothing_else(name):
    image = faces(1)[0]
    changed, mask = occlude(image, spec_landmarks(SPEC), name, "one", 0)
    assert 0.01 < mask.float().mean() < 0.6
    assert torch.equal(changed[:, ~mask], image[:, ~mask])
    assert not torch.equal(changed, image)


def test_a_planted_map_does_as_the_true_mask_and_an_inverted_one_worst(subject):
    """The map is the occluder itself: it marks it, and shares the ceiling's every number."""
    images = faces(2)
    clean = images.mean(1)

    def maps(occluded):
        changed = (occluded.mean(1) - clean).abs() > 0
        return {"planted": 1 - changed.float(), "inverted": changed.float()}

    context = SimpleNamespace(
        model=SimpleNamespace(spec=SPEC), subject=subject, maps=maps, methods=()
    )
    protocol = Inpainting(model=("m",), occluders=("square",), runs=3, pool=1)
    rows = protocol.rows(context, images, ["one", "two"])
    by = {(row["method"], row["image"]): row for row in rows}
    for image in ("one", "two"):
        planted, ceiling = by["planted", image], by[TRUE_MASK, image]
        assert ceiling["iou"] == 1
        assert planted["iou"] > 0.9  # a pixel as black as the square may not have changed
        assert by["inverted", image]["iou"] < 0.1
        assert planted["quality_gain"] == pytest.approx(ceiling["quality_gain"], abs=0.01)
        for row in (planted, ceiling):
            assert row["improved"] + row["unchanged"] + row["decreased"] == 1
            assert row["outcome"] == row["improved"] - row["decreased"]
