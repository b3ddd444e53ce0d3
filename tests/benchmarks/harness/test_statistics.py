"""Against scipy, and by hand."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.harness.statistics import compare, holm, over_images, summarise


def test_rows_of_an_image_are_one_observation():
    found = over_images([1.0, 3.0, -4.0], ["a", "a", "b"])
    assert (found["mean"], found["images"], found["rows"]) == (-1.0, 2, 3)
    assert found["positive"] == pytest.approx(2 / 3)


def test_interval_is_a_percentile_bootstrap():
    values = np.random.default_rng(0).normal(size=40)
    found = over_images(values.tolist(), [str(i) for i in range(40)])
    generator = np.random.default_rng(5)
    means = [np.mean(generator.choice(values, 40)) for _ in range(5000)]
    interval = [found["low"], found["high"]]
    assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.03)
    assert over_images([1.0, 2.0], ["a", "a"])["low"] is None
    equal = over_images([0.5, 0.5], ["a", "b"])
    assert (equal["low"], equal["high"]) == (0.5, 0.5)


def test_holm_by_hand():
    # sorted 0.01·4, 0.02·3, 0.03·2, 0.5·1; never below an earlier one
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_compare_is_wilcoxon_on_per_image_means_of_common_rows():
    generator = np.random.default_rng(2)
    rows = [(str(i), c) for i in range(12) for c in range(2)]
    plq = {row: float(generator.normal()) for row in rows}
    other = {row: value + float(generator.normal(0.5)) for row, value in plq.items()}
    del other["0", 1]
    found = compare({"plq": plq, "other": other, "same": dict(plq)}, "plq")
    gaps = [np.mean([other[r] - plq[r] for r in other if r[0] == str(i)]) for i in range(12)]
    p = stats.wilcoxon(gaps).pvalue
    for key, value in {"difference": np.mean(gaps), "p": p, "p_holm": 2 * p, "images": 12}.items():
        assert found["other"][key] == pytest.approx(value), key
    assert (found["same"]["difference"], found["same"]["p"]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="no 'plq'"):
        compare({"other": {}}, "plq")
    with pytest.raises(ValueError, match="no rows"):
        over_images([], [])


def test_a_summary_leaves_out_what_does_not_exist_and_counts_it():
    """A row that lacks a number was not asked for it; one with ``None`` was, and has none."""
    rows = [
        {"image": image, "method": "plq", "fill": fill, "score": score}
        for image, fill, score in (("a", "x", 1.0), ("a", "y", None), ("b", "x", 3.0))
    ] + [{"image": "b", "method": "plq", "fill": "y"}]
    found = summarise(rows, ["other", "plq"], ["score"], ("fill",), compared=("score",))
    cells = found["estimates"]["score"]["plq"]
    assert list(found["estimates"]["score"]) == ["plq"]
    assert (cells["all"]["mean"], cells["all"]["rows"], cells["all"]["undefined"]) == (2.0, 2, 1)
    assert (cells["fill=x"]["rows"], "fill=y" in cells) == (2, False)
    assert found["comparisons"] == {"score": {}}


def test_random_networks_are_averaged_and_give_their_range():
    rows = [
        {"image": image, "method": "null", "network": network, "x": 10.0 * network + i}
        for network in range(3)
        for i, image in enumerate("ab")
    ]
    rows += [{"image": image, "method": "plq", "x": 0.0} for image in "ab"]
    found = summarise(rows, ["plq", "null"], ["x"], [], compared=["x"])
    cell = found["estimates"]["x"]["null"]["all"]
    assert [cell[key] for key in ("mean", "low", "high")] == [10.5, 0.5, 20.5]
    assert cell["networks"] == [0.5, 10.5, 20.5]
    assert (cell["images"], cell["rows"]) == (2, 6)
    assert "networks" not in found["estimates"]["x"]["plq"]["all"]
    assert found["comparisons"]["x"]["null"]["difference"] == 10.5
