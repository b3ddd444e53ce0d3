"""On real faces and a trained network: relative maps find squares that the paper's map misses."""

import numpy as np
import pytest
import torch

from captum_plq.calibration import calibrate
from tests.conftest import SHARED_DATA
from tests.support.squares import auroc, faces, measure, network, squares, with_random_weights

pytestmark = pytest.mark.skipif(
    not (SHARED_DATA / "weights").is_dir(), reason="needs the shared faces and weights"
)


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_is_that_of_all_pairs(ties):
    rng = np.random.default_rng(0)
    score = rng.integers(0, 6, 40) if ties else rng.normal(size=40)
    positive = rng.random(40) < 0.3
    wins = [(a > b) + (a == b) / 2 for a in score[positive] for b in score[~positive]]
    got = auroc(torch.tensor(score), torch.tensor(positive))
    assert got == pytest.approx(np.mean(wins), abs=1e-12)


def test_squares_change_what_they_say_and_nothing_else():
    images = torch.full((3, 3, 112, 112), 100.0)
    images[:, :, ::2] = 50
    masks, spoilt = squares(images, 30)
    assert masks.flatten(1).sum(1).tolist() == [900] * 3
    for fill, changed in spoilt.items():
        differs = (changed != images).any(1)
        assert not (differs & ~masks).any()
        assert differs[masks].float().mean() > 0.99, fill
    assert torch.equal(spoilt["black"], squares(images, 30)[1]["black"])


@pytest.mark.slow
def test_relative_maps_find_squares(tmp_path):
    development, test = faces()
    table = measure(network(tmp_path), development, test)
    for fill, (relative, pooled) in {
        "black": (0.78, 0.89),
        "mean colour": (0.69, 0.79),
        "noise": (0.89, 0.96),
    }.items():
        paper = table["paper"][fill]
        assert table["relative"][fill] > max(relative, paper + 0.1)
        assert table["relative, pooled"][fill] > max(pooled, table["relative"][fill] + 0.03)
        assert table["clean"][fill] == pytest.approx(0.5, abs=0.06)
        assert table["across"][fill] > table["across, with Q̂"][fill] + 0.1

    null = measure(with_random_weights(network(tmp_path), development), development, test)
    for fill in ("black", "mean colour", "noise"):
        assert null["clean"][fill] == pytest.approx(0.5, abs=0.06)
        gain = table["relative, pooled"][fill] - null["relative, pooled"][fill]
        assert gain > 0.15  # what the network learned, not what any network shows


@pytest.mark.slow
def test_gamma_makes_the_middle_green_and_the_border_red(tmp_path):
    development, test = faces()
    model = network(tmp_path)
    found = calibrate(model, development.split(16))
    assert found.gamma_holds > 0.95
    assert found.centre_quality > 0.8
    assert found.border_quality < 0.2
    others = calibrate(model, test.split(16))
    assert others.gamma == pytest.approx(found.gamma, abs=0.3)
