import dataclasses
import json

import pytest

from benchmarks.__main__ import main
from benchmarks.protocols.scaling import ScalingResult, measure_scaling
from benchmarks.protocols.scaling_report import scaling_figure, scaling_markdown
from benchmarks.protocols.speed import SpeedSettings
from benchmarks.subjects.attributions import select_methods
from benchmarks.subjects.models import load_benchmark_model


@pytest.fixture(scope="module")
def scaling():
    methods = select_methods(["plq", "plq-balanced"])
    settings = SpeedSettings(rounds=1, passes=12, threads=1)
    return measure_scaling(load_benchmark_model("tiny"), [1, 2], [6, 12], 2, methods, settings)


def test_both_series_are_there(scaling):
    assert [result.batch for result in scaling.by_batch] == [1, 2]
    assert [result.conditions.passes for result in scaling.by_batch] == [12, 12]
    assert [result.conditions.passes for result in scaling.by_passes] == [6, 12]
    assert [result.batch for result in scaling.by_passes] == [2, 2]


def test_arithmetic_grows_with_the_head(scaling):
    """Counted: every further pass costs one product with the head, every image the same."""

    def flops(result, name):
        return next(m.flops for m in result.methods if m.name == name)

    few, many = scaling.by_passes
    head = 2 * 588 * 16
    gram = 2 * 16 * (12**2 - 6**2)
    assert flops(many, "plq") - flops(few, "plq") == 2 * (6 * head + gram)
    one, two = scaling.by_batch
    assert flops(two, "plq") == 2 * flops(one, "plq")


def test_json_there_and_back(scaling):
    assert ScalingResult.from_json(json.loads(json.dumps(scaling.to_json()))) == scaling


def test_table_and_figure(scaling):
    void = dataclasses.replace(scaling.by_batch[0], void=True)
    shown = dataclasses.replace(scaling, by_batch=[void, scaling.by_batch[1]])
    text = scaling_markdown([shown])
    assert text.count("| plq-balanced |") == 4
    assert text.count("| void |") >= 3
    figure = scaling_figure(shown)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["saliency", "plq", "plq-balanced", "proportional"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines["plq"].get_xdata()) == [1, 2]


def test_command_line(tmp_path, capsys):
    arguments = ["--model", "tiny", "--batches", "1", "--m", "6", "--batch", "1", "--rounds", "1"]
    code = main(["scaling", *arguments, "--threads", "1", "-o", str(tmp_path)])
    assert code in (0, 1)
    names = ["scaling-tiny-cpu.json", "scaling-tiny-cpu.png", "scaling.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "tiny: batch 1" in capsys.readouterr().err
