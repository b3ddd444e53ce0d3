"""Methods measured again go into a summary only if the new run measured the same."""

import copy
import json

import pytest

from benchmarks.__main__ import main
from benchmarks.harness.statistics import holm
from benchmarks.report.amend import amended


def summary(methods):
    """Of one metric; method → mean and p."""
    return {
        "protocol": "curves",
        "model": "m",
        "network": "n",
        "settings": {"steps": 10, "methods": list(methods)},
        "faces": {"digest": "d"},
        "sessions": [],
        "methods": {name: {"kind": "other"} for name in methods},
        "failed": {},
        "against": "plq",
        "estimates": {
            "srg": {
                name: {"all": {"mean": x, "low": x - 0.1, "high": x + 0.1, "images": 3, "rows": 6}}
                for name, (x, _) in methods.items()
            }
        },
        "comparisons": {"srg": {n: {"p": p, "p_holm": p} for n, (_, p) in methods.items() if p}},
    }


RECORD = summary({"plq": (0.5, 0), "cam": (0.1, 0.5), "other": (0.2, 0.03), "fails": (0.3, 0.02)})


def test_rows_are_replaced_and_holm_made_anew():
    run = summary({"plq": (0.5, 0), "cam": (0.7, 0.01), "new": (0.8, 0.04), "fails": (0.3, 0.02)})
    del run["estimates"]["srg"]["fails"], run["comparisons"]["srg"]["fails"]
    run["failed"]["fails"] = "ValueError: constant"
    before = copy.deepcopy(RECORD)
    new = amended(RECORD, run, "was void")
    assert before == RECORD
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
        (lambda run: run["faces"].update(digest="e"), "differ in faces"),
        (lambda run: run["estimates"]["srg"]["plq"]["all"].update(mean=0.55), "not measure"),
        (lambda run: run["estimates"]["srg"]["plq"]["all"].update(images=2), "not measure"),
    ],
)
def test_a_run_that_measured_something_else_is_refused(change, message):
    run = summary({"plq": (0.5, 0), "cam": (0.7, 0.01)})
    change(run)
    with pytest.raises(ValueError, match=message):
        amended(RECORD, run, "was void")


def test_command_refuses_other_protocols(tmp_path, capsys):
    path = tmp_path / "edc-m.json"
    path.write_text(json.dumps({"protocol": "edc"}))
    assert main(["amend", str(path), "--why", "x", "-o", str(tmp_path)]) == 2
    assert "is of edc, which scores no maps" in capsys.readouterr().err
