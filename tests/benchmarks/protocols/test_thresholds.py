"""Predicted and observed failures: bins by hand, and the command."""

import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.protocols.parts.failure_bins import BINS, binned, summary
from benchmarks.subjects.graded_pairs import MIXES, SCORES
from captum_plq.calibration import Calibration, calibrate
from captum_plq.metrics.failure import FailureCurve
from captum_plq.models import load_model
from tests.support.face_network import NETWORK, write_pairs


def test_bins_by_hand():
    """Of 80 pairs the ten of lowest quality fail, and so is it predicted; or the contrary."""
    quality = torch.linspace(0, 1, 80, dtype=torch.float64)
    wrong = quality < quality[10]
    people = [str(i) for i in range(80)]
    at = (0.0, float(quality[9]), float(quality[10]), 1.0)
    right = FailureCurve(at, (1.0, 1.0, 0.0, 0.0), (0.9, 0.9, 0.0, 0.0), (1.0, 1.0, 0.1, 0.1))
    bins = binned(right, wrong, quality, people)
    assert [x["pairs"] for x in bins] == [10] * BINS
    assert [x["observed"][0] for x in bins] == [1.0] + [0.0] * 7
    assert bins[1]["observed"][2] == pytest.approx(1 - 0.025 ** (1 / 10))
    found = summary(bins)
    assert found == pytest.approx(
        {"failures": 0.125, "met": 1, "strictly": 1, "error": 0, "brier": 0}
    )
    half = FailureCurve((0.0, 1.0), (0.6, 0.6), (0.55, 0.55), (0.65, 0.65))
    found = summary(binned(half, wrong, quality, people))
    assert (found["met"], found["strictly"]) == (0, 0)
    assert found["error"] == pytest.approx((0.4 + 7 * 0.6) / 8)
    assert found["brier"] == pytest.approx((0.16 + 7 * 0.36) / 8 / (0.125 * 0.875))


def test_the_command(tmp_path):
    net = tmp_path / "net.py"
    net.write_text(NETWORK)
    faces, pairs = write_pairs(tmp_path, 24, 112)
    (faces / "p23" / "2.png").write_bytes(b"no image")
    model, file = load_model(str(net)), tmp_path / "mine.npz"
    calibrate(model, torch.randint(0, 256, (10, 3, 112, 112)).float().split(5)).save(file)
    command = (
        f"thresholds --model {net} --images {faces} --pairs {pairs} --set-on 1 --report-on 2 "
        f"--draws 2 --threads 1 --calibration {file} -o {tmp_path}"
    ).split()
    assert main(command) == 0
    record = json.loads((tmp_path / "thresholds-mine.json").read_text("utf-8"))
    assert record["mated"] == [23, 23]
    assert record["people"] == [23, 23]
    assert [list(x) for x in record["left_out"]] == [["p23/2.png"]] * 2
    for at in record["at"]:
        assert set(at["mixes"]) == set(MIXES)
        for mix, scores in at["mixes"].items():
            assert set(scores) == set(SCORES)
            for found in scores.values():
                assert sum(x["pairs"] for x in found["bins"]) == (46 if mix == "graded" else 23)
                assert 0 <= found["strictly"] <= found["met"] <= 1
    saved = Calibration.load(file).thresholds
    assert (saved.pairs, saved.people) == (46, 23)
    assert saved.failures[0].threshold == pytest.approx(record["at"][0]["threshold"], abs=1e-4)
    page = (tmp_path / "thresholds.md").read_text("utf-8")
    assert "### FMR 0.001" in page
    assert "| graded | shuffled | " in page
    assert main([*command, "--calibration", str(pairs)]) == 2
