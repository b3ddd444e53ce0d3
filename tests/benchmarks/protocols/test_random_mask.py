"""The command from end to end, on a network of the user's and no images."""

import json

import pytest

from benchmarks.__main__ import main

pytest.importorskip("cv2", reason="needs the extra [faces]")
pytest.importorskip("tqdm")

NETWORK = """
import torch
from torch import nn
from captum_plq.models import FaceModel, ModelSpec

def load_model():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 27 * 27, 8)
    )
    return FaceModel(network, ModelSpec("mine", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3))
"""


def test_command(tmp_path, capsys):
    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    out = tmp_path / "out"
    given = ["random-mask", "--model", str(network), "--faces", "3", "--reference", "4"]
    given += ["--methods", "plq,plq-relative,random", "--random-weights", "plq", "--passes", "5"]
    given += ["--sizes", "20", "--fills", "black,noise", "--batch", "2", "-o", str(out)]
    assert main(given) == 0
    assert "ONE face" in capsys.readouterr().out
    record = json.loads((out / "random-mask-mine.json").read_text())
    assert record["failed"] == {}
    assert set(record["estimates"]["auroc"]) == {
        "plq", "plq-relative", "random", "plq (random weights)"
    }  # fmt: skip
    cell = record["estimates"]["auroc"]["plq"]["all"]
    assert cell["rows"] == 6
    assert cell["images"] == 3
    assert (out / "random-mask.md").exists()
    assert (out / "random-mask-mine.png").exists()
    raw = out / "raw" / "random-mask-mine.jsonl"
    rows = [
        row for line in raw.read_text().splitlines() for row in json.loads(line).get("rows", [])
    ]
    assert len(rows) == 24
    for row in rows:
        assert row["auroc_gain"] == pytest.approx(row["auroc"] - row["auroc_clean"])
