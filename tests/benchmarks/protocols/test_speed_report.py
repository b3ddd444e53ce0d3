import csv
import dataclasses
import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.harness.roofline import Rates
from benchmarks.protocols.speed_figure import speed_figure
from benchmarks.protocols.speed_report import markdown, read_results, write_report, write_result

NAMED = ["cpu", "float32", "m = 7", "seed 3", "1 threads"]


def test_json_there_and_back(result, tmp_path):
    path = write_result(result, tmp_path)
    assert path.name == "speed-tiny-cpu-b2.json"
    assert read_results(tmp_path) == [result]
    record = json.loads(path.read_text())
    assert len(record["methods"][0]["seconds"]) == 2
    assert record["conditions"]["seed"] == 3


def test_names_of_files_tell_runs_apart(result):
    other = dataclasses.replace(result.conditions, device="cuda", dtype="bfloat16", tf32=True)
    stem = dataclasses.replace(result, conditions=other).stem
    assert stem == "speed-tiny-cuda-b2-bfloat16-tf32"
    other = dataclasses.replace(result.conditions, channels_last=True)
    lasting = dataclasses.replace(result, conditions=other)
    assert lasting.stem == "speed-tiny-cpu-b2-channels-last"
    assert lasting.title == "tiny, cpu, batch 2, channels last"
    assert f"## {lasting.title}\n" in markdown([lasting])


def test_markdown_names_everything(result):
    text = markdown([result])
    given = result.conditions
    for word in [*NAMED, given.device_name, given.commit, given.date, f"torch {torch.__version__}"]:
        assert word in text
    assert "| plq |" in text
    assert "- broken: LookupError: no such thing in this network" in text
    assert ("**Void" in text) == result.void
    assert "of floor" not in text


def test_markdown_on_a_gpu(result):
    on_gpu = dataclasses.replace(result, rates=Rates(2e13, 3e12), void=True)
    text = markdown([on_gpu])
    assert "| images/s | of floor |" in text
    assert "Measured 20.0 Tflop/s (matrix product) and 3000 GB/s" in text
    assert "**Void" in text


def test_figure(result):
    figure = speed_figure([result, dataclasses.replace(result, void=not result.void)])
    caption = figure.get_supxlabel()
    for word in [*NAMED, result.conditions.commit, result.conditions.date]:
        assert word in caption.replace("\n", " ")
    titles = [axes.get_title() for axes in figure.axes]
    assert sum("VOID" in title for title in titles) == 1
    assert [axes.axison for axes in speed_figure([result] * 4).axes] == [True] * 4 + [False] * 2
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert "plq" in ticks
    assert "broken" not in ticks
    assert figure.axes[0].get_xscale() == "log"


def test_command_line(tmp_path, capsys):
    arguments = ["--model", "tiny", "--batch", "1,2", "--methods", "plq,occlusion"]
    arguments += ["--rounds", "2", "--threads", "1", "--passes", "5", "-o", str(tmp_path)]
    code = main(["speed", *arguments])
    printed = capsys.readouterr().out
    assert code == int("(void)" in printed)
    names = ["speed-tiny-cpu-b1.json", "speed-tiny-cpu-b2.json"]
    names += ["speed.csv", "speed.md", "speed.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(name in printed for name in names)
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {row["batch"] for row in rows} == {"1", "2"}
    for column in ("device_name", "dtype", "passes", "seed", "commit", "threads", "versions"):
        assert all(row[column] for row in rows)
    assert {row["passes"] for row in rows} == {"5"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], "no model 'nonsense'"),
        (["--model", "tiny", "--methods", "nonsense"], "Unknown methods ['nonsense']"),
        pytest.param(
            ["--model", "tiny", "--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has one"),
        ),
    ],
)
def test_command_line_refuses(arguments, message, capsys, tmp_path):
    assert main(["speed", *arguments, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_no_results(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no speed-\*"):
        write_report(tmp_path)
