"""What good faces lose by region: quantiles, standard scores, and the file."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import LocalQuality
from captum_plq.calibration import Calibration, calibrate
from captum_plq.calibration.regions import RegionLosses
from captum_plq.faces import REGIONS
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.quality import SERFIQ, lost_by_region


def small_face_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 5, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6 * 7 * 7, 8)
        )
    return FaceModel(net, ModelSpec("small", (32, 32), (127.5,) * 3, (128.0,) * 3)).eval()


def losses(n=101):
    drawn = np.random.default_rng(0).normal(size=(n, 9))
    return drawn * np.arange(1, 10) + np.arange(9)


def test_scores_are_zero_at_the_median_and_grow_in_proportion():
    lost = losses()
    found = RegionLosses.of(lost)
    middle, high = np.quantile(lost, 0.5, axis=0), np.quantile(lost, 0.95, axis=0)
    at = np.stack([middle, high, 3 * high - 2 * middle, 2 * middle - high])
    expected = np.array([0, 1, 3, -1])[:, None] * 1.6449 * np.ones(9)
    np.testing.assert_allclose(found.unusual(at), expected, atol=1e-9)
    assert list(found.quantiles) == list(REGIONS)


def test_equal_faces_leave_no_infinite_score():
    found = RegionLosses.of(np.zeros((5, 9)))
    assert np.isfinite(found.unusual(np.ones((1, 9)))).all()


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (np.zeros((1, 9)), "n ≥ 2"),
        (np.zeros((5, 8)), r"but got \(5, 8\)"),
        (np.full((5, 9), np.nan), "must be finite"),
    ],
)
def test_refuses(lost, words):
    with pytest.raises(ValueError, match=words):
        RegionLosses.of(lost)


def test_a_calibration_of_a_face_network_has_those_of_its_good_faces(tmp_path):
    model = small_face_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        images = torch.rand(20, 3, *model.spec.input_size) * 255
    found = calibrate(model, images.split(7))
    q = SERFIQ(model)(images)
    good = images[q >= q.quantile(0.5)]
    maps = LocalQuality(model, reference=found.local).attribute(good, at_places=True)
    centres = found.local.centres
    assert centres is not None
    lost = lost_by_region(maps, model.spec.alignment, model.spec.input_size, centres)
    expected = RegionLosses.of(lost.numpy())
    for region in REGIONS:
        assert found.region_losses.quantiles[region] == pytest.approx(
            expected.quantiles[region], abs=1e-5
        )
    found.save(tmp_path / "c.npz")
    again = Calibration.load(tmp_path / "c.npz")
    assert again.region_losses == found.region_losses
    assert again.local.centres == centres
    assert again.header() == found.header()
    assert calibrate(model.backbone, images.split(7)).region_losses is None


def _file(calibration, path, value):
    calibration.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].item())
    header["region_losses"] = value
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))
    return path


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1], "expected lists by region"),
        ({"nose": [0.0] * 5}, "expected forehead"),
        ({region: [0.0] * 4 for region in REGIONS}, "expected 5 quantiles in order"),
        ({region: [0.0, 0, 2, 1, 3] for region in REGIONS}, "expected 5 quantiles in order"),
        ({region: [0.0, 0, 1, 2, "3"] for region in REGIONS}, "quantiles: expected"),
    ],
)
def test_a_file_with_senseless_ones_is_refused(calibration, tmp_path, value, words):
    path = _file(calibration, tmp_path / "c.npz", value)
    with pytest.raises(ValueError, match=words):
        Calibration.load(path)


def test_files_of_before_have_none_and_they_need_a_local_reference(calibration, tmp_path):
    path = tmp_path / "old.npz"
    calibration.save(path)
    assert Calibration.load(path).region_losses is None
    known = RegionLosses.of(losses())
    with pytest.raises(ValueError, match="without a local reference"):
        dataclasses.replace(
            calibration, local=None, local_layer=None, without_local="x", region_losses=known
        )
