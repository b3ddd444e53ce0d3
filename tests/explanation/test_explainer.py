"""Explainer: aligned faces in, explanation on disk out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling, quality_map
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
SPEC = ModelSpec(
    "toy",
    (24, 24),
    (127.5,) * 3,
    (128.0,) * 3,
    scaling=QualityScaling(50.0, 0.5),
    gamma=8.0,
    note="A toy.",
)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.PReLU(), nn.Flatten(), nn.Linear(6 * 11 * 11, 12)
        )
    return FaceModel(backbone, SPEC).eval()


@pytest.fixture
def chips():
    return np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)


@pytest.fixture
def calibration(model):
    generator = torch.Generator().manual_seed(1)
    faces = 255 * torch.rand(20, 3, 24, 24, generator=generator)
    return calibrate(model, faces.split(8))


def as_tensor(chips):
    return torch.from_numpy(chips).permute(0, 3, 1, 2).float()


def test_computes_what_serfiq_computes_and_leaves_the_model_as_it_was(model, chips):
    model.train()
    before = snapshot(model)
    explanation = Explainer(model)(chips)
    assert_untouched(before, model)
    expected = SERFIQ(model)(as_tensor(chips)).detach()
    torch.testing.assert_close(torch.tensor(explanation.quality), expected)
    scaled = torch.sigmoid(50 * (expected - 0.5))
    torch.testing.assert_close(torch.tensor(explanation.scaled_quality), scaled)
    redrawn = [Explainer(model, Settings(seed=seed))(chips).quality for seed in range(1, 40)]
    np.testing.assert_allclose(
        explanation.quality_standard_error, np.std(redrawn, axis=0, ddof=1), rtol=0.4
    )


@pytest.mark.parametrize("calibrated", [False, True])
def test_saves_one_face_and_many(model, chips, calibration, tmp_path, calibrated):
    explainer = Explainer(model, calibration=calibration if calibrated else None)
    for stem, batch, names in (("one", chips[:1], None), ("many", chips, ["a", "b", "c"])):
        explanation = explainer(batch)
        paths = explanation.save(tmp_path / "new", stem, names=names, extra={"source": "here"})
        assert [path.name for path in paths] == [f"{stem}{e}" for e in (".png", ".npz", ".json")]
        assert paths[0].stat().st_size > 5000
        arrays = np.load(paths[1])
        np.testing.assert_array_equal(arrays["maps"], explanation.maps)
        np.testing.assert_array_equal(arrays["images"], batch)
        record = json.loads(paths[2].read_text("utf-8"))
        assert [face["quality"] for face in record["faces"]] == explanation.quality
        assert [face.get("name") for face in record["faces"]] == (names or [None])
        assert record["source"] == "here"
        assert record["files"] == {"figure": f"{stem}.png", "arrays": f"{stem}.npz"}
        assert record["versions"]["captum-plq"]
        assert ("relative_maps" in arrays) is calibrated
        if calibrated:
            np.testing.assert_array_equal(arrays["relative_maps"], explanation.relative_maps)
            means = [face["mean_relative_quality"] for face in record["faces"]]
            assert means == pytest.approx(explanation.relative_maps.mean((1, 2)).tolist())
            assert record["calibration"]["network_digest"] == calibration.network_digest
        else:
            assert record["calibration"] is None


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


def test_titles_and_caption(model, chips):
    explanation = Explainer(model)(chips[:1])
    (title,) = explanation.titles(["me"])
    assert title.startswith(f"me\nQ = {explanation.quality[0]:.3f} ± 0.")
    assert title.endswith(f"\nQ̂ = {explanation.scaled_quality[0]:.2f}")
    for part in ("toy", "m = 100", "p = 0.5", "weights l1", "γ = 8.00", "A toy."):
        assert part in explanation.caption


@pytest.mark.parametrize(
    ("settings", "scaled", "gamma_source"),
    [
        (Settings(), True, "of toy"),
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
    explanation = Explainer(model, settings)(chips[:1])
    parameters = explanation.record["parameters"]
    assert (parameters["alpha"], parameters["r"]) == ((50.0, 0.5) if scaled else (None, None))
    assert (explanation.scaled_quality is not None) is scaled
    assert gamma_source in parameters["gamma_source"]
    given = {"of toy": 8.0, "given": 3.0}.get(gamma_source)
    assert given is None or parameters["gamma"] == given
    assert parameters["normalize_embedding"] is (settings.weights != "l2")


def test_an_unknown_gamma_is_that_of_the_sample_face(model, chips):
    """So a face's map depends on no other face of the run, and on no order."""
    dark = np.concatenate([chips[:1] // 8, chips[:1]])
    explainer = Explainer(model, SIGNED)
    explainer(dark[:1])
    alone = explainer(chips[:1])
    for batch, place in ((dark, 1), (dark[::-1], 0)):
        again = Explainer(model, SIGNED)(batch).maps[place]
        np.testing.assert_allclose(again, alone.maps[0], atol=1e-5)
    assert np.median(explainer(sample_chip((24, 24))[None]).maps) == pytest.approx(0.5, abs=0.01)
    assert alone.record["parameters"]["gamma"] == explainer.gamma
    assert "sample face" in alone.caption
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


def test_images_of_another_size_are_refused(model, chips):
    with pytest.raises(ValueError, match=r"toy takes images of shape \(B, 3, 24, 24\)"):
        Explainer(model)(chips[:, :20])


@pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")
@pytest.mark.parametrize("kind", ["no slope", "dead features"])
def test_an_uninformative_face_is_refused_by_name(model, chips, kind):
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


class Twice(nn.Module):
    """Returns an embedding and a number, by name and by position."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        embedding = self.network(x)
        return {"embedding": embedding, "norm": embedding.norm(dim=1)}


def pick(output):
    return output["embedding"]


@pytest.mark.parametrize(("output", "told"), [(0, 0), ("embedding", "embedding"), (pick, "pick")])
def test_the_record_is_plain_json_for_any_output_selector(model, chips, output, told):
    other = FaceModel(Twice(model.backbone), replace(SPEC, output=output))
    record = Explainer(other)(chips[:1]).record
    assert json.loads(json.dumps(record))["model"]["output"] == told


def test_uses_a_calibration(model, chips, calibration):
    explainer = Explainer(model, calibration=calibration)
    explanation = explainer(chips)
    images = as_tensor(chips)
    scaled = PixelQualityAttribution(model, scaling=calibration.scaling).attribute(images)
    plain, q = PixelQualityAttribution(model).attribute(images, return_quality=True)
    expected = relative_pixel_quality(merge_channels(plain), calibration.reference)
    np.testing.assert_allclose(explanation.relative_maps, expected, atol=1e-5)
    np.testing.assert_allclose(explanation.attributions, scaled, rtol=1e-4)
    np.testing.assert_allclose(explanation.maps, quality_map(scaled, calibration.gamma), atol=1e-5)
    q_hat = torch.sigmoid(calibration.scaling.alpha * (q - calibration.scaling.r))
    assert explanation.scaled_quality == pytest.approx(q_hat.tolist(), rel=1e-4)
    assert explanation.record["parameters"]["gamma"] == calibration.gamma
    assert f"calibration of toy of {calibration.date}" in explanation.caption
    alone = explainer(chips[1:2]).relative_maps[0]
    np.testing.assert_allclose(alone, explanation.relative_maps[1], atol=1e-4)
    given = Explainer(model, Settings(gamma=3.0), calibration)(chips)
    assert given.record["parameters"]["gamma"] == 3.0


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


def test_a_shipped_calibration_matches_only_what_it_was_measured_with(model):
    shipped = load_model(DEFAULT_MODEL)
    assert matching_calibration(shipped).network == DEFAULT_MODEL
    assert matching_calibration(shipped, Settings(passes=50)) is None
    assert matching_calibration(model) is None
