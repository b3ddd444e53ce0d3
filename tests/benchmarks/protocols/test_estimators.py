import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.__main__ import main
from benchmarks.protocols.estimators import EstimatorSettings, EstimatorStudy, study_estimators
from benchmarks.protocols.estimators_report import estimators_figure, estimators_markdown
from benchmarks.subjects.face_sets import FaceSets
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import SmallFaceNet

pytest.importorskip("scipy", reason="needs the extra [benchmarks]")

SPEC = ModelSpec("small", (20, 20), mean=(127.5,) * 3, std=(127.5,) * 3, source="made here")
SETTINGS = EstimatorSettings(passes=(6, 40), repeats=6, reference_passes=600, threads=1)


def small_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FaceModel(SmallFaceNet().eval(), SPEC).eval()


@pytest.fixture(scope="module")
def faces():
    generator = torch.Generator().manual_seed(2)
    images = (255 * torch.rand(10, 3, 20, 20, generator=generator)).round()
    return FaceSets(
        images, tuple(f"{i}.png" for i in range(10)), images[:0], (), "noise", unusable=1
    )


@pytest.fixture(scope="module")
def study(faces):
    return study_estimators(small_model(), faces, "noise", SETTINGS)


def scores(study, estimator):
    return {s.passes: s for s in study.scores if s.estimator == estimator}


def test_errors_are_those_of_a_plain_loop(study, faces):
    """One score, computed anew with masks drawn as the package does but nothing else of it."""
    net = small_model().backbone
    with torch.no_grad():
        features = net.trunk(faces.images / 127.5 - 1)

        def distances(m, seed):
            kept = torch.rand(m, 300, generator=torch.Generator().manual_seed(seed)) >= 0.5
            rows = [net.bn(net.fc(features * mask * 2)) for mask in kept]
            units = F.normalize(torch.stack(rows, dim=1), dim=2)
            return torch.stack([torch.pdist(x.double()).mean() for x in units])

        limit = distances(600, 10**6)
        runs = torch.stack([distances(6, seed) for seed in range(6)])
    score = scores(study, "sampling")[6]
    assert score.error == pytest.approx(float((runs / limit - 1).abs().mean()), rel=1e-3)
    assert score.bias == pytest.approx(float(runs.mean() / limit.mean() - 1), abs=1e-4)
    assert study.distance == pytest.approx(float(limit.mean()), rel=1e-5)
    ranks = np.argsort(np.argsort(torch.cat([limit[None], runs]).numpy(), axis=1), axis=1)
    want = np.mean([np.corrcoef(ranks[0], run)[0, 1] for run in ranks[1:]])
    assert score.spearman == pytest.approx(want, abs=0.02)


def test_more_passes_err_less_and_all_is_in_range(study):
    for name in ("sampling", "balanced"):
        few, many = scores(study, name)[6], scores(study, name)[40]
        assert many.error < few.error
        assert few.repeats == 6
        assert 0.3 < few.stated_error < 3
    closed = scores(study, "closed-form")[None]
    assert closed.error < scores(study, "sampling")[40].error
    assert closed.stated_error is None
    assert closed.repeats == 1


def test_head_and_whole_network_agree(study):
    assert study.whole_network < 1e-5
    assert (study.features, study.embedding, study.faces, study.left_out) == (300, 16, 10, 1)


def test_a_balanced_limit_is_the_same_and_surer(study, faces):
    settings = dataclasses.replace(SETTINGS, passes=(6,), reference_estimator="balanced")
    other = study_estimators(small_model(), faces, "noise", settings)
    assert other.stem == "estimators-small-p0.5-balanced-limit"
    assert other.distance == pytest.approx(study.distance, rel=0.01)
    assert other.reference_error < study.reference_error
    assert "600 balanced passes" in estimators_markdown([other])


def test_other_dropout_rates_leave_balanced_out(faces):
    settings = dataclasses.replace(SETTINGS, dropout=0.3, passes=(6,), repeats=2)
    names = [s.estimator for s in study_estimators(small_model(), faces, "noise", settings).scores]
    assert names == ["sampling", "closed-form"]


def test_a_head_that_is_not_affine_is_refused(faces):
    model = FaceModel(nn.Sequential(small_model().backbone, nn.PReLU()).eval(), SPEC).eval()
    with pytest.raises(ValueError, match="PReLU"):
        study_estimators(model, faces, "noise", SETTINGS)


def test_the_random_state_and_threads_are_put_back(faces):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    study_estimators(small_model(), faces, "noise", dataclasses.replace(SETTINGS, passes=(6,)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_json_there_and_back(study):
    assert EstimatorStudy.from_json(json.loads(json.dumps(study.to_json()))) == study


def test_table_and_figure_show_every_score(study):
    text = estimators_markdown([study])
    assert text.count("| small |") == len(study.scores) == 5
    for word in ("made here", "noise", "600 independent", study.conditions.commit, "1 unusable"):
        assert word in text
    figure = estimators_figure([study, study])
    assert len(figure.axes) == 4
    error = figure.axes[0].lines[0].get_ydata()
    assert error.tolist() == [s.error for s in study.scores if s.estimator == "sampling"]
    assert "600" in figure.get_supxlabel()


def test_command_line(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), np.uint8)
        image.fromarray(pixels).save(tmp_path / f"{i}.png")
    network = tmp_path / "net.py"
    home = "tests.benchmarks.protocols.test_estimators"
    network.write_text(f"from {home} import small_model as load_model\n")
    out = tmp_path / "out"
    arguments = ["--model", str(network), "--images", str(tmp_path), "--faces", "4", "--m", "6"]
    arguments += ["--repeats", "2", "--limit", "50", "--threads", "1", "-o", str(out)]
    assert main(["estimators", *arguments]) == 0
    names = ["estimators-small-p0.5.json", "estimators.md", "estimators.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert main(["estimators", *arguments[:3], str(tmp_path / "nowhere"), *arguments[4:]]) == 2
    assert "no folder" in capsys.readouterr().err
    assert math.isfinite(json.loads((out / names[0]).read_text())["distance"])
