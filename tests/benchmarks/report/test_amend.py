"""Methods measured again go into a summary only if the new run measured the same."""

import copy
import json

import pytest

from benchmarks.__main__ import main
from benchmarks.harness.statistics import holm
from benchmarks.report.amend import amended

FACES = {"about": "lfw", "warning": "", "evaluated": 3, "reference": 2, "digest": "d"}


def cell(mean):
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "positive": 1.0, "images": 3,
            "rows": 6}  # fmt: skip


def compared(p):
    return {"difference": 0.1, "low": 0.0, "high": 0.2, "p": p, "p_holm": p, "images": 3}


def summary(methods):
    """Of one metric; method → mean and p."""
    return {
        "protocol": "curves",
        "model": "m",
        "source": "s",
        "network": "n",
        "settings": {"steps": 10, "methods": list(methods)},
        "faces": FACES,
        "sessions": [],
        "methods": {name: {"kind": "other", "description": ""} for name in methods},
        "failed": {},
        "against": "plq",
        "estimates": {"srg": {name: {"all": cell(x[0])} for name, x in methods.items()}},
        "comparisons": {
            "srg": {name: compared(x[1]) for name, x in methods.items() if name != "plq"}
        },
    }


@pytest.fixture
def record():
    return summary({"plq": (0.5, 1), "cam": (0.1, 0.5), "other": (0.2, 0.03), "fails": (0.3, 0.02)})


def test_rows_are_replaced_and_holm_made_anew(record):
    run = summary({"plq": (0.5, 1), "cam": (0.7, 0.01), "new": (0.8, 0.04), "fails": (0.3, 0.02)})
    del run["estimates"]["srg"]["fails"], run["comparisons"]["srg"]["fails"]
    run["failed"]["fails"] = "ValueError: constant"
    before = copy.deepcopy(record)
    new = amended(record, run, "was void")
    assert record == before
    means = {name: own["all"]["mean"] for name, own in new["estimates"]["srg"].items()}
    assert means == {"plq": 0.5, "cam": 0.7, "other": 0.2, "new": 0.8}
    found = {name: own["p_holm"] for name, own in new["comparisons"]["srg"].items()}
    assert found == dict(zip(["cam", "other", "new"], holm([0.01, 0.03, 0.04]), strict=True))
    assert new["failed"] == {"fails": "ValueError: constant"}
    assert new["settings"]["methods"] == ["plq", "cam", "other", "fails", "new"]
    assert new["reruns"][0]["methods"] == ["cam", "new", "fails"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: run.update(network="other"), "differ in network"),
        (lambda run: run["settings"].update(steps=5), "differ in setting steps"),
        (lambda run: run.update(faces={**FACES, "digest": "e"}), "differ in faces"),
        (lambda run: run["estimates"]["srg"]["plq"]["all"].update(mean=0.55), "not measure"),
        (lambda run: run["estimates"]["srg"]["plq"]["all"].update(images=2), "not measure"),
    ],
)
def test_a_run_that_measured_something_else_is_refused(record, change, message):
    run = summary({"plq": (0.5, 1), "cam": (0.7, 0.01)})
    change(run)
    with pytest.raises(ValueError, match=message):
        amended(record, run, "was void")


def test_command_refuses_other_protocols(tmp_path, capsys):
    path = tmp_path / "edc-m.json"
    path.write_text(json.dumps({"protocol": "edc"}))
    assert main(["amend", str(path), "--why", "x", "-o", str(tmp_path)]) == 2
    assert "is of edc, which scores no maps" in capsys.readouterr().err
