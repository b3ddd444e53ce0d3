"""Explainer: aligned faces in, explanation on disk out."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling, quality_map
from captum_plq.calibration import PRESETS, calibrate
from captum_plq.calibration.sample_gamma import sample_chip
from captum_plq.errors import UnusableImagesError
from captum_plq.explanation import Explainer, Settings
from captum_plq.faces import Face, align_face, sample_face
from captum_plq.functional import merge_channels
from captum_plq.functional.relative import relative_pixel_quality
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import assert_untouched, snapshot

SIGNED = Settings(weights="signed")  # a node that the toy knows no γ for


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.PReLU(), nn.Flatten(), nn.Linear(6 * 11 * 11, 12)
        )
    spec = ModelSpec(
        "toy",
        (24, 24),
        (127.5,) * 3,
        (128.0,) * 3,
        scaling=QualityScaling(50.0, 0.5),
        gamma=8.0,
        note="A toy.",
    )
    return FaceModel(backbone, spec).eval()


@pytest.fixture
def chips():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)


def test_computes_what_serfiq_computes(model, chips):
    explanation = Explainer(model)(chips)
    images = torch.from_numpy(chips).permute(0, 3, 1, 2).float()
    expected = SERFIQ(model)(images)
    torch.testing.assert_close(torch.tensor(explanation.quality), expected.detach())
    scaled = torch.sigmoid(50 * (expected.detach() - 0.5))
    torch.testing.assert_close(torch.tensor(explanation.scaled_quality), scaled)
    assert explanation.maps.shape == (3, 24, 24)
    assert explanation.attributions.shape == (3, 3, 24, 24)


def test_states_the_error_of_the_quality(model, chips):
    explanation = Explainer(model)(chips)
    redrawn = [Explainer(model, Settings(seed=seed))(chips).quality for seed in range(1, 40)]
    np.testing.assert_allclose(
        explanation.quality_standard_error, np.std(redrawn, axis=0, ddof=1), rtol=0.4
    )


def test_leaves_the_model_as_it_was(model, chips):
    model.train()
    before = snapshot(model)
    Explainer(model)(chips)
    assert_untouched(before, model)


def test_saves_one_face_and_many(model, chips, tmp_path):
    explainer = Explainer(model)
    for stem, batch, names in (("one", chips[:1], None), ("many", chips, ["a", "b", "c"])):
        explanation = explainer(batch)
        paths = explanation.save(tmp_path / "new", stem, names=names, extra={"source": "here"})
        assert [path.name for path in paths] == [f"{stem}{e}" for e in (".png", ".npz", ".json")]
        record = json.loads(paths[2].read_text("utf-8"))
        assert [face["quality"] for face in record["faces"]] == explanation.quality
        assert [face.get("name") for face in record["faces"]] == (names or [None])
        assert record["source"] == "here"
        assert record["files"] == {"figure": f"{stem}.png", "arrays": f"{stem}.npz"}
        arrays = np.load(paths[1])
        np.testing.assert_array_equal(arrays["maps"], explanation.maps)
        np.testing.assert_array_equal(arrays["images"], batch)


def test_a_file_that_cannot_be_written_leaves_the_earlier_ones(model, chips, tmp_path, monkeypatch):
    explainer = Explainer(model)
    paths = explainer(chips[:1]).save(tmp_path, "a")
    before = {path: path.read_bytes() for path in paths}

    def full(file, **_):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        explainer(chips[1:2]).save(tmp_path, "a")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_caption_tells_what_made_the_map(model, chips):
    caption = Explainer(model)(chips).caption
    for part in ("toy", "m = 100", "p = 0.5", "weights l1", "γ = 8.00", "A toy."):
        assert part in caption


def test_an_unknown_gamma_is_that_of_the_sample_face(model, chips):
    """So a face's map depends on no other face of the run, and on no order."""
    settings = Settings(weights="signed")
    dark = np.concatenate([chips[:1] // 8, chips[:1]])
    alone = Explainer(model, settings)(chips[:1]).maps[0]
    np.testing.assert_allclose(Explainer(model, settings)(dark).maps[1], alone, atol=1e-5)
    np.testing.assert_allclose(Explainer(model, settings)(dark[::-1]).maps[0], alone, atol=1e-5)
    explainer = Explainer(model, settings)
    explainer(dark[:1])
    later = explainer(chips[:1])
    np.testing.assert_allclose(later.maps[0], alone, atol=1e-5)
    on_sample = explainer(sample_chip((24, 24))[None])
    assert np.median(on_sample.maps) == pytest.approx(0.5, abs=0.01)
    assert "sample face" in later.record["parameters"]["gamma_source"]
    assert later.record["parameters"]["gamma"] == explainer.gamma
    assert "sample face" in later.caption


def test_a_network_that_has_no_gamma_on_the_sample_face(model, chips):
    with torch.no_grad():
        model.backbone[0].weight[:, :, :, :] = 0
    with pytest.raises(ValueError, match=r"(?s)No γ is known for toy.*--gamma"):
        Explainer(model, Settings(weights="signed"))(chips)


@pytest.mark.parametrize("size", [(224, 224), (112, 96), (96, 112), (64, 160)])
def test_the_sample_face_lies_as_aligned_faces_do(size):
    """Scaled with the height, centred in the width; black beyond."""
    face = Face((0, 0, 112, 112), 1.0, sample_face().landmarks)
    expected = align_face(sample_face().chip, face, template="arcface", size=size).astype(float)
    chip = sample_chip(size)
    assert chip.shape == (*size, 3)
    assert np.corrcoef(chip.ravel(), expected.ravel())[0, 1] > 0.9


def test_a_given_gamma_wins(model, chips):
    explanation = Explainer(model, Settings(gamma=3.0))(chips)
    assert explanation.record["parameters"]["gamma"] == 3.0
    assert explanation.record["parameters"]["gamma_source"] == "given"


def test_images_of_another_size_are_refused(model, chips):
    with pytest.raises(ValueError, match=r"toy takes images of shape \(B, 3, 24, 24\)"):
        Explainer(model)(chips[:, :20])


@pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")
@pytest.mark.parametrize("kind", ["no slope", "dead features"])
def test_a_face_that_nothing_is_told_of_is_refused_by_name(model, chips, kind):
    class Step(nn.Module):
        def forward(self, x):
            return x.round()

    if kind == "no slope":
        model.backbone.insert(0, Step())
        places = (0, 1, 2)
    else:
        model.backbone[1] = nn.ReLU()
        with torch.no_grad():
            model.backbone[0].bias.fill_(-1e-3)
            model.backbone[0].weight.abs_()
        chips[1], places = 0, (1,)
    with pytest.raises(UnusableImagesError) as raised:
        Explainer(model)(chips)
    assert raised.value.indices == places


def test_the_records_json_holds_only_plain_values(model, chips):
    record = Explainer(model)(chips).record
    assert json.loads(json.dumps(record))["versions"]["captum-plq"]


# --- with a calibration -------------------------------------------------------------------


@pytest.fixture
def calibration(model):
    generator = torch.Generator().manual_seed(1)
    faces = 255 * torch.rand(20, 3, 24, 24, generator=generator)
    return calibrate(model, faces.split(8))


def test_uses_a_calibration(model, chips, calibration, tmp_path):
    explanation = Explainer(model, calibration=calibration)(chips)
    images = torch.from_numpy(chips).permute(0, 3, 1, 2).float()
    scaled = PixelQualityAttribution(model, scaling=calibration.scaling).attribute(images)
    plain, q = PixelQualityAttribution(model).attribute(images, return_quality=True)
    expected = relative_pixel_quality(merge_channels(plain), calibration.reference)
    np.testing.assert_allclose(explanation.relative_maps, expected, atol=1e-5)
    np.testing.assert_allclose(explanation.attributions, scaled, rtol=1e-4)
    np.testing.assert_allclose(explanation.maps, quality_map(scaled, calibration.gamma), atol=1e-5)
    q_hat = torch.sigmoid(calibration.scaling.alpha * (q - calibration.scaling.r))
    assert explanation.scaled_quality == pytest.approx(q_hat.tolist(), rel=1e-4)
    assert f"calibration of toy of {calibration.date}" in explanation.caption

    figure, arrays, record = explanation.save(tmp_path, "many")
    np.testing.assert_array_equal(np.load(arrays)["relative_maps"], explanation.relative_maps)
    written = json.loads(record.read_text("utf-8"))
    assert written["calibration"]["network_digest"] == calibration.network_digest
    assert written["parameters"]["gamma"] == calibration.gamma
    assert written["faces"][1]["mean_relative_quality"] == pytest.approx(
        float(explanation.relative_maps[1].mean())
    )
    assert figure.stat().st_size > 5000


def test_a_face_is_the_same_alone_and_among_others(model, chips, calibration):
    explainer = Explainer(model, calibration=calibration)
    together = explainer(chips).relative_maps
    for i in range(len(chips)):
        np.testing.assert_allclose(
            explainer(chips[i : i + 1]).relative_maps[0], together[i], atol=1e-4
        )


def test_a_given_gamma_wins_over_the_calibration(model, chips, calibration):
    explanation = Explainer(model, Settings(gamma=3.0), calibration)(chips)
    assert explanation.record["parameters"]["gamma"] == 3.0


def test_without_a_calibration_there_is_no_relative_map(model, chips, tmp_path):
    explanation = Explainer(model)(chips)
    assert explanation.relative_maps is None
    assert explanation.record["calibration"] is None
    assert "relative_maps" not in np.load(explanation.save(tmp_path, "x")[1])


def test_a_calibration_for_something_else_is_refused(model, calibration):
    with pytest.raises(ValueError, match="passes = 100, not 50"):
        Explainer(model, Settings(passes=50), calibration)
    with torch.no_grad():
        model.backbone[0].bias[0] += 1
    with pytest.raises(ValueError, match="the network 'toy'"):
        Explainer(model, calibration=calibration)
    with pytest.raises(ValueError, match="known as 'iresnet100'"):
        Explainer(model, calibration=PRESETS["arcface"])


def test_what_was_found_of_a_network_ends_with_its_weights(model, chips, calibration):
    calibrated, free = Explainer(model, calibration=calibration), Explainer(model, SIGNED)
    calibrated(chips)
    free(chips)
    with torch.no_grad():
        model.backbone[0].weight.mul_(3)
    with pytest.raises(ValueError, match="the network 'toy'"):
        calibrated(chips)
    again = free(chips)
    np.testing.assert_array_equal(again.maps, Explainer(model, SIGNED)(chips).maps)
