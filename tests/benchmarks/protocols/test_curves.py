"""Curves along planted maps, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.protocols.curves import IMPUTERS, Curves, imputer_of

pytest.importorskip("scipy", reason="needs the extra [benchmarks]")


def brightness(images):
    return images.mean((1, 2, 3))


def context_of(maps):
    subject = SimpleNamespace(quality=brightness, rows=7)
    methods = [SimpleNamespace(name=name) for name in maps]
    return SimpleNamespace(
        subject=subject, network_for=lambda _: subject, methods=methods, maps=lambda images: maps
    )


def test_a_hand_computed_example():
    """Four pixels of 40, 30, 20 and 10, removed to black one by one: sums 100, 60, 30, 10, 0."""
    image = torch.tensor([[[[40.0, 30.0], [20.0, 10.0]]]])
    rows = Curves(model=("m",), imputers=("black",), steps=4).rows(
        context_of({"planted": image[0]}), image, ["one"]
    )
    (row,) = rows
    assert row["curves"] == [[25, 15, 7.5, 2.5, 0], [25, 22.5, 17.5, 10, 0]]
    assert row["morf"] == pytest.approx((12.5 + 15 + 7.5 + 2.5) / 4)
    assert row["lerf"] == pytest.approx((12.5 + 22.5 + 17.5 + 10) / 4)
    assert row["srg"] == pytest.approx(row["lerf"] - row["morf"])


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_planted_best_inverted_worst_random_at_chance(imputer):
    generator = torch.Generator().manual_seed(0)
    images = torch.full((6, 3, 12, 12), 20.0)
    images[:, :, 3:8, 4:9] = 220.0
    planted = images.mean(1) + torch.rand(6, 12, 12, generator=generator)
    maps = {
        "planted": planted,
        "inverted": -planted,
        "random": torch.rand(6, 12, 12, generator=generator),
        "constant": torch.ones(6, 12, 12),
    }
    names = [str(i) for i in range(6)]
    rows = Curves(model=("m",), imputers=(imputer,), steps=10).rows(context_of(maps), images, names)
    srg = {name: np.array([r["srg"] for r in rows if r["method"] == name]) for name in maps}
    assert (srg["planted"] > 2).all()
    np.testing.assert_allclose(srg["inverted"], -srg["planted"], rtol=1e-4)
    for name in ("random", "constant"):
        assert (np.abs(srg[name]) < srg["planted"] / 3).all(), name


def test_a_map_on_random_weights_is_measured_on_these():
    context = context_of({"plq": torch.rand(1, 4, 4), "plq (random weights)": torch.rand(1, 4, 4)})
    dim = SimpleNamespace(quality=lambda images: brightness(images) / 10, rows=7)
    own = context.subject
    context.network_for = lambda method: dim if "random" in method else own
    image = torch.full((1, 3, 4, 4), 100.0)
    rows = Curves(model=("m",), imputers=("mean",), steps=2).rows(context, image, ["one"])
    assert [row["curves"][0][0] for row in rows] == [100.0, 10.0]


def test_imputers_do_what_they_are_called():
    image = torch.arange(48.0).view(1, 3, 4, 4)
    removed = torch.zeros(1, 4, 4, dtype=torch.bool)
    removed[0, 1, 2] = True
    for name in IMPUTERS:
        found = imputer_of(name, 4)(image, removed)
        kept = ~removed.expand(3, 4, 4)[None]
        torch.testing.assert_close(found[kept], image[kept])
        if name == "black":
            assert (found[0, :, 1, 2] == 0).all()
        else:
            assert (found[0, :, 1, 2] != 0).all()
