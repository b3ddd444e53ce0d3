"""What differs between two runs, in words."""

from captum_plq._base.differences import differences


def test_values_are_named_with_where_they_stand():
    there = {
        "format": "of the file",
        "parameters": {"batch_size": 1, "estimator": "sampling"},
        "model": {"name": "a", "digest": "1"},
        "calibration": None,
    }
    here = {
        "parameters": {"batch_size": 2, "estimator": "sampling", "new": True},
        "model": {"name": "a", "digest": "2"},
        "calibration": {"date": "today"},
    }
    assert differences(there, here) == (
        "batch size 1, not 2; model digest 1, not 2; calibration none, not another; "
        "new none, not true"
    )
    known = {"model": there["model"], "calibration": {"date": "today", "digest": "3"}}
    assert differences(known, {**known, "calibration": None}) == "calibration 3, not none"
    assert differences(there, {key: there[key] for key in here}) == ""
