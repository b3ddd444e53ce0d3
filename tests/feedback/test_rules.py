"""The table of rules: that it can be read, and what its conditions mean."""

import math

import numpy as np
import pytest

from captum_plq.calibration.regions import RegionLosses
from captum_plq.faces import REGIONS
from captum_plq.faces.detect import WEAK_SCORE
from captum_plq.feedback import GROUPS, RULES, ImageMeasures, quantities
from captum_plq.feedback.rules import Rule, at_least, at_most

MEASURES = ImageMeasures(0.5, 0.02, 7.0, 0.0, 0.0, 0.8, 1.5, None, None, None)
LOSSES = RegionLosses.of(np.linspace(-0.01, 0.01, 21)[:, None] * np.ones(9))


def lost(**values):
    return np.array([values.get(region, 0.0) for region in REGIONS])


def test_shares_and_scores_of_groups():
    numbers = quantities(MEASURES, 0.7, lost(mouth=0.03, chin=0.01, nose=0.04, left_eye=-5), LOSSES)
    assert numbers["lower face share"] == pytest.approx(0.5)
    assert (numbers["eyes share"], numbers["middle share"]) == (0, pytest.approx(0.5))
    expected = LOSSES.unusual([lost(mouth=0.03)])[0][REGIONS.index("mouth")]
    assert numbers["lower face unusual"] == pytest.approx(expected)
    assert (numbers["scaled_quality"], numbers["sharpness"]) == (0.7, 1.5)


def test_what_is_not_known_is_nan_and_no_condition_holds():
    numbers = quantities(MEASURES)
    assert math.isnan(numbers["inter_eye_distance"])
    assert math.isnan(numbers["eyes share"])
    assert not any(rule.holds(numbers) for rule in RULES)
    assert not at_most("scaled_quality", 5.0).holds(math.nan)


def test_the_limit_of_a_weak_detection_is_that_of_faces():
    (limit,) = RULES[0].when
    assert (limit.quantity, limit.side, limit.limit) == ("detector_score", "at most", WEAK_SCORE)
    assert quantities(MEASURES, detector_score=0.1, cut_off=0.2)["cut_off"] == 0.2


def test_nothing_lost_is_no_share():
    numbers = quantities(MEASURES, 0.7, np.full(9, -0.01), LOSSES)
    assert [numbers[f"{group} share"] for group in GROUPS] == [0] * len(GROUPS)


@pytest.mark.parametrize(
    ("value", "holds", "clear"), [(9.9, False, False), (10, True, False), (12, True, True)]
)
def test_all_conditions_must_hold_and_clear_is_a_fifth_beyond(value, holds, clear):
    rule = Rule("x", (at_least("a", 10), at_most("b", 1)), "X: y.")
    assert bool(rule.holds({"a": value, "b": 0.5})) is holds
    assert rule.is_clear({"a": value, "b": 0.5}) is clear
    assert not rule.holds({"a": value, "b": 1.1})
    assert not rule.is_clear({"a": 99, "b": 0.9})
    columns = {"a": np.array([value, 99, 99]), "b": np.array([0.5, 0.5, 2])}
    assert rule.holds(columns).tolist() == [holds, True, False]


def test_every_rule_speaks_of_known_numbers_and_tells_what_to_do():
    known = quantities(MEASURES)
    assert len({rule.cause for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert all(one.quantity in known and one.limit > 0 for one in rule.when), rule.cause
        wrong, _, action = rule.sentence.partition(": ")
        assert wrong, rule.cause
        assert action.endswith("."), rule.cause
        assert rule.group in ("", *GROUPS)
    assert {region for group in GROUPS.values() for region in group} <= set(REGIONS)
