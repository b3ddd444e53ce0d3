"""The table over all protocols, from summaries written by hand."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.protocols import PROTOCOLS
from benchmarks.report import run_all
from benchmarks.report.overview import headlines, overview, pareto_figure
from benchmarks.report.pages import write_overview


def estimate(mean):
    return {
        "mean": mean,
        "low": mean - 0.1,
        "high": mean + 0.1,
        "positive": 1,
        "images": 9,
        "rows": 9,
    }


def spread(median):
    return {"median": median, "low": median, "high": median, "count": 5}


@pytest.fixture
def results(tmp_path):
    def write(name, record):
        (tmp_path / name).write_text(json.dumps(record), "utf-8")

    kinds = {"plq": "plq", "slow": "other", "cheap": "other", "control": "control"}
    methods = {name: {"kind": kind} for name, kind in kinds.items()}
    write(
        "random-mask-net.json",
        {
            "model": "net",
            "methods": methods,
            "faces": {"warning": "A <warning>."},
            "estimates": {
                "auroc": {
                    name: {"middle=mean": estimate(value)}
                    for name, value in
                    {"plq": 0.8, "slow": 0.9, "cheap": 0.7, "control": 0.95}.items()
                }
            },
        },
    )  # fmt: skip
    ratios = {"plq": 1.1, "slow": 20.0, "cheap": 1.5, "control": 0.001}
    write(
        "map-time-net-cpu-b8.json",
        {"model": "net", "ratios": {name: spread(value) for name, value in ratios.items()}},
    )
    return tmp_path


def test_cells_best_and_what_is_missing(results):
    (own,) = overview(results)
    assert own.model == "net"
    assert list(own.cells) == ["time", "AUROC, mean"]
    cell = own.cells["AUROC, mean"]["plq"]
    assert (cell.value, cell.low, cell.high) == (0.8, pytest.approx(0.7), pytest.approx(0.9))
    assert own.best("AUROC, mean") == "slow", "a control is never the best"
    assert own.best("time") == "plq"
    text = "\n".join(own.markdown())
    assert "| **1.10 [1.10, 1.10]** | 0.80 [0.70, 0.90] |" in text
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
    assert "0.80 [0.70, 0.90] | passes |" in "\n".join(own.markdown())
    write_overview(results)
    assert "<td>passes</td>" in (results / "report.html").read_text("utf-8")


def test_the_front_holds_what_nothing_beats_in_both(results):
    figure = pareto_figure(overview(results))
    axes, *others = figure.axes
    assert not any(other.axison for other in others), "no results, no axes"
    large = {line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"}
    assert large == {1.1, 20.0}
    assert any("no network" in text.get_text() for text in axes.texts)


def test_report_is_one_file_that_holds_its_pictures(results):
    for path in write_overview(results):
        assert path.exists()
    page = (results / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 1
    assert "A &lt;warning&gt;." in page
    assert "src='http" not in page
    again = (results / "report.md").read_text("utf-8")
    for columns in headlines().values():
        assert all(column.meaning in again for column in columns)


def test_without_summaries(tmp_path):
    with pytest.raises(FileNotFoundError, match="no summaries"):
        write_overview(tmp_path)


def test_no_time_no_front(results):
    (results / "map-time-net-cpu-b8.json").unlink()
    assert pareto_figure(overview(results)) is None
    assert len(write_overview(results)) == 2


def test_one_protocol_that_breaks_does_not_cost_the_others(results, monkeypatch, capsys):
    quoted = results / "a folder"
    names = [command.split()[0] for command in run_all.quick_commands(quoted, "cpu")]
    assert set(names) == set(PROTOCOLS) - {"estimators", "verification", "edc"}
    assert all(f"'{quoted}'" in x for x in run_all.quick_commands(quoted, "cpu"))
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
