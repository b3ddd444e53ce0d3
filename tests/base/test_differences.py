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
        "batch size 1, not 2; model digest 1, not 2; new null, not true; calibration "
        "date null, not today"
    )
    assert differences(there, {key: there[key] for key in here}) == ""
