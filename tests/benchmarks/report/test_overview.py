"""The table over all protocols, from summaries written by hand."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.protocols import PROTOCOLS
from benchmarks.report import run_all
from benchmarks.report.pages import headlines, overview, pareto_figure, write_overview

KINDS = {"plq": "plq", "slow": "other", "cheap": "other", "control": "control",
         "plq (random weights)": "control"}  # fmt: skip
AUROC = {"plq": 0.8, "slow": 0.9, "cheap": 0.7, "control": 0.95, "plq (random weights)": 0.5}
RATIOS = {"plq": 1.1, "slow": 20.0, "cheap": 1.5, "control": 0.001}


def estimate(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "images": 9, "rows": 9}


@pytest.fixture
def results(tmp_path):
    masks = {
        "model": "net",
        "methods": {name: {"kind": kind} for name, kind in KINDS.items()},
        "faces": {"warning": "A <warning>."},
        "estimates": {"auroc": {n: {"middle=mean": estimate(x)} for n, x in AUROC.items()}},
    }
    times = {n: {"median": x, "low": x, "high": x, "count": 5} for n, x in RATIOS.items()}
    (tmp_path / "random-mask-net.json").write_text(json.dumps(masks), "utf-8")
    found = json.dumps({"model": "net", "ratios": times})
    (tmp_path / "map-time-net-cpu-b8.json").write_text(found, "utf-8")
    return tmp_path


def test_cells_best_and_what_is_missing(results):
    (own,) = overview(results)
    assert (own.model, list(own.cells)) == ("net", ["time", "AUROC, mean"])
    assert own.best("AUROC, mean") == "slow", "a control is never the best"
    assert own.best("time") == "plq"
    text = "\n".join(own.markdown())
    assert "| method | AUROC, mean | random weights |" in text
    assert "| plq | 0.80 [0.70, 0.90] | 0.50 [0.40, 0.60] |" in text
    assert "| slow | **0.90 [0.80, 1.00]** |  |" in text
    assert "(random weights)" not in text, "beside its map, and so in no row"
    assert "| plq | **1.10 [1.10, 1.10]** |" in text
    assert "| *control* |" in text
    assert "A <warning>." in text


def test_a_verdict_is_a_word_and_an_estimate_of_nothing_no_cell(results):
    record = {
        "model": "net",
        "verdicts": {"plq": [], "slow": ["weights"]},
        "estimates": {"fnmr_gain": {"plq": {"imputer=mean": estimate(0.5) | {"mean": None}}}},
    }
    for protocol in ("sanity", "recognition"):
        (results / f"{protocol}-net.json").write_text(json.dumps(record), "utf-8")
    (own,) = overview(results)
    assert "FNMR gain" not in own.cells
    assert {m: c.word for m, c in own.cells["sanity"].items()} == {"plq": "passes", "slow": "fails"}
    assert own.best("sanity") is None
    assert "| plq | **1.10 [1.10, 1.10]** | passes |" in "\n".join(own.markdown())


def test_the_front_holds_what_nothing_beats_in_both(results):
    axes, *others = pareto_figure(overview(results)).axes
    assert not any(other.axison for other in others), "no results, no axes"
    assert {x.get_xdata()[0] for x in axes.lines if x.get_marker() == "o"} == {1.1, 20.0}
    assert any("no network" in text.get_text() for text in axes.texts)


def test_report_is_one_file_that_holds_its_pictures(results):
    assert all(path.exists() for path in write_overview(results))
    page = (results / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "A &lt;warning&gt;." in page
    assert "src='http" not in page
    again = (results / "report.md").read_text("utf-8")
    assert all(column.meaning in again for own in headlines().values() for column in own)
    (results / "map-time-net-cpu-b8.json").unlink()
    assert len(write_overview(results)) == 2, "no time, no front"
    (results / "random-mask-net.json").unlink()
    with pytest.raises(FileNotFoundError, match="no summaries"):
        write_overview(results)


def test_one_protocol_that_breaks_does_not_cost_the_others(results, monkeypatch, capsys):
    quoted = list(run_all.quick_commands(results / "a folder", "cpu"))
    assert all(f"'{results / 'a folder'}'" in command for command in quoted)
    left_out = {"estimators", "verification", "edc", "thresholds", "feedback", "photos"}
    assert {command.split()[0] for command in quoted} == set(PROTOCOLS) - left_out
    ran = []

    def one(arguments):
        ran.append(arguments[0])
        if arguments[0] == "broken":
            raise KeyError("a bug")
        return {"wrong": 2, "void": 1}.get(arguments[0], 0)

    commands = ["good", "broken", "wrong", "void", "last"]
    monkeypatch.setattr(run_all, "quick_commands", lambda output, device: commands)
    monkeypatch.setattr("benchmarks.__main__.main", one)
    assert run_all.run_all(output=results, quick=True) == 2
    assert ran == commands
    printed = capsys.readouterr()
    assert "KeyError: 'a bug'" in printed.err
    failed = [line.split()[-1] for line in printed.out.splitlines() if "failed" in line]
    assert failed == ["broken", "wrong"]


@pytest.mark.slow
def test_all_quick(tmp_path, capsys):
    assert main(["all", "--quick", "-o", str(tmp_path)]) == 0
    assert "failed" not in capsys.readouterr().out
    (own,) = overview(tmp_path)
    # Variants of one face are one person's: there is no false match rate, and so no threshold.
    assert set(own.cells) == {x.title for own in headlines().values() for x in own} - {"FNMR gain"}
    assert own.kinds["plq (random weights)"] == "control"
