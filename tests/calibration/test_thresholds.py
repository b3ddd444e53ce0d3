"""What a Q means: percentiles, failures of pairs, the words, and the file."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from captum_plq.calibration import (
    Calibration,
    FailureRates,
    QualityThresholds,
    calibrate,
    measure_failures,
    shipped_calibration,
)
from captum_plq.metrics import FailureCurve, fnmr, threshold_at_fmr
from captum_plq.quality import SERFIQ
from tests.calibration.test_regions import small_face_model

GOOD = tuple(np.linspace(0.6, 0.8, 101).tolist())
CURVE = FailureCurve((0.4, 0.6, 0.8), (0.9, 0.125, 0.0), (0.5, 0.05, 0.0), (1.0, 0.25, 0.03))


@pytest.fixture
def known():
    failures = (FailureRates(1e-3, 0.31, 5000, CURVE), FailureRates(1e-2, 0.2, 5000, CURVE))
    return QualityThresholds(GOOD, failures, 300, 146, "my photos")


def test_percentiles_are_those_of_the_faces():
    faces = np.random.default_rng(0).normal(0.7, 0.02, 500)
    found = QualityThresholds(QualityThresholds.percentiles(faces))
    for q in (0.66, 0.7, 0.75):
        assert float(found.percentile(q)) == pytest.approx(100 * (faces < q).mean(), abs=1)
    assert found.percentile([0.1, 0.9, math.nan]).tolist()[:2] == [0, 100]
    assert np.isnan(found.percentile(math.nan))


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        (0.6, "1st percentile of good faces; 1 in 8 such images fails at FMR 1e-3 (5.0–25 %)"),
        (0.62, "10th percentile of good faces; 1 in 9 such images fails at FMR 1e-3 (4.5–23 %)"),
        (0.5, "lower than all good faces; 51 % of such images fail at FMR 1e-3 (28–62 %)"),
        (0.8, "99th percentile of good faces; hardly any such image fails at FMR 1e-3 (0–3.0 %)"),
        (0.3, "lower than all good faces; at least 50 % of such images fail at FMR 1e-3 (Q is "
              "below all that were measured)"),
        (0.9, "higher than all good faces; hardly any such image fails at FMR 1e-3 (0–3.0 %)"),
        (0.643, "22nd percentile of good faces; 1 in 10 such images fails at FMR 1e-3 (3.9–20 %)"),
    ],
)  # fmt: skip
def test_words(known, quality, words):
    assert known.in_words(quality) == words
    without = dataclasses.replace(known, failures=())
    assert without.in_words(quality) == words.partition(";")[0]


def test_thresholds_that_were_not_measured_are_not_told(known):
    rate, low, high = known.failure_rate([0.5, 0.6], 1e-2)
    assert rate == pytest.approx([0.5125, 0.125])
    assert (low[1], high[1]) == (0.05, 0.25)
    assert known.quality_at(0.05) == pytest.approx((0.72, 0.6, 0.781818), abs=1e-6)
    with pytest.raises(ValueError, match=r"at FMR 0.0001 were not measured, but at 0.001, 0.01"):
        known.failure_rate(0.5, 1e-4)
    lines = known.lines()
    assert lines[0] == (
        "failures at FMR 0.001 (cosine below 0.310), Q from which on they are at most 1%: 0.784 "
        "(0.760 to higher than measured); 5%: 0.720 (0.600 to 0.782); 10%: 0.640 (0.578 to 0.736)"
    )
    assert lines[-1] == "measured on 300 mated pairs of 146 people: my photos"
    assert QualityThresholds(GOOD).lines() == []


def people_and_pairs(count=40):
    """Embeddings of three images of each person, one of them disturbed by how bad it is."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(count, 16, generator=generator)
    bad = torch.rand(count, 3, generator=generator)
    noise = torch.randn(count, 3, 16, generator=generator)
    embeddings = (own[:, None] + 2 * bad[..., None] * noise).flatten(0, 1)
    pairs = [(3 * i + a, 3 * i + b) for i in range(count) for a, b in ((0, 1), (0, 2), (1, 2))]
    return embeddings * 7, 1 - bad.flatten(), [f"p{i // 3}" for i in range(3 * count)], pairs


def test_failures_are_those_of_plain_loops():
    embeddings, quality, people, pairs = people_and_pairs()
    found = measure_failures(embeddings, quality, people, pairs, fmrs=(0.01,))[0]
    cosine = torch.nn.functional.cosine_similarity
    others = [
        float(cosine(embeddings[i], embeddings[j], dim=0))
        for i in range(len(people)) for j in range(i) if people[i] != people[j]
    ]  # fmt: skip
    assert found.non_mated == len(others)
    assert found.threshold == pytest.approx(threshold_at_fmr(torch.tensor(others), 0.01), abs=1e-5)
    scores = torch.stack([cosine(embeddings[i], embeddings[j], dim=0) for i, j in pairs])
    lower = np.array([float(min(quality[i], quality[j])) for i, j in pairs])
    mean = found.curve.at(lower)[0].mean()
    assert mean == pytest.approx(float(fnmr(scores, found.threshold)), abs=0.03)
    assert found.curve.quality[0] == pytest.approx(lower.min())
    good = list(range(0, 60))
    some = measure_failures(embeddings, quality, people, pairs, fmrs=(0.01,), gallery=good)[0]
    assert some.non_mated == 60 * 59 // 2 - 60


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pairs": [(0, 3)]}, "must be mated"),
        ({"pairs": []}, "must be mated"),
        ({"pairs": [(0, 1)] * 30}, "20 mated pairs of 10 people"),
        ({"fmrs": (1e-6,)}, "at least 1000000 impostor scores"),
        ({"embeddings": torch.zeros(120, 16)}, "length 0"),
        ({"embeddings": torch.full((120, 16), math.nan)}, "embeddings must be finite"),
    ],
)
def test_refuses(change, words):
    names = ("embeddings", "quality", "people", "pairs")
    given = dict(zip(names, people_and_pairs(), strict=True)) | change
    with pytest.raises(ValueError, match=words):
        measure_failures(**given)


def test_a_calibration_has_the_percentiles_of_its_good_faces_and_keeps_them(tmp_path, known):
    model = small_face_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        images = torch.rand(20, 3, *model.spec.input_size) * 255
    found = calibrate(model, images.split(7))
    q = SERFIQ(model)(images).detach()
    expected = np.percentile(q[q >= q.quantile(0.5)].double().numpy(), range(101))
    assert found.thresholds.good == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.thresholds.failures == ()
    found = dataclasses.replace(found, thresholds=dataclasses.replace(known, good=GOOD))
    found.save(tmp_path / "c.npz")
    again = Calibration.load(tmp_path / "c.npz")
    assert again.thresholds == found.thresholds
    assert again.header() == found.header()


def file_with(calibration, path, value):
    calibration.save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].item())
    header["thresholds"] = value
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))
    return path


def changed(known, **changes):
    return json.loads(json.dumps(known.in_file())) | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"failures": 1}, "expected values by name"),
        ({"failures": [{}]}, "not as they are written"),
        ({"other": 1}, "not as they are written"),
        ({"good": [0.5] * 100}, "101 rising percentiles"),
        ({"good": [0.9, *[0.5] * 100]}, "101 rising percentiles"),
        ({"good": ["x"] * 101}, "good: expected"),
        ({"people": 400}, "no more people than pairs"),
    ],
)
def test_a_file_with_senseless_ones_is_refused(calibration, known, tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        Calibration.load(file_with(calibration, tmp_path / "c.npz", changed(known, **changes)))


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        ({"rate": [0.1, 0.5, 0.0]}, "fall within their intervals"),
        ({"low": [0.95, 0.05, 0.0]}, "fall within their intervals"),
        ({"high": [2, 0.5, 0.1]}, "fall within their intervals"),
        ({"quality": [0.4, 0.4, 0.8]}, "at rising qualities"),
        ({"rate": [0.5, 0.0]}, "at rising qualities"),
    ],
)
def test_a_file_with_a_senseless_curve_is_refused(calibration, known, tmp_path, curve, words):
    value = changed(known)
    value["failures"][0]["curve"].update(curve)
    with pytest.raises(ValueError, match=words):
        Calibration.load(file_with(calibration, tmp_path / "c.npz", value))


def test_files_of_before_have_none(calibration, tmp_path):
    calibration.save(tmp_path / "old.npz")
    assert Calibration.load(tmp_path / "old.npz").thresholds is None


@pytest.mark.parametrize("name", ["mobilefacenet-places", "mobilefacenet-dropout"])
def test_shipped_calibrations_say_what_a_score_means(name):
    found = shipped_calibration(name).thresholds
    assert 0.6 < found.good[0] < found.good[100] < 0.8
    assert [one.fmr for one in found.failures] == [1e-3, 1e-2]
    assert (found.people, found.pairs) == (146, 900)
    assert "fold 4" in found.source
    worse, better = (float(found.failure_rate(q)[0]) for q in (0.5, 0.7))
    assert worse > 0.3 > 0.1 > better
