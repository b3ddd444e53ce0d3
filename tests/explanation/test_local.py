"""Local quality in an explanation: what the method gives, and reasons where it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from captum_plq import SERFIQ, LocalQuality
from captum_plq.calibration import calibrate
from captum_plq.explanation import Explainer, Settings, matching_calibration
from captum_plq.faces import REGION_WORDS, REGIONS, sample_face, surgical_mask
from captum_plq.functional.local import LocalReference, local_zscore
from captum_plq.models import DEFAULT_MODEL, FaceModel, ModelSpec, load_model
from captum_plq.visualization import plot_faces
from tests.conftest import assert_untouched, snapshot

SPEC = ModelSpec("toy", (24, 24), (127.5,) * 3, (128.0,) * 3, gamma=8.0)


@pytest.fixture
def model(backbone):
    return FaceModel(backbone, SPEC).eval()


@pytest.fixture
def calibration(model):
    generator = torch.Generator().manual_seed(1)
    return calibrate(model, [255 * torch.rand(20, 3, 24, 24, generator=generator)])


def as_images(chips):
    return torch.from_numpy(chips).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("dropout", [0.5, 0.2])
def test_is_what_the_method_gives(model, chips, dropout):
    generator = torch.Generator().manual_seed(1)
    settings = Settings(dropout=dropout)
    calibration = calibrate(
        settings.attribution(model), [255 * torch.rand(20, 3, 24, 24, generator=generator)]
    )
    before = snapshot(model)
    found = Explainer(model, settings, calibration)(chips).local
    assert_untouched(before, model)
    local = LocalQuality(SERFIQ(model, dropout=dropout), reference=calibration.local)
    maps, quality = local.attribute(as_images(chips), at_places=True, return_quality=True)
    np.testing.assert_allclose(found.maps, maps, atol=1e-6)
    np.testing.assert_allclose(found.quality, quality, atol=1e-6)
    expected = local_zscore(local.spatial.shares(as_images(chips)), calibration.local)
    np.testing.assert_allclose(found.zscores, expected, atol=1e-5)
    assert found.maps.dtype == found.zscores.dtype == np.float32
    for one, record in zip(found.maps, found.records(), strict=True):
        assert one.sum() + record["offset"] == pytest.approx(record["gained"], abs=1e-6)
        assert record["gained"] == record["quality"] - record["reference_quality"]
        assert (record["grid"], record["layer"]) == ([11, 11], calibration.local_layer)
        assert record["linearisation_gap"] is None
        lost = sum(record["lost"].values()) - record["offset"]
        assert lost == pytest.approx(-record["gained"], abs=1e-6)


def test_a_face_alone_has_the_same_map_as_among_others(model, chips, calibration):
    explainer = Explainer(model, calibration=calibration)
    together, alone = explainer(chips).local, explainer(chips[1:2]).local
    np.testing.assert_allclose(alone.maps[0], together.maps[1], atol=1e-6)


def test_where_it_cannot_be_had_the_rest_is_and_the_reason_is_told(model, chips, calibration):
    none = replace(calibration, local=None, local_layer=None, region_losses=None)
    larger = LocalReference(calibration.local.snr, torch.zeros(3, 3), torch.ones(3, 3))
    for changed, reason in (
        (None, "It needs a calibration"),
        (none, "The calibration has no local reference."),
        (replace(none, without_local="There is no map."), "There is no map."),
        (replace(calibration, local=larger), "reference is of maps of size (3, 3)"),
        (replace(calibration, local_layer="elsewhere"), "of the map at 'elsewhere', but this one"),
    ):
        found = Explainer(model, calibration=changed)(chips)
        assert found.local is None
        assert reason in found.without_local
        assert len(found.maps) == 3


def test_the_shipped_network_has_one():
    shipped = load_model(DEFAULT_MODEL)
    explainer = Explainer(shipped, calibration=matching_calibration(shipped))
    found = explainer(sample_face().chip[None])
    assert found.without_local == ""
    assert found.local.maps.shape == (1, 7, 7)
    assert found.local.quality == pytest.approx(found.quality, abs=0.01)
    assert abs(found.local.zscores).max() < 6


def test_the_region_that_loses_most_is_the_covered_one():
    shipped = load_model(DEFAULT_MODEL)
    explainer = Explainer(shipped, calibration=matching_calibration(shipped))
    chip, points = sample_face()
    masked = surgical_mask(chip, points).image
    found = explainer(np.stack([chip, masked])).local
    lost = [record["lost"] for record in found.records()]
    more = {name: lost[1][name] - lost[0][name] for name in REGIONS}
    lower = ("nose", "mouth", "chin", "left_cheek", "right_cheek")
    assert sum(more[name] for name in lower) > 0.7 * sum(more.values()) > 0
    worst = max(lost[1], key=lost[1].get)
    assert worst in lower
    assert f"largest loss: {REGION_WORDS[worst]} (." in found.words()[1]


def test_an_error_of_the_local_part_costs_nothing_else(model, chips, calibration, monkeypatch):
    explainer = Explainer(model, calibration=calibration)

    def fails(_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(explainer._local._spatial, "shares", fails)
    assert explainer(chips).without_local == "out of memory"


def test_the_figure_shows_local_quality_and_no_relative_maps(
    model, chips, calibration, tmp_path, monkeypatch
):
    drawn = {}

    def watching(images, maps, titles, relative=None, **others):
        drawn.update(others, titles=titles, relative=relative)
        return plot_faces(images, maps, titles, relative, **others)

    monkeypatch.setattr("captum_plq.explanation.result.plot_faces", watching)
    found = Explainer(model, calibration=calibration)(chips)
    found.save(tmp_path, "x", names=["a", "b", "c"])
    np.testing.assert_array_equal(drawn["local_maps"], found.local.maps)
    np.testing.assert_array_equal(drawn["zscores"], found.local.zscores)
    assert drawn["notes"] == [f"Q̂ = {q:.2f}" for q in found.scaled_quality]
    assert drawn["relative"] is None
    for title, words in zip(drawn["titles"], found.local.words(), strict=True):
        assert words in title[2:].replace("\n", " ")
        assert words.startswith("Q = .")
