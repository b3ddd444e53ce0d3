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
from benchmarks.protocols.costs.method_costs import run_name
from benchmarks.protocols.costs.scaling import Scaling
from benchmarks.protocols.costs.speed import Speed
from benchmarks.subjects.attributions import REFERENCE, REPEATED
from benchmarks.subjects.models import load_benchmark_model

NAMED = ["cpu", "float32", "m = 7", "seed 3", "1 threads"]


def by_name(record):
    return {m["name"]: m for m in record["methods"]}


def changed(record, conditions=None, **given):
    return {**record, **given, "conditions": record["conditions"] | (conditions or {})}


def test_what_was_measured(record):
    found = by_name(record)
    plq, saliency = found["plq"], found[REFERENCE]
    assert plq["ratios"] == {r: plq["seconds"][r] / saliency["seconds"][r] for r in (0, 1)}
    assert plq["ratio"]["low"] <= plq["ratio"]["median"] <= plq["ratio"]["high"]
    assert (plq["forwards"], plq["backwards"]) == (1, 1)
    assert plq["flops_ratio"] == plq["flops"] / saliency["flops"] > 1
    assert plq["memory_ratio"] == plq["peak_bytes"] / saliency["peak_bytes"]
    assert plq["images_per_second"] == 2 / plq["time"]["median"]
    assert found[REPEATED]["flops_ratio"] == 1
    assert record["void"] == (abs(found[REPEATED]["ratio"]["median"] - 1) > 0.03)
    assert record["order"] == [
        ["plq", REFERENCE, REPEATED, "naive-plq", "official-serfiq"],
        ["plq", "naive-plq", REPEATED, REFERENCE],
    ]
    assert record["input_shape"] == [2, 3, 28, 28]
    assert record["rates"] is None


def test_failures_are_recorded_and_the_others_go_on(record):
    failed = {m["name"]: m["reason"] for m in record["methods"] if m["reason"] is not None}
    assert failed == {
        "broken": "LookupError: no such thing\nin this network",
        "nan": "ValueError: returned NaN or infinite values",
    }
    assert {m["name"] for m in record["methods"] if m["ratio"] is None} == set(failed)


def test_nothing_is_left_changed():
    def state():
        backends = torch.backends.cuda.matmul, torch.backends.cudnn
        flags = [torch.get_num_threads(), *(b.allow_tf32 for b in backends)]
        return [*flags, *torch.get_rng_state().tolist(), *np.random.get_state()[1].tolist()]

    before = state()
    protocol = Speed(model=(), methods=("gradient-shap",), rounds=1, threads=2, tf32=True)
    protocol.cost(load_benchmark_model("tiny"), 1, 2)
    assert state() == before
    with pytest.raises(KeyError), reproducible_settings(before[0] + 1, False, 0):
        raise KeyError
    assert state() == before


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


def test_page_and_figure_name_everything(record):
    text, given = Speed.page([record]), record["conditions"]
    named = [*NAMED, given["commit"], given["date"]]
    assert all(word in text for word in (*named, given["device_name"], "| plq |"))
    assert "- broken: LookupError: no such thing in this network" in text
    assert ("**Void" in text) == record["void"]
    assert "of floor" not in text
    on_gpu = Speed.page([changed(record, rates={"matmul": 2e13, "copy": 3e12}, void=True)])
    for words in (
        "| images/s | of floor |", "20.0 Tflop/s (matrix product) and 3000 GB/s", "**Void"
    ):  # fmt: skip
        assert words in on_gpu
    figure = Speed.figures([record, changed(record, void=not record["void"])])["speed"]
    caption = figure.get_supxlabel().replace("\n", " ")
    assert all(word in caption for word in named)
    assert sum("VOID" in axes.get_title() for axes in figure.axes) == 1
    ticks = {tick.get_text() for tick in figure.axes[0].get_yticklabels()}
    assert ticks == {m["name"] for m in record["methods"]} - {"broken", "nan"}
    shown = [axes.axison for axes in Speed.figures([record] * 4)["speed"].axes]
    assert shown == [True] * 4 + [False] * 2


def test_the_command(tmp_path, capsys, record):
    write_record(tmp_path / "speed-tiny-cuda-b2.json", changed(record, {"device": "cuda"}))
    command = "speed --model tiny --batch 1 --methods plq --rounds 1 --threads 1 --passes 5"
    code = main([*command.split(), "-o", str(tmp_path)])
    printed = capsys.readouterr().out
    assert code == int("(void)" in printed)
    names = {"speed-tiny-cpu-b1.json", "speed.csv", "speed.md", "speed.png"}
    assert {*names, "speed-tiny-cuda-b2.json"} == {p.name for p in tmp_path.iterdir()}
    assert all(name in printed for name in names)
    plq = by_name(json.loads((tmp_path / "speed-tiny-cpu-b1.json").read_text()))["plq"]
    with (tmp_path / "speed.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["passes"]) for row in rows] == [("1", "5")] * 3 + [("2", "7")] * 7
    for column in ("device_name", "dtype", "passes", "seed", "commit", "threads", "versions"):
        assert all(row[column] for row in rows)
    assert float(rows[0]["time_ratio"]) == plq["ratio"]["median"]
    assert (int(rows[0]["flops"]), int(rows[0]["peak_bytes"])) == (plq["flops"], plq["peak_bytes"])


@pytest.fixture(scope="module")
def scaling():
    protocol = Scaling(
        model=("tiny",), methods=("plq",), batches=(1, 2), m=(6, 12), batch=2, rounds=1, threads=1
    )
    ((stem, found),) = protocol.measure("tiny")
    assert stem == "scaling-tiny-cpu"
    return found


def test_arithmetic_grows_with_the_head(scaling):
    """Counted: every further pass costs one product with the head, every image the same."""
    (one, two), (few, many) = (
        [by_name(x)["plq"]["flops"] for x in scaling[series]]
        for series in ("by_batch", "by_passes")
    )
    assert many - few == 2 * (6 * 2 * 588 * 16 + 2 * 16 * (12**2 - 6**2))
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
