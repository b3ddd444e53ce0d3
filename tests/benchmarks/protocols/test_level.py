"""Ranks against counting by hand, and the rows of maps that are planted."""

import numpy as np
import pytest
import torch

from benchmarks.protocols.level import CLEAN, DEGRADATIONS, Level, ranked
from captum_plq.metrics import spearman
from tests.support.face_network import planted_context

pytest.importorskip("cv2")


@pytest.fixture
def images():
    return torch.randint(60, 256, (3, 3, 112, 112), generator=torch.manual_seed(0)).float()


def test_ranks_by_hand():
    clean, blurred, dark = np.array([3.0, 5, 4]), np.array([1.0, 4, 0]), np.array([3.0, 5, 4])
    levels = {CLEAN: clean, "blur": blurred, "dark": dark}
    quality = {CLEAN: np.array([6.0, 8, 7]), "blur": np.array([1.0, 3, 2]), "dark": dark}
    found = ranked(levels, quality)
    auroc = {group: cell["mean"] for group, cell in found["auroc"].items()}
    # blur: 3 beats 1 and 0; 5 all three; 4 beats 1 and 0, and ties with 4
    assert auroc["condition=blur"] == pytest.approx(7.5 / 9)
    assert auroc["condition=dark"] == pytest.approx(0.5)
    assert auroc["all"] == pytest.approx((7.5 / 9 + 0.5) / 2)
    both = (torch.tensor(np.concatenate([*x.values()]))[None, None] for x in (levels, quality))
    assert found["spearman"]["all"]["mean"] == pytest.approx(spearman(*both).item())
    assert found["spearman"][f"condition={CLEAN}"]["mean"] == pytest.approx(1)
    for cell in (*found["auroc"].values(), *found["spearman"].values()):
        assert cell["low"] <= cell["mean"] <= cell["high"]
        assert cell["images"] == 3
    assert [found[m]["all"]["rows"] for m in found] == [9, 9]


def test_people_are_drawn_with_all_their_images():
    """Clean beats degraded in every pair of each person; so it does however people are drawn."""
    level = np.arange(20.0)
    cell = ranked({CLEAN: level + 100, "blur": level}, {CLEAN: level, "blur": -level})
    assert cell["auroc"]["all"] | {"images": 20} == {
        "mean": 1, "low": 1, "high": 1, "images": 20, "rows": 40
    }  # fmt: skip
    one = ranked({CLEAN: level[:1] + 1, "blur": level[:1]}, {CLEAN: level[1:2], "blur": level[:1]})
    assert one["auroc"]["all"]["low"] is None
    same = ranked({CLEAN: np.ones(4), "blur": np.ones(4)}, {CLEAN: level[:4], "blur": level[4:8]})
    assert same["spearman"] == {}
    assert same["auroc"]["all"]["mean"] == 0.5


def test_rows_of_brightness(images):
    names = ("plq", "plq (random weights)")

    def maps(x):
        brightness = x.mean(1)
        return {names[0]: brightness, names[1]: -brightness}

    context = planted_context(maps, lambda x: x.mean((1, 2, 3)), nulls=[0])
    context.subject.untrained = lambda _: context.subject
    rows = Level(model=("m",)).rows(context, images, "abc")
    found = {(r["image"], r["method"], r["condition"]): r for r in rows}
    assert len(found) == len(rows) == 3 * 4 * (1 + len(DEGRADATIONS))
    for condition in DEGRADATIONS:
        for name, falls in zip((*names, "Q", "Q (random weights)"), (1, 0, 1, 1), strict=True):
            if condition in ("lower face covered", "block of 40 px", "dark, -4 stops"):
                assert found["b", name, condition]["falls"] == falls
        assert found["a", "plq", condition]["level"] == pytest.approx(
            found["a", "plq", condition]["quality"], rel=1e-5
        )
    assert "falls" not in found["a", "plq", CLEAN]
    alone = Level(model=("m",)).rows(context, images[1:2], "b")
    for row in alone:
        assert row["level"] == pytest.approx(
            found["b", row["method"], row["condition"]]["level"], rel=1e-5
        )
