"""Recognition along planted maps, by hand; and pairs drawn from a list."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.protocols.curves import IMPUTERS
from benchmarks.protocols.recognition import (
    RANDOM_ORDERS,
    Recognition,
    clean_threshold,
    with_errors,
)
from benchmarks.subjects.face_sets import pair_sets, quick_pair_sets
from captum_plq.models import ModelSpec
from tests.support.face_network import planted_context, write_pairs

SPEC = ModelSpec("net", (64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)


def rows_of(maps, images, imputer, steps, orders=2, gallery=None, only=slice(None)):
    """Rows of images whose embedding is the image; Q is the mean brightness."""
    names = [str(i) for i in range(len(images))]
    faces = SimpleNamespace(names=names, gallery=images if gallery is None else gallery)
    context = planted_context(
        maps, lambda x: x.mean((1, 2, 3)), model=torch.nn.Flatten(), faces=faces
    )
    protocol = Recognition(model=("m",), imputers=(imputer,), steps=steps, orders=orders)
    return protocol.rows(context, images[only], names[only])


def test_a_hand_computed_example():
    """(3, 0, 0, 4) against itself; the map puts the 4 first, then the 3."""
    image = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
    scores = torch.tensor([[[0.9, 0.1], [0.2, 1.0]]])
    row = with_errors(rows_of({"planted": scores}, image, "black", 4), 0.7)[0]
    # worst first: nothing is lost until the 3 goes, 4·4/(4·5) = .8 is left, then no length
    assert row["similarity"] == [[1, 1, 1, 0.8, 0], [1, 0.6, 0, 0, 0]]
    assert row["fnmr"] == [[0, 0, 0, 0, 1], [0, 1, 1, 1, 1]]
    assert row["fnmr_worst_first"] == pytest.approx(0.5 / 4)
    assert row["fnmr_best_first"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert row["fnmr_gain"] == pytest.approx(3 / 4)
    assert row["similarity_gain"] == pytest.approx((0.5 + 1 + 1 + 0.8 - 0.5 - 0.6) / 4)
    assert row["quality"] == [[1.75, 1.75, 1.75, 1, 0], [1.75, 0.75, 0, 0, 0]]
    assert row["quality_gain"] == pytest.approx((1.75 * 2 + 1 - 0.75) / 4)


def test_random_orders_are_the_mean_of_several_and_do_not_depend_on_the_batch():
    images = torch.rand(3, 3, 8, 8, generator=torch.manual_seed(0))
    rows = rows_of({}, images, "mean", 4, 3, images.flip(2))
    assert [row["method"] for row in rows] == [RANDOM_ORDERS.name] * 3
    curves = np.array(rows[0]["similarity"])
    assert curves.shape == (3, 2, 5)
    assert np.ptp(curves[:, 0, 2]) > 0  # three orders, not one three times
    assert with_errors(rows, 0.5)[0]["similarity"] == curves.mean(0).tolist()
    (alone,) = rows_of({}, images, "mean", 4, 3, images.flip(2), slice(1, 2))
    np.testing.assert_allclose(alone["similarity"], rows[1]["similarity"], atol=1e-5)


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_planted_best_inverted_worst_random_at_chance(imputer):
    torch.manual_seed(0)
    images = torch.full((6, 3, 12, 12), 20.0)
    images[:, :, 3:8, 4:9] = 220.0 * torch.rand(6, 3, 5, 5)
    planted = images.mean(1) + torch.rand(6, 12, 12)
    rows = rows_of({"planted": planted, "inverted": -planted}, images, imputer, 10, 10)
    rows = with_errors(rows, 0.99)
    for metric in ("similarity_gain", "fnmr_gain", "quality_gain"):
        best, worst, random = (
            np.array([row[metric] for row in rows if row["method"] == name])
            for name in ("planted", "inverted", RANDOM_ORDERS.name)
        )
        assert (best >= 0).all(), metric
        assert best.mean() > 0, metric
        np.testing.assert_allclose(worst, -best, atol=0.02 * 12)
        assert abs(random.mean()) < best.mean() / 3, metric


def test_the_threshold_is_of_different_people_only():
    people = torch.randn(40, 16, generator=torch.manual_seed(0))
    probes, gallery = (people + 0.1 * torch.randn(40, 16) for _ in "pg")
    threshold = clean_threshold(probes, gallery, 0.01)
    cosine = torch.cosine_similarity(probes[:, None].double(), gallery[None].double(), dim=2)
    others = cosine[~torch.eye(40, dtype=torch.bool)]
    assert 0.005 < (others >= threshold).double().mean() <= 0.01
    assert (cosine.diag() >= threshold).all()
    with pytest.raises(ValueError, match="at least 1000"):
        clean_threshold(probes[:5], gallery[:5], 1e-3)


def test_one_person_has_no_errors():
    row = {"similarity": [[[1, 0.5], [1, 0]]], "quality": [[1, 1], [1, 0]]}
    (found,) = with_errors([{**row, "method": "m"}], None)
    assert found["fnmr"] is found["fnmr_gain"] is None
    assert found["similarity_gain"] == pytest.approx(0.25)


def test_pairs_are_one_per_person_and_none_of_the_reference(tmp_path):
    faces, listed = write_pairs(tmp_path, 5, 64)
    (faces / "p4" / "2.png").write_bytes(b"no image")
    for seed in range(5):
        found = pair_sets(faces, listed, SPEC, 2, 2, seed)
        people = [name.split("/")[0] for name in found.names]
        assert people == [name.split("/")[0] for name in found.gallery_names]
        assert len({*people, *(name.split("/")[0] for name in found.reference_names)}) == 4
        assert not torch.equal(found.images, found.gallery)
    with pytest.raises(ValueError, match="fewer than the 4 asked for"):
        pair_sets(faces, listed, SPEC, 4, 2)


def test_the_gallery_is_in_the_digest():
    found = quick_pair_sets(SPEC, 2, 2)
    assert not found.several_people
    assert replace(found, gallery=found.gallery.flip(-1)).digest != found.digest
