"""Times of maps: what is compared, and what a run says of itself."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.harness.environment import current_environment
from benchmarks.harness.old_context import StudyContext
from benchmarks.protocols.map_time import REFERENCE, measure_map_times, write_map_time_report
from benchmarks.subjects.maps import MAPS, select_maps
from benchmarks.subjects.methods import on_random_weights
from benchmarks.subjects.network import ExplainedNetwork
from captum_plq.models import FaceModel, ModelSpec


class Counted(nn.Conv2d):
    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return super().forward(x)


@pytest.fixture
def context():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(Counted(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 49, 8))
        faces = 255 * torch.rand(6, 3, 16, 16)
    model = FaceModel(net, ModelSpec("tiny", (16, 16), (127.5,) * 3, (128.0,) * 3)).eval()
    subject = ExplainedNetwork(model, 0.0, 255.0, 4, 0.5, 0, 32, faces)
    broken = replace(MAPS["random"], name="broken", build=lambda subject: None)
    methods = (*select_maps([REFERENCE, "plq", "plq-relative"]), broken)
    return StudyContext(model, subject, (*methods, on_random_weights(MAPS["plq"])))


def conditions():
    return current_environment(
        torch.device("cpu"), torch.float32, passes=4, dropout=0.5, seed=0, rows=32
    )


def test_each_map_is_made_anew_in_each_round(context, tmp_path):
    images = 255 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    context.maps(images)
    before = Counted.calls
    times = measure_map_times(context, images, conditions(), rounds=4)
    # A warm-up in which the two PLQ share a forward; then 4 rounds of the reference, again it,
    # and both PLQ, a forward each.
    assert Counted.calls - before >= 4 * 4
    assert set(times.ratios) == {REFERENCE, f"{REFERENCE} again", "plq", "plq-relative"}
    assert all(spread.count == 4 for spread in times.ratios.values())
    assert times.ratios[REFERENCE].median == 1
    assert "broken" in times.failed

    path = times.write(tmp_path)
    record = json.loads(path.read_text("utf-8"))
    assert path.name == "map-time-tiny-cpu-b2.json"
    assert record["void"] == times.void
    text = write_map_time_report(tmp_path).read_text("utf-8")
    assert "| plq-relative |" in text
    assert "`broken` has no time" in text


def test_the_reference_has_to_be_there(context):
    context.methods = tuple(m for m in context.methods if m.name != REFERENCE)
    with pytest.raises(ValueError, match="saliency-sum"):
        measure_map_times(context, torch.rand(1, 3, 16, 16), conditions())


def test_command(tmp_path):
    from benchmarks.__main__ import main
    from tests.benchmarks.protocols.test_random_mask import NETWORK

    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    given = ["map-time", "--model", str(network), "--faces", "2", "--reference", "4"]
    given += ["--methods", "plq", "--random-weights", "none", "--rounds", "2", "--passes", "5"]
    assert main([*given, "-o", str(tmp_path)]) in (0, 1)  # 1: a void run, on a busy machine
    record = json.loads((tmp_path / "map-time-mine-cpu-b2.json").read_text("utf-8"))
    assert set(record["ratios"]) == {REFERENCE, f"{REFERENCE} again", "plq"}
    assert "ms per image" in (tmp_path / "map-time.md").read_text("utf-8")
