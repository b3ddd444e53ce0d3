"""Times of maps: what is compared, and what a run says of itself."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.__main__ import main
from benchmarks.protocols.costs.map_time import REFERENCE, MapTime
from benchmarks.subjects.maps import MAPS
from captum_plq.models import FaceModel, ModelSpec
from tests.support.face_network import NETWORK, study_context


class Counted(nn.Conv2d):
    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


def context(methods):
    torch.manual_seed(0)
    net = nn.Sequential(Counted(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 8))
    model = FaceModel(net, ModelSpec("tiny", (16, 16), (127.5,) * 3, (128.0,) * 3)).eval()
    pixels = 255 * torch.rand(6, 3, 16, 16)
    return study_context(model, methods, pixels[:2], pixels, passes=4)


def test_each_map_is_made_anew_in_each_round():
    protocol = MapTime(model=(), methods=("plq", "plq-relative"), rounds=4)
    broken = replace(MAPS["random"], name="broken", build=lambda network: None)
    ready = context((*protocol.chosen(), broken))
    images = 255 * torch.rand(2, 3, 16, 16)
    ready.maps(images)
    before = Counted.calls
    found = protocol.times(ready, images)
    # 4 rounds of the reference, again it, and both PLQ, a forward each
    assert Counted.calls - before >= 4 * 4
    assert set(found["ratios"]) == {REFERENCE, f"{REFERENCE} again", "plq", "plq-relative"}
    assert all(spread["count"] == 4 for spread in found["ratios"].values())
    assert found["ratios"][REFERENCE]["median"] == 1
    assert found["void"] == (abs(found["ratios"][f"{REFERENCE} again"]["median"] - 1) > 0.03)
    text = MapTime.page([found])
    assert "| plq-relative |" in text
    assert "`broken` has no time" in text
    assert ("**void**" in text) == found["void"]


def test_the_reference_has_to_work():
    failing = replace(MAPS[REFERENCE], build=lambda network: 1 / 0)
    with pytest.raises(ValueError, match=r"saliency-sum.*ZeroDivisionError"):
        MapTime(model=()).times(context([failing]), torch.rand(1, 3, 16, 16))


def test_the_command(tmp_path):
    (tmp_path / "mine.py").write_text(NETWORK)
    given = f"map-time --model {tmp_path / 'mine.py'} --faces 2 --reference 4 --methods plq"
    given += f" --rounds 2 --passes 5 -o {tmp_path}"
    assert main(given.split()) in (0, 1)  # 1: a void run, on a busy machine
    assert (tmp_path / "map-time-mine-cpu-b2.json").is_file()
    assert "ms per image" in (tmp_path / "map-time.md").read_text("utf-8")
