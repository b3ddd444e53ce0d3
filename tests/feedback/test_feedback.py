"""Verdict and reasons: planted losses, damaged images, and what is not known."""

import dataclasses
import json

import numpy as np
import pytest

from captum_plq.calibration import PRESETS
from captum_plq.calibration.regions import RegionLosses
from captum_plq.faces import REGIONS, blur, sample_face, template_landmarks
from captum_plq.faces.detect import WEAK_SCORE
from captum_plq.feedback import RULES, give_feedback
from captum_plq.functional.local import LocalReference
from captum_plq.models import ModelSpec

torch = pytest.importorskip("torch")
pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

SPEC = ModelSpec("toy", (112, 112), (127.5,) * 3, (128.0,) * 3)
LOSSES = RegionLosses.of(np.linspace(-0.004, 0.004, 21)[:, None] * np.ones(9))
CALIBRATION = dataclasses.replace(
    PRESETS["arcface"],
    local=LocalReference(4.5, torch.zeros(7, 7), torch.ones(7, 7)),
    local_layer="x",
    region_losses=LOSSES,
)
CHIP = sample_face().chip


def lost(**values):
    return [values.get(region, 0.0) for region in REGIONS]


def test_a_good_face_has_nothing_to_correct():
    found = give_feedback(CHIP, SPEC, scaled_quality=0.8, lost=lost(), calibration=CALIBRATION)
    assert (found.verdict, found.reasons) == ("nothing to correct", ())
    assert found.lines() == ["nothing to correct"]


def test_a_mask_is_named_with_its_evidence():
    values = lost(mouth=0.05, chin=0.03, nose=0.02)
    found = give_feedback(CHIP, SPEC, scaled_quality=0.1, lost=values, calibration=CALIBRATION)
    reason = found.reasons[0]
    assert (found.verdict, reason.cause, reason.region) == ("retake", "lower face covered", "mouth")
    assert (reason.lost, reason.share) == (0.05, pytest.approx(0.5))
    assert reason.unusual == pytest.approx(LOSSES.unusual([values])[0][REGIONS.index("mouth")])
    assert not reason.weak
    assert "mouth: 50% of what is lost, 0.050 of Q" in found.lines()[1]
    assert reason.evidence["lower face share"] == pytest.approx(0.8)
    assert json.loads(json.dumps(found.record()))["reasons"][0]["cause"] == "lower face covered"


@pytest.mark.parametrize(("quality", "told"), [(0.3, ["eyes covered"]), (0.75, []), (None, [])])
def test_a_loss_at_the_eyes_is_a_reason_only_where_quality_is_low(quality, told):
    values = lost(left_eye=0.02, right_eye=0.02, nose=0.01)
    found = give_feedback(CHIP, SPEC, scaled_quality=quality, lost=values, calibration=CALIBRATION)
    assert [x.cause for x in found.reasons] == told
    assert all(x.evidence["scaled_quality"] == quality for x in found.reasons)


def test_blur_comes_first_and_makes_evidence_of_regions_weak():
    values = lost(mouth=0.05, chin=0.03, nose=0.02)
    found = give_feedback(blur(CHIP, 4), SPEC, lost=values, calibration=CALIBRATION)
    assert [x.cause for x in found.reasons[:2]] == ["blurred", "lower face covered"]
    assert [x.weak for x in found.reasons[:2]] == [False, True]
    assert "sharpness 0." in found.lines()[1]
    assert "weak evidence" in found.lines()[2]


def test_at_most_three_reasons():
    worst = blur(CHIP, 4)
    points = template_landmarks("arcface", 112) / 10
    values = lost(mouth=0.05, chin=0.05, forehead=0.1, left_eye=0.05)
    found = give_feedback(
        worst, SPEC, landmarks=points, scaled_quality=0.01, lost=values, calibration=CALIBRATION
    )
    assert [x.cause for x in found.reasons] == ["too small", "blurred", "forehead covered"]


def test_a_low_quality_without_a_cause_is_said_to_be_unclear_and_weak():
    found = give_feedback(CHIP, SPEC, scaled_quality=0.001, lost=lost(), calibration=CALIBRATION)
    assert [(x.cause, x.weak) for x in found.reasons] == [(RULES[-1].cause, True)]
    both = give_feedback(blur(CHIP, 4), SPEC, scaled_quality=0.001)
    assert [x.cause for x in both.reasons] == ["blurred"]


def test_without_a_map_the_whole_image_is_looked_at_and_it_says_so():
    found = give_feedback(blur(CHIP, 4), SPEC)
    assert [x.cause for x in found.reasons] == ["blurred"]
    assert "no local quality" in found.lines()[-1]
    old = dataclasses.replace(CALIBRATION, region_losses=None)
    found = give_feedback(CHIP, SPEC, scaled_quality=0.8, lost=lost(mouth=1.0), calibration=old)
    assert (found.verdict, "no losses of regions" in found.without_map) == (
        "nothing to correct",
        True,
    )


def test_where_neither_quality_nor_regions_are_known_a_face_is_not_called_good():
    found = give_feedback(CHIP, SPEC)
    assert (found.verdict, found.reasons) == ("not assessed", ())
    assert "not known" in found.lines()[1]
    assert "calibration" in found.lines()[-1]


def test_of_a_weak_detection_all_evidence_is_weak_and_perhaps_it_is_no_face():
    values = lost(mouth=0.05, chin=0.03, nose=0.02)
    known = {"scaled_quality": 0.001, "lost": values, "calibration": CALIBRATION}
    found = give_feedback(CHIP, SPEC, detector_score=WEAK_SCORE, cut_off=0.3, **known)
    assert found.verdict == found.lines()[0] == "perhaps no face"
    assert [x.cause for x in found.reasons] == ["perhaps no face", "cut off"]
    assert all(x.weak for x in found.reasons)
    assert "whole face visible" in found.lines()[1]
    assert "weak evidence; detector score 0.25" in found.lines()[1]
    sure = give_feedback(CHIP, SPEC, detector_score=WEAK_SCORE + 1e-6, **known)
    assert (sure.verdict, [x.weak for x in sure.reasons]) == ("retake", [False])


def test_a_good_face_found_weakly_is_not_called_good():
    found = give_feedback(CHIP, SPEC, detector_score=0.0, scaled_quality=0.9)
    assert (found.verdict, len(found.reasons)) == ("perhaps no face", 1)


@pytest.mark.parametrize(
    ("share", "weak"), [(0.0, None), (0.07, None), (0.09, True), (0.32, False)]
)
def test_a_face_cut_off_by_the_edge_is_a_reason(share, weak):
    known = {"scaled_quality": 0.8, "lost": lost(), "calibration": CALIBRATION}
    found = give_feedback(CHIP, SPEC, detector_score=1.5, cut_off=share, **known)
    assert [(x.cause, x.weak) for x in found.reasons] == (
        [] if weak is None else [("cut off", weak)]
    )
    if weak is False:
        assert found.reasons[0].evidence == {"cut_off": 0.32}
        assert "32% of the face lies beyond the edge" in found.lines()[1]


def test_the_black_beyond_the_edge_explains_what_else_is_seen():
    values = lost(mouth=0.05, chin=0.03, nose=0.02)
    dark = np.full_like(CHIP, 9)
    found = give_feedback(dark, SPEC, cut_off=0.3, lost=values, calibration=CALIBRATION)
    told = [(x.cause, x.weak) for x in found.reasons]
    assert told[:2] == [("cut off", False), ("too dark", True)]
    assert all(weak for _, weak in told[1:])
    assert not give_feedback(dark, SPEC).reasons[0].weak


@pytest.mark.parametrize("values", [[0.0] * 8, [float("nan")] * 9])
def test_refuses_losses_that_are_none(values):
    with pytest.raises(ValueError, match="9 finite numbers"):
        give_feedback(CHIP, SPEC, lost=values, calibration=CALIBRATION)
