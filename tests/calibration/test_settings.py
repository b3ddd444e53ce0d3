"""What a calibration holds for, its presets, and what they are refused for."""

import dataclasses

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.calibration import PRESETS, load_calibration
from captum_plq.calibration.settings import MethodSettings, network_digest
from captum_plq.models import FaceModel, ModelSpec, available_models
from tests.calibration.conftest import network


def method(model=None, **choices):
    return PixelQualityAttribution(SERFIQ(model or network(), passes=20), **choices)


@pytest.mark.parametrize(
    ("model", "choices"),
    [({}, {}), ({"name": "renamed"}, {}), ({}, {"estimator": "balanced"}), ({}, {"seed": 7})],
)
def test_fits_the_network_it_was_made_for_whatever_its_name(calibration, model, choices):
    calibration.check(PixelQualityAttribution(SERFIQ(network(**model), passes=20, **choices)))


def test_all_that_differs_is_named_in_one_error(calibration):
    other = PixelQualityAttribution(
        SERFIQ(network(seed=1), passes=50, dropout=0.3, average="pairs", normalize=False),
        weights="l2",
        target_scalar="serfiq",
    )
    with pytest.raises(ValueError, match="does not hold here") as info:
        calibration.check(other)
    for part in (
        "passes = 20, not 50",
        "dropout = 0.5, not 0.3",
        "weights = 'l1', not 'l2'",
        "target_scalar = 'node', not 'serfiq'",
        "average = 'paper', not 'pairs'",
        "normalize = True, not False",
        "normalize_embedding = True, not False",
        "the network 'toy', not one of that name with other weights",
    ):
        assert part in str(info.value)
    with pytest.raises(ValueError, match="the network 'toy', not 'other'"):
        calibration.check(method(network(seed=1, name="other")))
    with pytest.raises(ValueError, match="directions = None, not 2"):
        calibration.check(method(directions=2))
    larger = FaceModel(nn.Flatten(), ModelSpec("toy", (9, 9), (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(ValueError, match="6×8 pixels, not 9×9"):
        calibration.check(method(larger))


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.0, 127.5, 127.5)},
        {"std": (127.5,) * 3},
        {"channel_order": "BGR"},
        {"alignment": "dlib"},
        {"embedding_layer": "1"},
    ],
)
def test_the_digest_covers_how_the_network_is_fed(change):
    assert network_digest(network(**change)) != network_digest(network())


def test_the_digest_covers_every_weight():
    reference = network_digest(network())
    for position in (0, 17, -1):
        model = network()
        with torch.no_grad():
            weight = model.backbone[1].weight.view(-1)
            weight[position] = torch.nextafter(weight[position], torch.tensor(9.0))
        assert network_digest(model) != reference
    assert network_digest(network()) == reference
    assert network_digest(network().bfloat16()) != reference


def test_presets_hold_the_papers_values():
    arcface, facenet = PRESETS["arcface"], PRESETS["facenet"]
    assert (arcface.scaling, arcface.gamma) == ((130.0, 0.88), 7.5)
    assert (facenet.scaling, facenet.gamma) == ((450.0, 0.93), 5.5)
    assert arcface.conditions == facenet.conditions == MethodSettings(100, 0.5, "l1")


def test_a_preset_is_found_by_name_even_beside_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "arcface").write_text("a file")
    assert load_calibration("arcface") is PRESETS["arcface"]
    with pytest.raises(ValueError, match="not a calibration file"):
        load_calibration(tmp_path / "arcface")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_for_its_own_networks(name):
    preset = PRESETS[name]
    by_name = {info.spec.name: info.spec for info in available_models()}
    meant = [by_name[known] for known in preset.networks if known in by_name]
    assert meant
    assert {spec.input_size for spec in meant} == {preset.input_size}

    def tried(spec):
        size = 3 * spec.input_size[0] * spec.input_size[1]
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(size, 4))
        preset.check(PixelQualityAttribution(FaceModel(backbone, spec)))

    tried(dataclasses.replace(meant[0], embedding_layer="1"))
    known = " or ".join(map(repr, preset.networks))
    other = dataclasses.replace(meant[0], name="mine", embedding_layer="1")
    with pytest.raises(ValueError, match=f"known as {known} by its ModelSpec, not 'mine'"):
        tried(other)
    with pytest.raises(ValueError, match="this Sequential without one"):
        preset.check(PixelQualityAttribution(nn.Sequential(nn.Flatten(), nn.Linear(48, 4))))
