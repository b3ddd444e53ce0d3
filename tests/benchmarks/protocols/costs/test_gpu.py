"""The GPU protocol, on the CPU: checks come first, times are kept as they come, time is short."""

import json

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.protocols.costs import device_checks, gpu, gpu_cells
from benchmarks.protocols.costs.gpu import Gpu
from benchmarks.subjects.models import load_benchmark_model
from captum_plq import SERFIQ


def ran(tmp_path, given=""):
    command = f"gpu --device cpu --quick --rounds 1 -o {tmp_path} {given}"
    return main(command.split()), json.loads((tmp_path / "gpu-tiny-cpu.json").read_text("utf-8"))


def test_what_is_measured_and_shown(tmp_path, monkeypatch):
    compiled, compile_ = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda x: compiled.append(x) or compile_(x, backend="eager")
    )
    code, record = ran(tmp_path, "--variants float32,bfloat16-channels-last,compiled")
    assert code == int(record["void"])
    assert len(compiled) == 2
    assert record["failed"] == record["dropped"] == []
    assert all(check["passed"] for check in record["checks"])
    assert {check["dtype"] for check in record["checks"]} == {"float64", "float32"}
    shown = {(c["batch"], c["variant"], c["name"]) for c in record["cells"]}
    methods = ("saliency", "saliency again", *gpu_cells.TIMED)
    variants = ("float32", "bfloat16-channels-last", "compiled")
    assert shown == {(b, v, n) for b in (1, 2) for v in variants for n in methods}
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert "| 2, compiled, plq-closed-form |" in page
    assert "22 of 22 comparisons with the CPU hold" in page


def test_another_result_than_the_cpus_ends_the_run_and_says_what_differs(
    tmp_path, monkeypatch, capsys
):
    own, calls = device_checks._calls, []

    def second_is_off(network):
        found = dict(own(network))
        calls.append(found)
        if len(calls) == 2:
            quality = found["Q, balanced"]
            found["Q, balanced"] = lambda x: quality(x) * 1.01
        return found

    monkeypatch.setattr(device_checks, "_calls", second_is_off)
    code, record = ran(tmp_path)
    assert code == 2
    assert "tiny: not what the CPU gives: Q, balanced in float64 by 0.01" in capsys.readouterr().err
    assert [x["what"] for x in record["checks"] if not x["passed"]] == ["Q, balanced"]
    assert record["cells"] == []


def test_the_least_important_is_dropped_where_time_is_short(monkeypatch):
    now, measured = [0.0], []

    def takes_a_minute(record, network, images, variant):
        now[0] += 60
        measured.append((variant, len(images)))

    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "add_cell", takes_a_minute)
    monkeypatch.setattr(gpu, "device_checks", lambda *_: [])
    protocol = Gpu(device="cpu", small=True, minutes=3.5, variants=("float32", "compiled"))
    records = [record for _, record in protocol.records()]
    assert measured == [("float32", 1), ("float32", 2), ("compiled", 1)]
    assert records[-1]["dropped"] == [["compiled", 2]]
    assert len(records) == 5
    assert "No time was left for: compiled at 2." in Gpu.page([records[-1]])


def test_the_reference_is_one_forward_and_one_backward_of_the_same_sum():
    model = load_benchmark_model("tiny")
    record = {"rounds": 1, "cells": [], "failed": [], "rates": {}}
    forwards = []
    model.network[0].register_forward_hook(lambda *_: forwards.append(1))
    call = gpu_cells._call(
        "saliency", gpu_cells.ExplainedNetwork(model.network), model.images(2, 0), torch.float32
    )
    expected = SERFIQ(model.network).assess(model.images(2, 0).requires_grad_())[0]
    forwards.clear()
    assert call().shape == (2, 3, 28, 28)
    assert forwards == [1]
    assert expected.requires_grad
    gpu_cells.add_cell(record, torch.nn.Identity(), model.images(1, 0), "float32")
    assert {x["method"] for x in record["failed"]} >= {"plq", "local"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda(tmp_path):
    assert main(f"gpu --quick --rounds 2 -o {tmp_path}".split()) != 2
    record = json.loads((tmp_path / "gpu-tiny-cuda.json").read_text("utf-8"))
    assert any(cell["share_of_floor"] for cell in record["cells"])
