"""Explainer: aligned faces in, explanation on disk out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import PixelQualityAttribution, QualityScaling, quality_map
from captum_plq.calibration import PRESETS, calibrate
from captum_plq.calibration.sample_gamma import sample_chip
from captum_plq.errors import UnusableImagesError
from captum_plq.explanation import Explainer, Settings, matching_calibration
from captum_plq.faces import Face, align_face, sample_face
from captum_plq.functional import merge_channels
from captum_plq.functional.relative import relative_pixel_quality
from captum_plq.models import DEFAULT_MODEL, FaceModel, ModelSpec, load_model
from tests.conftest import assert_untouched, snapshot

SIGNED = Settings(weights="signed")  # a node that the toy knows no γ for
SPEC = ModelSpec("toy", (24, 24), (127.5,) * 3, (128.0,) * 3, note="A toy.", gamma=8.0)


@pytest.fixture
def model(backbone):
    return FaceModel(backbone, replace(SPEC, scaling=QualityScaling(50.0, 0.5))).eval()


@pytest.fixture
def calibration(model):
    generator = torch.Generator().manual_seed(1)
    faces = 255 * torch.rand(20, 3, 24, 24, generator=generator)
    return calibrate(model, faces.split(8))


@pytest.mark.parametrize("calibrated", [False, True])
def test_computes_what_the_attribution_computes(model, chips, calibration, calibrated):
    model.train()
    before = snapshot(model)
    explainer = Explainer(model, calibration=calibration if calibrated else None)
    explanation = explainer(chips)
    assert_untouched(before, model)
    values = calibration if calibrated else model.spec
    images = torch.from_numpy(chips).permute(0, 3, 1, 2).float()
    scaled = PixelQualityAttribution(model, scaling=values.scaling).attribute(images)
    plain, q, error = PixelQualityAttribution(model).attribute(
        images, return_quality=True, return_standard_error=True
    )
    np.testing.assert_allclose(explanation.quality, q, rtol=1e-5)
    np.testing.assert_allclose(explanation.quality_standard_error, error, rtol=1e-3)
    np.testing.assert_allclose(explanation.attributions, scaled, rtol=1e-4)
    np.testing.assert_allclose(explanation.maps, quality_map(scaled, values.gamma), atol=1e-5)
    q_hat = torch.sigmoid(values.scaling.alpha * (q - values.scaling.r))
    assert explanation.scaled_quality == pytest.approx(q_hat.tolist(), rel=1e-4)
    assert explanation.record["parameters"]["gamma"] == values.gamma
    source = f"calibration of toy of {calibration.date}" if calibrated else "of toy"
    for part in ("toy; m = 100, p = 0.5, weights l1, γ = ", f"({source})", "A toy."):
        assert part in explanation.caption
    assert (explanation.relative_maps is not None) is calibrated
    if calibrated:
        expected = relative_pixel_quality(merge_channels(plain), calibration.reference)
        np.testing.assert_allclose(explanation.relative_maps, expected, atol=1e-5)
        alone = explainer(chips[1:2]).relative_maps[0]
        np.testing.assert_allclose(alone, explanation.relative_maps[1], atol=1e-4)


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("names", [[None], ["a", "b", "c"]])
def test_saves_one_face_and_many(model, chips, calibration, tmp_path, calibrated, names):
    explanation = Explainer(model, calibration=calibration if calibrated else None)(
        chips[: len(names)]
    )
    paths = explanation.save(
        tmp_path / "new", "x", names=names if names[0] else None, extra={"source": "here"}
    )
    assert [path.name for path in paths] == ["x.png", "x.npz", "x.json"]
    assert paths[0].stat().st_size > 5000
    arrays, record = np.load(paths[1]), json.loads(paths[2].read_text("utf-8"))
    expected = {"images", "attributions", "maps"} | ({"relative_maps"} if calibrated else set())
    local = {"local_maps", "local_zscores"} if calibrated else set()
    assert set(arrays) == expected | local
    for name in expected:
        np.testing.assert_array_equal(arrays[name], getattr(explanation, name))
    assert [face["quality"] for face in record["faces"]] == explanation.quality
    assert [face.get("name") for face in record["faces"]] == names
    assert record["source"] == "here"
    assert record["files"] == {"figure": "x.png", "arrays": "x.npz"}
    assert record["versions"]["captum-plq"]
    assert (record["calibration"] is not None) is calibrated
    assert [face["local"] is not None for face in record["faces"]] == [calibrated] * len(names)
    assert ("without_local" in record) is not calibrated
    if calibrated:
        np.testing.assert_array_equal(arrays["local_maps"], explanation.local.maps)
        np.testing.assert_array_equal(arrays["local_zscores"], explanation.local.zscores)
        assert [face["local"] for face in record["faces"]] == explanation.local.records()


def test_a_file_that_cannot_be_written_leaves_the_earlier_ones(model, chips, tmp_path, monkeypatch):
    explainer = Explainer(model)
    before = {path: path.read_bytes() for path in explainer(chips[:1]).save(tmp_path, "a")}

    def full(file, **_):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        explainer(chips[1:2]).save(tmp_path, "a")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_writes_what_is_asked_for_and_removes_what_would_be_stale(model, chips, tmp_path):
    explanation = Explainer(model)(chips[:1])
    (tmp_path / "b.npz").write_text("somebody's")
    for write, endings in (
        ([], {".json"}),
        (["figure", "arrays"], {".png", ".npz", ".json"}),
        (["figure"], {".png", ".json"}),
        ([], {".json"}),
    ):
        paths = explanation.save(tmp_path, "a", write=write)
        assert {path.suffix for path in paths} == endings
        there = {path.name for path in tmp_path.iterdir()}
        assert there == {"b.npz", *(f"a{ending}" for ending in endings)}
    explanation.save(tmp_path, "b", write=[])
    assert (tmp_path / "b.npz").read_text() == "somebody's"


def test_faces_split_are_as_if_explained_alone(model, chips, calibration):
    explainer = Explainer(model, calibration=calibration)
    together = list(explainer(chips).split())
    assert len(together) == len(chips)
    for chip, found in zip(chips, together, strict=True):
        alone = explainer(chip[None])
        for field in ("images", "attributions", "maps", "relative_maps", "quality"):
            np.testing.assert_allclose(getattr(found, field), getattr(alone, field), atol=1e-5)
        np.testing.assert_allclose(found.local.lost, alone.local.lost, atol=1e-5)
        assert found.titles() == alone.titles()
        assert found.local.words() == alone.local.words()


@pytest.mark.parametrize(
    ("settings", "scaled", "gamma_source"),
    [
        (Settings(dropout=0.3), False, "of toy"),
        (Settings(passes=5), False, "of toy"),
        (SIGNED, True, "sample face"),
        (Settings(target_scalar="serfiq"), True, "sample face"),
        (Settings(weights="l2", gamma=3.0), True, "given"),
    ],
)
def test_presets_are_used_only_where_they_were_measured(
    model, chips, settings, scaled, gamma_source
):
    """α and r hold for one m and p, γ for one node: elsewhere they would mislead."""
    parameters = Explainer(model, settings)(chips[:1]).record["parameters"]
    assert (parameters["alpha"], parameters["r"]) == ((50.0, 0.5) if scaled else (None, None))
    assert gamma_source in parameters["gamma_source"]
    known = {"of toy": 8.0, "given": 3.0}.get(gamma_source, parameters["gamma"])
    assert parameters["gamma"] == known
    assert parameters["normalize_embedding"] is (settings.weights != "l2")


def test_an_unknown_gamma_is_that_of_the_sample_face(model, chips):
    """So a face's map depends on no other face of the run, and on no order."""
    dark = np.concatenate([chips[:1] // 8, chips[:1]])
    explainer = Explainer(model, SIGNED)
    explainer(dark[:1])
    alone = explainer(chips[:1]).maps[0]
    for batch, place in ((dark, 1), (dark[::-1], 0)):
        again = Explainer(model, SIGNED)(batch).maps[place]
        np.testing.assert_allclose(again, alone, atol=1e-5)
    assert np.median(explainer(sample_chip((24, 24))[None]).maps) == pytest.approx(0.5, abs=0.01)
    with torch.no_grad():
        model.backbone[0].weight[:, :, :, :] = 0
    with pytest.raises(ValueError, match=r"(?s)No γ is known for toy.*--gamma"):
        Explainer(model, SIGNED)(chips)


@pytest.mark.parametrize("size", [(224, 224), (112, 96), (64, 160)])
def test_the_sample_face_lies_as_aligned_faces_do(size):
    """Scaled with the height, centred in the width; black beyond."""
    face = Face((0, 0, 112, 112), 1.0, sample_face().landmarks)
    expected = align_face(sample_face().chip, face, template="arcface", size=size).astype(float)
    chip = sample_chip(size)
    assert chip.shape == (*size, 3)
    assert np.corrcoef(chip.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")
def test_an_uninformative_face_is_refused_by_name(model, chips):
    chips[1] = 0
    model.backbone[1] = nn.ReLU()
    with torch.no_grad():
        model.backbone[0].bias.fill_(-1e-3)
        model.backbone[0].weight.abs_()
    with pytest.raises(UnusableImagesError) as raised:
        Explainer(model)(chips)
    assert raised.value.indices == (1,)


def pick(output):
    return output


def test_the_record_is_plain_json_for_any_output_selector(model, chips):
    record = Explainer(FaceModel(model.backbone, replace(SPEC, output=pick)))(chips[:1]).record
    assert json.loads(json.dumps(record))["model"]["output"] == "pick"


def test_a_calibration_holds_for_one_network_and_one_method(model, chips, calibration):
    with pytest.raises(ValueError, match="passes = 100, not 50"):
        Explainer(model, Settings(passes=50), calibration)
    with pytest.raises(ValueError, match="known as 'iresnet100'"):
        Explainer(model, calibration=PRESETS["arcface"])
    given = Explainer(model, Settings(gamma=3.0), calibration)(chips)
    assert given.record["parameters"]["gamma"] == 3.0
    calibrated, free = Explainer(model, calibration=calibration), Explainer(model, SIGNED)
    calibrated(chips)
    free(chips)
    with torch.no_grad():
        model.backbone[0].weight.mul_(3)
    for use in (lambda: calibrated(chips), lambda: Explainer(model, calibration=calibration)):
        with pytest.raises(ValueError, match="the network 'toy'"):
            use()
    np.testing.assert_array_equal(free(chips).maps, Explainer(model, SIGNED)(chips).maps)
    shipped = load_model(DEFAULT_MODEL)
    assert matching_calibration(shipped).network == DEFAULT_MODEL
    assert matching_calibration(shipped, Settings(passes=50)) is None
    assert matching_calibration(model) is None


def test_its_identity_is_that_of_the_weights_and_of_all_of_the_calibration(model, calibration):
    plain, known = Explainer(model).identity(), Explainer(model, None, calibration).identity()
    assert plain["calibration"] is None
    assert plain["model"] == known["model"] == {"name": "toy", "digest": known["model"]["digest"]}
    assert Explainer(model, None, calibration).identity() == known == json.loads(json.dumps(known))
    shifted = calibration.reference._replace(mean=calibration.reference.mean + 0.01)
    for changed in ({"gamma": 9.0}, {"reference": shifted}, {"reference": None}):
        other = Explainer(model, None, replace(calibration, **changed)).identity()
        assert other["model"] == known["model"]
        assert other["calibration"]["digest"] != known["calibration"]["digest"]
    explainer = Explainer(model)
    next(model.parameters()).data.mul_(1.01)
    assert explainer.identity()["model"]["digest"] != known["model"]["digest"]
