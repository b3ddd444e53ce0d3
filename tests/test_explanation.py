"""Explainer: aligned faces in, explanation on disk out."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, QualityScaling
from captum_plq.explanation import Explainer, Settings
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import assert_untouched, snapshot


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


def test_the_caption_tells_what_made_the_map(model, chips):
    caption = Explainer(model)(chips).caption
    for part in ("toy", "m = 100", "p = 0.5", "weights l1", "γ = 8.00", "A toy."):
        assert part in caption


def test_an_unknown_gamma_is_chosen_once_per_run(model, chips):
    explainer = Explainer(model, Settings(weights="signed"))
    first = explainer(chips[:1])
    assert np.median(first.maps) == pytest.approx(0.5, abs=0.01)
    gamma = explainer.gamma
    second = explainer(chips[1:])
    assert explainer.gamma == gamma
    assert second.record["parameters"]["gamma"] == gamma
    assert "first image" in second.record["parameters"]["gamma_source"]


def test_a_given_gamma_wins(model, chips):
    explanation = Explainer(model, Settings(gamma=3.0))(chips)
    assert explanation.record["parameters"]["gamma"] == 3.0
    assert explanation.record["parameters"]["gamma_source"] == "given"


def test_images_of_another_size_are_refused(model, chips):
    with pytest.raises(ValueError, match=r"toy takes images of shape \(B, 3, 24, 24\)"):
        Explainer(model)(chips[:, :20])


def test_the_records_json_holds_only_plain_values(model, chips):
    record = Explainer(model)(chips).record
    assert json.loads(json.dumps(record))["versions"]["captum-plq"]
