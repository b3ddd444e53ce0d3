"""The figures of a result, against sums over its rows one by one."""

import numpy as np
import pytest

from captum_plq.faces import REGIONS
from captum_plq.gallery.inspect import Refusals, inspect_result
from captum_plq.gallery.schema import lost_column
from tests.gallery.inspect.conftest import FACES, QUALITY, refused, write_result


def test_counts_quantiles_and_histogram(gallery):
    found = inspect_result(gallery)
    assert (found.rows, found.images, found.faces) == (FACES + 3, FACES + 3, FACES)
    assert (found.weak, found.cut_off) == (1, 1)
    assert found.quantiles[0.0] == pytest.approx(QUALITY.min())
    assert found.quantiles[0.5] == pytest.approx(np.median(QUALITY))
    assert found.quantiles[1.0] == pytest.approx(QUALITY.max())
    counts, edges = found.histogram
    assert counts.sum() == FACES
    assert edges[0] <= QUALITY.min() + 1e-6
    assert edges[-1] >= QUALITY.max() - 1e-6


@pytest.mark.parametrize(("each", "low", "high"), [(0, 0, 0), (3, 3, 3), (7, 6, 6), (99, 6, 6)])
def test_the_lowest_and_the_highest_in_order_and_none_twice(gallery, each, low, high):
    found = inspect_result(gallery, each=each)
    order = np.argsort(QUALITY)
    assert [row["index"] for row in found.lowest] == order[:low].tolist()
    assert [row["index"] for row in found.highest] == order[::-1][:high].tolist()


def test_refusals_by_reason_with_the_first_of_each(gallery):
    no_face = Refusals("no_face", "refused", 2, "a.png", "is <b>no_face</b> & so on.")
    missing = Refusals("missing", "failed", 1, "c", "is <b>missing</b> & so on.")
    assert inspect_result(gallery).refusals == [no_face, missing]


def test_verdicts_and_causes(gallery):
    found = inspect_result(gallery)
    assert found.verdicts == {"nothing to correct": FACES - 2, "retake": 2}
    assert found.causes == {"dark": 2, "blurred": 1}


def test_what_regions_lose(gallery):
    rows = [row for row in gallery.table().to_pylist() if row["status"] == "ok"]
    limit = np.quantile([row["quality"] for row in rows], 0.1)
    low = [row for row in rows if row["quality"] <= limit]
    found = {loss.region: loss for loss in inspect_result(gallery).losses}
    assert tuple(found) == REGIONS
    for region, loss in found.items():
        column = lost_column(region)
        assert loss.mean == pytest.approx(np.mean([row[column] for row in rows]))
        assert loss.low == pytest.approx(np.mean([row[column] for row in low]))
    assert found["nose"].worst_share == found["mouth"].worst_share == 0.5
    assert sum(loss.worst_share for loss in found.values()) == pytest.approx(1)


def test_a_gallery_without_any_quality(tmp_path):
    found = inspect_result(write_result(tmp_path, [refused(0, "a", "empty")]))
    assert (found.rows, found.faces, found.quantiles, found.losses) == (1, 0, {}, [])
    assert found.lowest == found.highest == []
    assert found.histogram[0].sum() == 0


def test_a_damaged_file_is_no_shorter_gallery(gallery):
    path = gallery.directory / "shards" / "part-00001.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises((OSError, ValueError)):
        inspect_result(gallery)
