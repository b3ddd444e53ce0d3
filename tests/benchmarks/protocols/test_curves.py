"""Curves along planted maps, by hand."""

import pytest
import torch

from benchmarks.protocols.curves import IMPUTERS, Curves, imputer_of
from benchmarks.protocols.parts.rings import within_rings
from captum_plq import metrics
from captum_plq.metrics import spearman
from tests.support.face_network import planted_context


def brightness(images):
    return images.mean((1, 2, 3))


def test_a_hand_computed_example():
    """Four pixels of 40, 30, 20 and 10, removed to black one by one: sums 100, 60, 30, 10, 0."""
    image = torch.tensor([[[[40.0, 30.0], [20.0, 10.0]]]])
    context = planted_context({"planted": image[0]}, brightness)
    (row,) = Curves(model=("m",), imputers=("black",), steps=4).rows(context, image, ["one"])
    assert row["curves"] == [[25, 15, 7.5, 2.5, 0], [25, 22.5, 17.5, 10, 0]]
    assert row["morf"] == pytest.approx((12.5 + 15 + 7.5 + 2.5) / 4)
    assert row["lerf"] == pytest.approx((12.5 + 22.5 + 17.5 + 10) / 4)
    assert row["srg"] == pytest.approx(row["lerf"] - row["morf"])
    assert row["srg_rings"] == pytest.approx(row["srg"]), "four pixels at one distance"


def test_a_map_on_random_weights_is_measured_on_these():
    maps = {"plq": torch.rand(1, 4, 4), "plq (random weights)": torch.rand(1, 4, 4)}
    trained, random = (
        planted_context(maps, quality) for quality in (brightness, lambda x: brightness(x) / 10)
    )
    trained.network_for = lambda method: (random if "random" in method else trained).subject
    protocol, image = Curves(model=("m",), steps=2), torch.full((1, 3, 4, 4), 100.0)
    rows = protocol.rows(trained, image, ["one"])
    assert [row["curves"][0][0] for row in rows] == [100, 100, 10, 10]


def test_in_rings_the_distance_from_the_centre_plays_no_part():
    centre = metrics.centre_gaussian(112, 112, 28.0)[None]
    side = torch.linspace(0, 1, 112).expand(1, 112, 112)
    ranks = within_rings(torch.cat([centre, side, side + 5 * centre]))
    rows = torch.arange(112.0) - 55.5
    rings = (torch.hypot(rows[:, None], rows) // 2).long().flatten()
    for own in ranks.flatten(1):
        for ring in rings.unique():
            assert own[rings == ring].mean() == pytest.approx(0.5)
    assert spearman(ranks[:1], centre).abs() < 0.05
    assert spearman(ranks[1:2], side) > 0.9
    assert spearman(ranks[2:], ranks[1:2]) > 0.95
    assert (within_rings(torch.ones(1, 8, 8)) == 0.5).all()


@pytest.mark.parametrize("name", IMPUTERS)
def test_imputers_do_what_they_are_called(name):
    image = torch.arange(48.0).view(1, 3, 4, 4)
    removed = torch.zeros(1, 4, 4, dtype=torch.bool)
    removed[0, 1, 2] = True
    found = imputer_of(name, 4)(image, removed)
    torch.testing.assert_close(found[:, :, ~removed[0]], image[:, :, ~removed[0]])
    assert (found[0, :, 1, 2] == 0).all() == (name == "black")
