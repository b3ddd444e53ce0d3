"""Costs of methods, what the page says of them, and how they grow."""

import copy
import csv
import json

import numpy as np
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.harness.environment import reproducible_settings
from benchmarks.harness.protocol import write_record
from benchmarks.protocols.parts.method_costs import run_name
from benchmarks.protocols.scaling import Scaling
from benchmarks.protocols.speed import Speed
from benchmarks.subjects.attributions import REFERENCE, REPEATED
from benchmarks.subjects.models import load_benchmark_model

NAMED = ["cpu", "float32", "m = 7", "seed 3", "1 threads"]


def by_name(record):
    return {m["name"]: m for m in record["methods"]}


def changed(record, conditions=None, **given):
    other = copy.deepcopy(record) | given
    other["conditions"] |= conditions or {}
    return other


def test_what_was_measured(record):
    found = by_name(record)
    plq, saliency = found["plq"], found[REFERENCE]
    assert list(plq["seconds"]) == list(plq["ratios"]) == [0, 1]
    assert all(plq["ratios"][r] == plq["seconds"][r] / saliency["seconds"][r] for r in (0, 1))
    assert plq["ratio"]["low"] <= plq["ratio"]["median"] <= plq["ratio"]["high"]
    assert (plq["forwards"], plq["backwards"]) == (1, 1)
    assert plq["flops_ratio"] == plq["flops"] / saliency["flops"] > 1
    assert plq["memory_ratio"] == plq["peak_bytes"] / saliency["peak_bytes"]
    assert plq["images_per_second"] == 2 / plq["time"]["median"]
    assert found[REPEATED]["flops_ratio"] == 1
    assert saliency["ratios"] == {0: 1.0, 1: 1.0}
    assert list(found["official-serfiq"]["seconds"]) == [0]
    assert record["void"] == (abs(found[REPEATED]["ratio"]["median"] - 1) > 0.03)
    assert record["order"] == [
        ["plq", REFERENCE, REPEATED, "naive-plq", "official-serfiq"],
        ["plq", "naive-plq", REPEATED, REFERENCE],
    ]
    given = record["conditions"]
    assert (given["device"], given["dtype"], given["passes"], given["seed"]) == (
        "cpu", "float32", 7, 3,
    )  # fmt: skip
    assert given["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert record["input_shape"] == [2, 3, 28, 28]
    assert record["rates"] is None


def test_failures_are_recorded_and_the_others_go_on(record):
    found = by_name(record)
    assert found["broken"]["reason"] == "LookupError: no such thing\nin this network"
    assert found["nan"]["reason"] == "ValueError: returned NaN or infinite values"
    assert found["broken"]["ratio"] is found["nan"]["ratio"] is None
    assert all(m["reason"] is None for n, m in found.items() if n not in ("broken", "nan"))


def test_nothing_is_left_changed():
    def state():
        backends = torch.backends.cuda.matmul, torch.backends.cudnn
        flags = [torch.get_num_threads(), *(b.allow_tf32 for b in backends)]
        return flags, torch.get_rng_state(), np.random.get_state()[1]

    flags, torch_state, numpy_state = state()
    protocol = Speed(model=(), methods=("gradient-shap",), rounds=1, threads=2, tf32=True)
    protocol.cost(load_benchmark_model("tiny"), 1, 2)
    assert state()[0] == flags
    assert torch.equal(state()[1], torch_state)
    assert np.array_equal(state()[2], numpy_state)
    with pytest.raises(KeyError), reproducible_settings(flags[0] + 1, False, 0):
        raise KeyError(torch.get_num_threads())
    assert state()[0] == flags


def test_models():
    first, again, other = (load_benchmark_model("tiny", seed) for seed in (0, 0, 1))
    assert torch.equal(first.network[0].weight, again.network[0].weight)
    assert not torch.equal(first.network[0].weight, other.network[0].weight)
    assert not any(module.training for module in first.network.modules())
    assert torch.equal(first.images(2, 5), again.images(2, 5))
    assert first.images(2, 5).min() >= first.low
    with pytest.raises(ValueError, match=r"dlib, iresnet18, .*vit-s, convnext-t, .*magface"):
        load_benchmark_model("nonsense")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda(dtype):
    protocol = Speed(model=(), device="cuda", dtype=dtype, rounds=2, methods=("plq", "naive-plq"))
    found = protocol.cost(load_benchmark_model("tiny"), 2, 4)
    assert found["rates"]["matmul"] > 0
    assert all(m["reason"] is None and m["share_of_floor"] > 0 for m in found["methods"])


def test_names_of_files_tell_runs_apart(record):
    assert run_name(record, "b2") == "speed-tiny-cpu-b2"
    on_gpu = changed(record, {"device": "cuda", "dtype": "bfloat16", "tf32": True})
    assert run_name(on_gpu, "b2") == "speed-tiny-cuda-b2-bfloat16-tf32"
    last = changed(record, {"channels_last": True})
    assert run_name(last, protocol="scaling") == "scaling-tiny-cpu-channels-last"
    assert "## tiny, cpu, batch 2, channels last\n" in Speed.page([last])


def test_the_page_names_everything(record):
    text, given = Speed.page([record]), record["conditions"]
    for word in [*NAMED, *(given[key] for key in ("device_name", "commit", "date")), "| plq |"]:
        assert word in text
    assert "- broken: LookupError: no such thing in this network" in text
    assert ("**Void" in text) == record["void"]
    assert "of floor" not in text
    on_gpu = Speed.page([changed(record, rates={"matmul": 2e13, "copy": 3e12}, void=True)])
    assert "| images/s | of floor |" in on_gpu
    assert "Measured 20.0 Tflop/s (matrix product) and 3000 GB/s" in on_gpu
    assert "**Void" in on_gpu


def test_the_figure(record):
    given = record["conditions"]
    figure = Speed.figures([record, changed(record, void=not record["void"])])["speed"]
    caption = figure.get_supxlabel().replace("\n", " ")
    assert all(word in caption for word in [*NAMED, given["commit"], given["date"]])
    assert sum("VOID" in axes.get_title() for axes in figure.axes) == 1
    shown = [axes.axison for axes in Speed.figures([record] * 4)["speed"].axes]
    assert shown == [True] * 4 + [False] * 2
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert "plq" in ticks
    assert "broken" not in ticks


def test_the_command(tmp_path, capsys, record):
    write_record(tmp_path / "speed-tiny-cuda-b2.json", changed(record, {"device": "cuda"}))
    arguments = ["--model", "tiny", "--batch", "1", "--methods", "plq", "--rounds", "1"]
    code = main(["speed", *arguments, "--threads", "1", "--passes", "5", "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    assert code == int("(void)" in printed)
    names = ["speed-tiny-cpu-b1.json", "speed.csv", "speed.md", "speed.png"]
    assert sorted([*names, "speed-tiny-cuda-b2.json"]) == sorted(p.name for p in tmp_path.iterdir())
    assert all(name in printed for name in names)
    found = json.loads((tmp_path / names[0]).read_text())
    assert list(by_name(found)["plq"]["seconds"]) == ["0"]
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["passes"]) for row in rows] == [("1", "5")] * 3 + [("2", "7")] * 7
    for column in ("device_name", "dtype", "passes", "seed", "commit", "threads", "versions"):
        assert all(row[column] for row in rows)
    plq = by_name(found)["plq"]
    assert float(rows[0]["time_ratio"]) == plq["ratio"]["median"]
    assert (int(rows[0]["flops"]), int(rows[0]["peak_bytes"])) == (plq["flops"], plq["peak_bytes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], "no model 'nonsense'"),
        (["--model", "tiny", "--methods", "nonsense"], "nonsense"),
        pytest.param(
            ["--model", "tiny", "--device", "cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has one"),
        ),
    ],
)
def test_the_command_refuses(arguments, message, capsys, tmp_path):
    assert main(["speed", *arguments, "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


# --- how costs grow


@pytest.fixture(scope="module")
def scaling():
    protocol = Scaling(
        model=("tiny",), methods=("plq",), batches=(1, 2), m=(6, 12), batch=2, rounds=1, threads=1
    )
    ((stem, found),) = protocol.measure("tiny")
    assert stem == "scaling-tiny-cpu"
    return json.loads(json.dumps(found))


def test_both_series_are_there(scaling):
    points = [
        [(x["input_shape"][0], x["conditions"]["passes"]) for x in scaling[series]]
        for series in ("by_batch", "by_passes")
    ]
    assert points == [[(1, 100), (2, 100)], [(2, 6), (2, 12)]]


def test_arithmetic_grows_with_the_head(scaling):
    """Counted: every further pass costs one product with the head, every image the same."""
    few, many = (by_name(x)["plq"]["flops"] for x in scaling["by_passes"])
    assert many - few == 2 * (6 * 2 * 588 * 16 + 2 * 16 * (12**2 - 6**2))
    one, two = (by_name(x)["plq"]["flops"] for x in scaling["by_batch"])
    assert two == 2 * one


def test_growth_in_table_and_figure(scaling):
    shown = copy.deepcopy(scaling)
    shown["by_batch"][0]["void"] = True
    text = Scaling.page([shown])
    assert text.count("| plq |") == 4
    assert text.count("| void |") >= 3
    figure = Scaling.figures([shown])["scaling-tiny-cpu"]
    labels = [label.get_text() for label in figure.legends[0].get_texts()]
    assert labels == ["saliency", "plq", "proportional"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["plq"].get_xdata()) == [1, 2]
