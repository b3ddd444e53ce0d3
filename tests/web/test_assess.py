"""Answers on real photos, beside what the library itself says of them."""

import base64
import dataclasses
import json
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from captum_plq.explanation import Explainer, matching_calibration
from captum_plq.faces import (
    REGIONS,
    align_face,
    aligned_faces,
    decode_image,
    detect_faces,
    face_regions,
    inpaint,
    landmarks_in_chip,
)
from captum_plq.faces.disturb.standards import change_exposure
from captum_plq.models import load_model
from captum_plq.web import PhotoAssessor, RefusedError
from captum_plq.web.assess import CAUTION
from tests.web.conftest import encoded


@pytest.fixture(scope="module")
def masked(portrait):
    """The portrait with a white patch over mouth and chin."""
    image, face = portrait.copy(), detect_faces(portrait)[0]
    left, top, right, bottom = face.box
    image[(top + 3 * bottom) // 4 : bottom + 12, left + 4 : right - 4] = (190, 210, 225)
    return encoded(Image.fromarray(image), "PNG")


def pixels(url):
    return np.array(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_a_good_photo_has_nothing_to_correct(assessor, good):
    answer = assessor.photo(good)
    assert (answer["verdict"], answer["reasons"]) == ("nothing to correct", [])
    assert answer["summary"] == "Q = .70, as of a high-quality face"
    assert answer["quality"] == pytest.approx(0.70, abs=0.01)
    assert 0.7 < answer["scaled_quality"] < 0.9
    assert answer["worst_region"] is None
    assert pixels(answer["face"]).shape == (336, 336, 3)
    assert pixels(answer["map"]).shape == (336, 336, 4)
    json.dumps(answer, allow_nan=False)


def test_what_q_means_is_said_as_explain_says_it(assessor, good, masked):
    known = matching_calibration(load_model("mobilefacenet-places")).thresholds
    for photo in (good, masked):
        answer = assessor.photo(photo)
        meaning = answer["meaning"]
        assert meaning["words"] == known.in_words(answer["quality"])
        assert meaning["percentile"] == known.percentile(answer["quality"])
        assert meaning["failures"][0]["rate"] == known.failure_rate(answer["quality"])[0]
        assert meaning["measured_on"] == known.measured_on()
    assert meaning["words"].startswith("lower than all good faces; 1 in ")


def test_numbers_are_those_of_explain(assessor, good):
    model = load_model("mobilefacenet-places")
    image = decode_image(good, "photo")
    chip = aligned_faces(image, template="arcface", size=(112, 112))[0].chip
    found = Explainer(model, calibration=matching_calibration(model))(chip[None])
    answer = assessor.photo(good)
    assert answer["quality"] == pytest.approx(found.quality[0])
    assert answer["standard_error"] == pytest.approx(found.quality_standard_error[0])
    assert answer["local_quality"] == pytest.approx(found.local.quality[0])
    assert answer["scaled_quality"] == pytest.approx(found.scaled_quality[0])
    assert list(answer["regions"]) == list(REGIONS)
    lost = [answer["regions"][name]["lost"] for name in REGIONS]
    assert lost == pytest.approx(found.local.lost[0].tolist())
    gone = found.local.reference_quality - answer["local_quality"] + found.local.offset[0]
    assert sum(lost) == pytest.approx(gone, abs=1e-5)


def test_a_covered_mouth_is_named_with_its_regions(assessor, masked):
    answer = assessor.photo(masked)
    assert answer["verdict"] == "retake"
    reason = next(r for r in answer["reasons"] if r["cause"] == "lower face covered")
    assert reason["regions"][0] == answer["worst_region"]
    assert set(reason["regions"]) <= {"mouth", "chin"}
    assert reason["lost"] == answer["regions"][reason["regions"][0]]["lost"]
    assert 0.1 < reason["share"] <= 1
    assert reason["unusual"] > 5
    assert "of what is lost" in reason["evidence"]
    shown = pixels(answer["map"])[..., 3]
    assert shown.max() > 150
    assert shown[224:].mean() > 4 * shown[:112].mean()  # of a picture of 336 rows


def test_a_reason_of_the_whole_image_lights_up_no_region(assessor, portrait):
    dark = encoded(Image.fromarray(change_exposure(portrait, -4.0)), "PNG")
    first = assessor.photo(dark)["reasons"][0]
    assert (first["cause"], first["regions"], first["share"]) == ("too dark", [], None)


def test_several_faces_are_told_and_one_is_used(assessor, portrait, good):
    both = np.concatenate([portrait, portrait[:, ::-1] // 2 + 60], axis=1)
    warnings = assessor.photo(encoded(Image.fromarray(both), "PNG"))["warnings"]
    assert warnings[0].startswith("2 faces were found; the one found most surely was used")
    assert assessor.photo(good)["warnings"] == []


def test_a_face_cut_off_by_the_edge_is_told(assessor, portrait):
    left, _, right, _ = detect_faces(portrait)[0].box
    cut = np.ascontiguousarray(portrait[:, left + (right - left) // 8 :])
    (warning,) = assessor.photo(encoded(Image.fromarray(cut), "PNG"))["warnings"]
    assert "is cut off by the photo's edge" in warning
    assert warning.endswith(".")
    cut = np.ascontiguousarray(portrait[:, left + (right - left) // 4 :])
    answer = assessor.photo(encoded(Image.fromarray(cut), "PNG"))
    first = answer["reasons"][0]
    assert (answer["verdict"], first["cause"], first["regions"]) == ("retake", "cut off", [])
    assert re.search(r"\d\d% of the face lies beyond the edge", first["evidence"])


def test_a_weak_detection_is_perhaps_no_face(assessor, masked, monkeypatch):
    def faintly(image):
        return [dataclasses.replace(face, score=0.1) for face in detect_faces(image)]

    monkeypatch.setattr("captum_plq.faces.aligned.detect_faces", faintly)
    answer = assessor.photo(masked)
    assert answer["verdict"] == answer["reasons"][0]["cause"] == "perhaps no face"
    assert all(reason["weak"] and not reason["regions"] for reason in answer["reasons"])
    assert assessor.what_if(masked, "mouth")["verdict"] == "perhaps no face"


def test_what_if_paints_over_the_region_and_nothing_else(assessor, masked):
    before = assessor.photo(masked)
    answer = assessor.what_if(masked, "mouth, chin")
    assert set(answer) == {
        "face", "quality", "scaled_quality", "verdict", "region", "caution"
    }  # fmt: skip
    assert (answer["region"], answer["caution"]) == ("mouth, chin", CAUTION)
    masks = face_regions("arcface", 112)
    painted = (masks["mouth"] | masks["chin"]).repeat(3, 0).repeat(3, 1)
    old, new = pixels(before["face"]), pixels(answer["face"])
    assert np.array_equal(old[~painted], new[~painted])
    assert not np.array_equal(old[painted], new[painted])
    assert answer["quality"] != before["quality"]


def test_what_if_scores_what_inpainting_makes_of_the_face(assessor, good):
    image = decode_image(good, "photo")
    chip = align_face(image, detect_faces(image)[0], template="arcface", size=112)
    painted = inpaint(chip, face_regions("arcface", 112)["left_eye"], method="biharmonic")
    expected = assessor._explainer(painted[None]).quality[0]
    assert assessor.what_if(good, "left_eye")["quality"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("", "It is not said which region to paint over: send as 'region' one or more of"),
        (" ,", "It is not said which region"),
        ("mouth,", "It is not said which region"),
        ("beard", "There is no region 'beard': choose among forehead, left_eye"),
        ("mouth,beard", "There is no region 'beard'"),
        ("\x1b[31m", "There is no region that: choose among"),
        (",".join(REGIONS), "Nothing would be painted over, or all of the face"),
    ],
)
def test_what_if_of_no_region_or_of_all_is_refused(assessor, good, region, words):
    with pytest.raises(RefusedError) as refused:
        assessor.what_if(good, region)
    assert refused.value.status == 422
    assert refused.value.sentence.startswith(words)
    assert refused.value.sentence.isprintable()
    if "region" in words:
        assert all(name in refused.value.sentence for name in REGIONS)


def test_without_a_calibration_the_answer_says_what_is_not_known(good):
    assessor = PhotoAssessor(Explainer(load_model("mobilefacenet-dropout")))
    answer = assessor.photo(good)
    assert assessor.about()["calibrated"] is False
    assert (answer["map"], answer["map_scale"], answer["worst_region"]) == (None, None, None)
    assert {region["lost"] for region in answer["regions"].values()} == {None}
    assert answer["meaning"] is None
    assert answer["standard_error"] > 0
    assert answer["summary"].startswith(f"Q = {answer['quality']:.3f} ± ")
    assert answer["warnings"][-1].startswith("Parts of the face were not looked at")
    json.dumps(answer, allow_nan=False)
    assert assessor.what_if(good, "nose")["verdict"]


def test_the_face_is_shown_finer_than_the_network_sees_it(assessor, good):
    """Landmarks of what is shown lie where the template has them, three times as far apart."""
    answer = assessor.photo(good)
    image = decode_image(good, "photo")
    face = detect_faces(image)[0]
    expected = landmarks_in_chip(face, template="arcface", size=336)
    again = detect_faces(np.pad(pixels(answer["face"]), ((80, 80), (80, 80), (0, 0))))[0]
    assert np.abs(again.landmarks - 80 - expected).max() < 8
