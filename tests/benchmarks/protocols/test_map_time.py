"""Times of maps: what is compared, and what a run says of itself."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.harness.environment import current_environment
from benchmarks.harness.study import StudyContext
from benchmarks.protocols.map_time import REFERENCE, MapTime
from benchmarks.subjects.face_sets import FaceSets
from benchmarks.subjects.maps import MAPS
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.models import FaceModel, ModelSpec


class Counted(nn.Conv2d):
    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


def context(methods):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(Counted(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 8))
        pixels = 255 * torch.rand(6, 3, 16, 16)
    model = FaceModel(net, ModelSpec("tiny", (16, 16), (127.5,) * 3, (128.0,) * 3)).eval()
    network = ExplainedNetwork(model, passes=4, reference=pixels)
    faces = FaceSets(pixels[:2], ("a", "b"), pixels, tuple("cdefgh"), "noise")
    environment = current_environment(
        torch.device("cpu"), torch.float32, passes=4, dropout=0.5, seed=0, rows=32
    )
    return StudyContext(model, network, methods, faces, environment)


def test_each_map_is_made_anew_in_each_round():
    protocol = MapTime(model=(), methods=("plq", "plq-relative"), rounds=4)
    broken = replace(MAPS["random"], name="broken", build=lambda network: None)
    ready = context((*protocol.chosen(), broken))
    images = 255 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    ready.maps(images)
    before = Counted.calls
    found = protocol.times(ready, images)
    # A warm-up in which the two PLQ share a forward; then 4 rounds of the reference, again it,
    # and both PLQ, a forward each.
    assert Counted.calls - before >= 4 * 4
    assert set(found["ratios"]) == {REFERENCE, f"{REFERENCE} again", "plq", "plq-relative"}
    assert all(spread["count"] == 4 for spread in found["ratios"].values())
    assert found["ratios"][REFERENCE]["median"] == 1
    assert "broken" in found["failed"]
    void = abs(found["ratios"][f"{REFERENCE} again"]["median"] - 1) > 0.03
    assert found["void"] == void
    text = MapTime.page([found])
    assert "| plq-relative |" in text
    assert "`broken` has no time" in text
    assert ("**void**" in text) == void


def test_the_reference_has_to_work():
    failing = replace(MAPS[REFERENCE], build=lambda network: 1 / 0)
    with pytest.raises(ValueError, match=r"saliency-sum.*ZeroDivisionError"):
        MapTime(model=()).times(context([failing]), torch.rand(1, 3, 16, 16))


def test_the_command(tmp_path):
    from benchmarks.__main__ import main
    from tests.support.face_network import NETWORK

    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    given = ["map-time", "--model", str(network), "--faces", "2", "--reference", "4"]
    given += ["--methods", "plq", "--rounds", "2", "--passes", "5"]
    assert main([*given, "-o", str(tmp_path)]) in (0, 1)  # 1: a void run, on a busy machine
    assert (tmp_path / "map-time-mine-cpu-b2.json").is_file()
    assert "ms per image" in (tmp_path / "map-time.md").read_text("utf-8")
