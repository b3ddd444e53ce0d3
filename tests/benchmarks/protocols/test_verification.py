"""Verification: thresholds and folds against brute force, and the command from end to end."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.protocols.verification import best_threshold, score_folds, verify
from benchmarks.subjects.pairs import Pair, read_pairs
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import SHARED_DATA
from tests.support.face_network import write_pairs

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
SPEC = ModelSpec("means", (24, 24), mean=(127.5,) * 3, std=(127.5,) * 3, source="made here")


class Means(nn.Module):
    """Embeds an image as its mean colour, (B, 3), and counts what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        return x.mean((2, 3))


def means_model():
    return FaceModel(Means(), SPEC).eval()


def test_threshold_by_hand():
    assert best_threshold(np.array([0.1, 0.2, 0.8]), np.array([False, False, True])) == 0.5
    assert best_threshold(np.array([0.4, 0.2]), np.array([True, True])) < 0.2
    assert best_threshold(np.arange(6.0), np.array([False, True] * 3)) == 2.5
    assert best_threshold(np.array([0.4, 0.2]), np.array([False, False])) > 0.4


@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_is_better_though_equal_scores_fall_on_the_same_side(seed):
    generator = np.random.default_rng(seed)
    mated = generator.random(30) < 0.5
    scores = np.round(generator.normal(mated.astype(float), 0.8), 1)  # with ties

    def accuracy(threshold):
        return ((scores >= threshold) == mated).mean()

    tried = np.concatenate([scores - 0.05, scores + 0.05])
    assert accuracy(best_threshold(scores, mated)) == max(map(accuracy, tried))


def test_each_fold_is_judged_by_the_others():
    """Fold b's own best threshold would be 0.3; fold a dictates 0.7, where b gets half."""
    mated = {"a": [True, True, False, False], "b": [True, True, False, True]}
    pairs = [Pair(fold, "x", "y", m) for fold, own in mated.items() for m in own]
    a, b = score_folds(pairs, np.array([0.9, 0.8, 0.6, 0.1, 0.5, 0.4, 0.2, 0.9]))
    assert a == {"fold": "a", "pairs": 4, "threshold": pytest.approx(0.3), "accuracy": 0.75}
    assert b == {"fold": "b", "pairs": 4, "threshold": pytest.approx(0.7), "accuracy": 0.5}


def test_every_image_once_and_cosines_of_unit_embeddings(tmp_path):
    model, (faces, listed) = means_model(), write_pairs(tmp_path, 3, 24, coloured=True)
    found = verify(model, faces, listed, batch=4)
    assert model.backbone.seen == [4, 2]
    assert (found["faces"], found["accuracy"], found["deviation"]) == (6, 1.0, 0.0)
    cosines = {True: [], False: []}
    for pair in read_pairs(listed):
        a, b = (
            np.asarray(Image.open(faces / name), np.float64).mean((0, 1)) / 127.5 - 1
            for name in (pair.first, pair.second)
        )
        cosines[pair.mated].append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found["mated"] == pytest.approx(np.mean(cosines[True]), abs=1e-5)
    assert found["non_mated"] == pytest.approx(np.mean(cosines[False]), abs=1e-5)


def test_unusable_images_cost_their_pairs_only(tmp_path):
    faces, listed = write_pairs(tmp_path, 3, 24, coloured=True)
    (faces / "p0" / "2.png").write_bytes(b"no image")
    found = verify(means_model(), faces, listed)
    assert list(found["left_out"]) == ["p0/2.png"]
    assert (found["faces"], found["pairs_left_out"]) == (5, 4)
    assert sum(fold["pairs"] for fold in found["folds"]) == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fold,first,second\n1,a,b\n", "lacks mated"),
        ("fold,first,second,mated\n1,a,b,yes\n", "line 2: .* mated 0 or 1"),
        ("fold,first,second,mated\n1,a,,1\n", "two images"),
        ("fold,first,second,mated\n1,a,b,1\n1,a,c,0\n", "1 folds"),
        ("fold,first,second,mated\n1,a,b,1\n2,a,c,1\n", "2 of them mated"),
        ("", "lacks fold, first, second, mated"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, text, message):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path / "pairs.csv")


def test_the_command(tmp_path, capsys):
    network, out = tmp_path / "net.py", tmp_path / "out"
    network.write_text(f"from {__name__} import means_model as load_model\n")
    faces, listed = write_pairs(tmp_path, 3, 24, coloured=True)
    given = f"verification --model {network} --pairs {listed} --threads 1 -o {out} --images".split()
    before = torch.get_rng_state()
    assert main([*given, str(faces)]) == 0
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(p.name for p in out.iterdir()) == ["verification-means.json", "verification.md"]
    text = (out / "verification.md").read_text("utf-8")
    assert "| means | faces | 1.0000 | 0.0000 |" in text
    assert all(word in text for word in ("made here", "pairs.csv", "6 images"))
    assert "m = " not in text  # SER-FIQ plays no part
    assert main([*given, str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert main([*given, str(tmp_path)]) == 2  # there the images are called something else
    assert "6 images of which could not be used" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "accuracy", "mated", "non_mated"),
    [
        ("mobilefacenet_y1", 0.9933, 0.677, 0.006),
        ("mobilefacenet_foamliu", 0.9917, 0.654, 0.010),
        ("edgeface_xs", 0.9943, 0.641, 0.007),
    ],
)
def test_figures_of_the_shared_data(name, accuracy, mated, non_mated):
    path, faces = SHARED_DATA / "weights" / "reference_nets.py", SHARED_DATA / "faces"
    if not path.is_file():
        pytest.skip("needs the weights in ../shared/data, which are absent")
    spec = importlib.util.spec_from_file_location("reference_nets", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    raw = ModelSpec(name, (112, 112), mean=(0.0,) * 3, std=(1.0,) * 3)
    model = FaceModel(module.load(name), raw).eval()
    found = verify(model, faces / "lfw", faces / "lfw_pairs_folds1-5.csv")
    assert found["accuracy"] == pytest.approx(accuracy, abs=0.003)
    assert found["mated"] == pytest.approx(mated, abs=0.002)
    assert found["non_mated"] == pytest.approx(non_mated, abs=0.002)
    assert (found["faces"], found["pairs_left_out"], len(found["folds"])) == (3811, 0, 5)
