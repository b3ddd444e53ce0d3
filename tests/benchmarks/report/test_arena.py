"""All scores side by side, from records written by hand."""

import json
import re

import pytest

from benchmarks.report.arena import arena, page
from benchmarks.report.arena_figure import arena_figure, write_arena
from captum_plq.quality.scores import SCORES


def cell(area, gap=None, p=None):
    one = {"area": [area, area - 0.1, area + 0.1]}
    if gap is not None:
        one |= {"difference": [gap, gap - 0.01, gap + 0.01], "p_holm": p}
    return {"0.2": one, "0.3": one}


AREAS = {
    "serfiq-closed-form": cell(0.6),
    "serfiq": cell(0.61, 0.01, 0.7),
    "embedding-norm": cell(0.5, -0.1, 0.01),
    "prefiqs-style": cell(0.8, 0.2, 0.02),
    "random": cell(1.01, 0.41, 0.001),
    "comparison score": cell(0.2, -0.4, 0.001),
}
CONDITIONS = {
    "device": "cpu", "device_name": "cpu", "versions": {}, "threads": 1, "dtype": "float32",
    "tf32": False, "passes": 100, "dropout": 0.5, "rows": 1, "seed": 0, "commit": "c",
    "date": "today", "channels_last": False,
}  # fmt: skip


def record(model, areas, *, against="serfiq-closed-form", failed=(), forwards=None):
    found = {"pairs": 100, "people": 50, "starting_error": 0.1, "areas": areas}
    return {
        "model": model, "source": "somewhere", "images": "faces", "conditions": CONDITIONS,
        "failed": dict.fromkeys(failed, "why"), "forwards": forwards or {},
        "at": [{"fmr": 1e-3, "against": against, "sets": {"one degraded": found}}],
    }  # fmt: skip


def separation(value):
    return {"auroc": {"value": value, "low": value - 0.1, "high": value}}


def suitability(model):
    readings = {
        "serfiq": {"degradations": {"blur": separation(0.9)}, "auroc": 0.9, "gain": None},
        "embedding-norm": {
            "degradations": {"blur": separation(0.8)},
            "auroc": 0.8,
            "gain": {"value": -0.1, "low": -0.2, "high": -0.05},
        },
    }
    return {
        "model": model, "readings": readings, "failed": {}, "seed": 3, "confidence": 0.95,
        "images": ["a/1.jpg", "b/1.jpg"], "versions": {"captum-plq": "0", "torch": "2"},
    }  # fmt: skip


@pytest.fixture
def results(tmp_path):
    lacking = set(SCORES) - set(AREAS)
    new = record("net", AREAS, failed=lacking, forwards={"prefiqs-style": 2.08})
    few = {name: AREAS[name] for name in ("serfiq", "random", "comparison score")}
    old = record("old", few, against="serfiq")
    for name, content in {
        "edc-net": new, "edc-old": old, "suitability-scores-net": suitability("net")
    }.items():  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def row(text, name):
    (line,) = re.findall(rf"^\| [`*]{name}[`*] \|.*$", text, re.MULTILINE)[:1]
    return [x.strip() for x in line.strip("|").split("|")]


def test_a_row_holds_what_was_measured_and_the_rest_is_empty(results):
    text = page(arena(results), None)
    own = row(text, "prefiqs-style")
    assert own[1] == "linear or convolution layers"
    assert own[2:4] == ["0.800 [0.700, 0.900]"] * 2
    assert own[4:] == ["", "", "", "2.08 (net)"], "not on the old network, no AUROC"
    assert row(text, "embedding-norm")[6] == "0.800"
    assert row(text, "native")[2:] == [""] * 6
    assert [row(text, x)[0] for x in ("random", "comparison score")] == [
        "*random*", "*comparison score*"
    ]  # fmt: skip


def test_serfiqs_place_in_words(results):
    text = page(arena(results), None)
    (line,) = [x for x in text.splitlines() if "`serfiq-closed-form` 0.600" in x]
    assert "50% of the way from chance (1) to the oracle" in line  # (1 - .6) / (1 - .2)
    better, undecided, worse = line.split(". Significantly ")[1].split(";")
    assert "embedding-norm` -0.100 (p = 0.01)" in better
    assert "`serfiq` +0.010 (p = 0.7)" in undecided
    assert "prefiqs-style` +0.200 (p = 0.02)" in worse
    assert "random" not in better + undecided + worse


def test_forms_are_told_apart(results):
    text = page(arena(results), None)
    (old,) = [x for x in text.splitlines() if x.startswith("- An older record")]
    assert "`embedding-norm`" in old
    assert "`serfiq`, and it has no times" in old
    assert "`serfiq`," not in old.split(";")[0]
    assert "has not been measured on mobilefacenet_y1" in text
    assert "All scores' AUROC has not been measured on old." in text


def test_a_set_without_errors_and_a_rate_that_was_not_measured(results):
    (results / "edc-old.json").write_text(json.dumps(record("old", None)), "utf-8")
    assert "no errors, so nothing to compare" in page(arena(results), None)
    other = record("old", AREAS)
    other["at"][0]["fmr"] = 0.01
    (results / "edc-old.json").write_text(json.dumps(other), "utf-8")
    text = page(arena(results), None)
    assert "Not measured at FMR 0.001" in text
    assert row(text, "serfiq")[4:6] == ["", ""]


def test_every_style_says_what_was_not_checked(results):
    text = page(arena(results), None).split("## What was not checked")[1]
    for name in SCORES:
        assert (f"- `{name}`: Written from" in text) == name.endswith("-style")


def test_the_figure_has_a_panel_for_each_network_and_source(results):
    figure = arena_figure(arena(results))
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert titles == ["net", "old", "net"]
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert set(texts) == {"not measured"}
    assert {text.get_text() for text in figure.axes[0].texts} == {"not on this network"}


def test_it_is_written_and_nothing_is_an_error(results, tmp_path_factory):
    names = [path.name for path in write_arena(results)]
    assert names == ["scores.md", "scores.png"]
    with pytest.raises(FileNotFoundError, match="no measurements of scores"):
        write_arena(tmp_path_factory.mktemp("empty"))
