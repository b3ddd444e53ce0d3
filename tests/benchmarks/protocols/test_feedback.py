"""Feedback's protocol: scores by hand, limits that are set, what is drawn, and a run."""

import json

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from benchmarks.protocols import protocol
from benchmarks.protocols.parts.drawn_causes import CAUSES, CLEAN, draw_cause
from benchmarks.protocols.parts.rule_scores import (
    NOTHING,
    fitted,
    named_causes,
    scores,
)
from captum_plq.faces import sample_face, template_landmarks
from captum_plq.feedback.rules import Rule, at_least, at_most
from tests.support.face_network import NETWORK, write_pairs

POINTS = template_landmarks("arcface", 112)
PEOPLE = 40
DRAWN = np.repeat(list(CAUSES), PEOPLE)
WHO = np.tile(np.arange(PEOPLE), len(CAUSES))
RIGHT = np.array([CAUSES[cause] for cause in DRAWN.tolist()])


def test_scores_of_all_right_all_wrong_and_one_answer_for_all():
    best = scores(RIGHT, DRAWN, WHO)
    assert best["macro_f1"] == {"mean": 1, "low": 1, "high": 1}
    assert np.array_equal(best["confusion"], PEOPLE * np.eye(len(CAUSES), dtype=int))
    worst = scores(np.full(len(DRAWN), "unclear"), DRAWN, WHO)
    assert (worst["macro_f1"]["mean"], worst["heads"][-1]) == (0, "unclear")
    one = scores(np.full(len(DRAWN), NOTHING), DRAWN, WHO)
    assert one["causes"][CLEAN] == pytest.approx({"precision": 1 / 9, "recall": 1, "f1": 0.2})
    assert one["macro_f1"]["mean"] == pytest.approx(0.2 / 9)
    assert one["clean"]["low"] == 1


def test_intervals_are_over_people():
    named = RIGHT.copy()
    named[WHO < PEOPLE // 4] = "unclear"  # a quarter of the people have every face wrong
    spread = scores(named, DRAWN, WHO)["clean"]
    assert spread["mean"] == pytest.approx(0.75)
    error = np.sqrt(0.75 * 0.25 / PEOPLE)
    assert spread["high"] - spread["low"] == pytest.approx(2 * 1.96 * error, rel=0.2)


RULES = (
    Rule("lower face covered", (at_least("a", 99),), "A: b.", "lower face"),
    Rule("blurred", (at_most("b", 0.5),), "A: b."),
)


def test_the_first_rule_is_named_and_without_one_nothing():
    columns = {"a": np.array([100, 100, 0, np.nan]), "b": np.array([0, 1, 0, 1])}
    expected = ["lower face covered", "lower face covered", "blurred", NOTHING]
    assert named_causes(columns, RULES).tolist() == expected


def test_limits_are_set_where_clean_faces_stay_clean():
    generator = np.random.default_rng(0)
    values = generator.normal(10, 1, len(DRAWN))
    values[DRAWN == "mask"] += 10
    columns = {"a": values, "b": np.ones(len(DRAWN))}
    best = fitted(columns, DRAWN, RULES)
    found = scores(named_causes(columns, best), DRAWN, WHO)
    assert found["causes"]["mask"]["f1"] >= 0.9
    assert best[1] == RULES[1]  # of the whole image
    values[DRAWN == CLEAN] += 10  # a clean face looks like a mask: it is left alone
    named = named_causes(columns, fitted(columns, DRAWN, RULES))
    assert (named[DRAWN == CLEAN] == NOTHING).mean() >= 0.965


def test_what_is_drawn_depends_on_face_and_seed_alone():
    chip = sample_face().chip
    for cause in CAUSES:
        made = draw_cause(chip, POINTS, cause, "a.jpg")
        again = draw_cause(chip, POINTS, cause, "a.jpg")
        assert np.array_equal(made.chip, again.chip)
        assert np.array_equal(made.chip, chip) is (cause == CLEAN)
        if cause != CLEAN:
            other = draw_cause(chip, POINTS, cause, "b.jpg")
            assert not np.array_equal(made.chip, other.chip)
    small = draw_cause(chip, POINTS, "low resolution", "a.jpg").landmarks
    assert np.ptp(small[:, 0]) < 0.3 * np.ptp(POINTS[:, 0])


def test_a_run_writes_record_and_page_and_goes_on_with_what_was_measured(
    tmp_path, monkeypatch, capsys
):
    own = protocol("feedback")
    monkeypatch.setattr("benchmarks.protocols.feedback.seconds_a_photo", lambda *_: None)
    network = tmp_path / "mine.py"
    network.write_text(NETWORK)
    images, pairs = write_pairs(tmp_path, 8, 112)
    lines = ["fold,first,second,mated"]
    for fold, a, b in ((3, "p0", "p1"), (3, "p6", "p7"), (1, "p2", "p3"), (2, "p4", "p5")):
        lines += [f"{fold},{a}/1.png,{b}/1.png,0", f"{fold},{a}/1.png,{a}/2.png,1"]
    pairs.write_text("\n".join(lines))
    options = {
        "images": images,
        "pairs": pairs,
        "faces": 2,
        "set_faces": 2,
        "reference": 4,
        "random_networks": 1,
    }
    study = own(
        model=(str(network),), set_on="1", report_on="2", output=tmp_path / "out", **options
    )
    assert study.run() == 0
    record = json.loads((tmp_path / "out" / "feedback-mine.json").read_text("utf-8"))
    names = {"local quality", "random weights 0", "eigenfaces", "no map"}
    assert set(record["evidence"]) == set(record["limits"]) == names
    assert record["calibrated"] is False
    for own_scores in record["evidence"].values():
        assert np.sum(own_scores["table"]["confusion"]) == 9 * record["people"]["2"]
    assert "| *majority class* | 0.02" in (tmp_path / "out" / "feedback.md").read_text("utf-8")
    capsys.readouterr()
    assert study.run() == 0
    assert "read from" in capsys.readouterr().err
    again = json.loads((tmp_path / "out" / "feedback-mine.json").read_text("utf-8"))
    assert again["evidence"] == record["evidence"]
