"""Estimators against the limit: scores from a plain loop, and the command from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.__main__ import main
from benchmarks.protocols.estimators import Estimators
from benchmarks.subjects.face_sets import FaceSets
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import SmallFaceNet
from tests.support.face_network import write_pairs

SPEC = ModelSpec("small", (20, 20), mean=(127.5,) * 3, std=(127.5,) * 3, source="made here")
PROTOCOL = Estimators(model=(), images=None, m=(6, 40), repeats=6, limit=300, threads=1)


def small_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FaceModel(SmallFaceNet().eval(), SPEC).eval()


@pytest.fixture(scope="module")
def faces():
    generator = torch.Generator().manual_seed(2)
    images = (255 * torch.rand(10, 3, 20, 20, generator=generator)).round()
    names = tuple(f"{i}.png" for i in range(10))
    return FaceSets(images, names, images[:0], (), "noise", unusable=1)


@pytest.fixture(scope="module")
def study(faces):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    found = PROTOCOL.study(small_model(), faces)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    return found


def scores(study, estimator):
    return {s["passes"]: s for s in study["scores"] if s["estimator"] == estimator}


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

        limit = distances(300, 10**6)
        runs = torch.stack([distances(6, seed) for seed in range(6)])
    score = scores(study, "sampling")[6]
    assert score["error"] == pytest.approx(float((runs / limit - 1).abs().mean()), rel=1e-3)
    assert score["bias"] == pytest.approx(float(runs.mean() / limit.mean() - 1), abs=1e-4)
    assert study["distance"] == pytest.approx(float(limit.mean()), rel=1e-5)
    ranks = np.argsort(np.argsort(torch.cat([limit[None], runs]).numpy(), axis=1), axis=1)
    want = np.mean([np.corrcoef(ranks[0], run)[0, 1] for run in ranks[1:]])
    assert score["spearman"] == pytest.approx(want, abs=0.02)


def test_more_passes_err_less_and_head_and_network_agree(study):
    for name in ("sampling", "balanced"):
        few, many = scores(study, name)[6], scores(study, name)[40]
        assert many["error"] < few["error"]
        assert few["repeats"] == 6
        assert 0.3 < few["stated_error"] < 3
    closed = scores(study, "closed-form")[None]
    assert closed["error"] < scores(study, "sampling")[40]["error"]
    assert closed["stated_error"] is None
    assert closed["repeats"] == 1
    assert study["whole_network"] < 1e-5
    keys = ("features", "embedding", "faces", "left_out")
    assert [study[key] for key in keys] == [300, 16, 10, 1]


def test_a_balanced_limit_is_the_same_and_surer(study, faces):
    other = replace(PROTOCOL, m=(6,), repeats=2, limit_by="balanced").study(small_model(), faces)
    assert other["distance"] == pytest.approx(study["distance"], rel=0.01)
    assert other["reference_error"] < study["reference_error"]
    assert "300 balanced passes" in Estimators.page([other])


def test_other_dropout_rates_leave_balanced_out_and_a_head_must_be_affine(faces):
    protocol = replace(PROTOCOL, dropout=0.3, m=(6,), repeats=2, limit=50)
    found = protocol.study(small_model(), faces)
    assert [s["estimator"] for s in found["scores"]] == ["sampling", "closed-form"]
    model = FaceModel(nn.Sequential(small_model().backbone, nn.PReLU()).eval(), SPEC).eval()
    with pytest.raises(ValueError, match="PReLU"):
        protocol.study(model, faces)


def test_table_and_figure_show_every_score(study):
    first = {key: value for key, value in study.items() if key != "reference_estimator"}
    text = Estimators.page([first])  # the first files do not say it
    assert text.count("| small |") == len(study["scores"]) == 5
    assert all(x in text for x in ("made here", "noise", "300 independent", "1 unusable"))
    figure = Estimators.figures([first, study])["estimators"]
    assert len(figure.axes) == 4
    error = figure.axes[0].lines[0].get_ydata()
    assert error.tolist() == [s["error"] for s in scores(study, "sampling").values()]
    assert "300" in figure.get_supxlabel()


def test_the_command(tmp_path, capsys):
    faces, _ = write_pairs(tmp_path, 2, 20)
    network, out = tmp_path / "net.py", tmp_path / "out"
    network.write_text(f"from {__name__} import small_model as load_model\n")
    given = f"estimators --model {network} --faces 4 --m 6 --repeats 2 --limit 50 --threads 1 "
    given += f"--limit-by balanced -o {out} --images"
    assert main([*given.split(), str(faces)]) == 0
    names = ["estimators-small-p0.5-balanced-limit.json", "estimators.md", "estimators.png"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert json.loads((out / names[0]).read_text())["images"] == "faces"
    assert main([*given.split(), str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
