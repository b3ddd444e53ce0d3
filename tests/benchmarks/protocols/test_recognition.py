"""Recognition along planted maps, by hand; and pairs drawn from a list."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.protocols.curves import IMPUTERS
from benchmarks.protocols.recognition import (
    RANDOM_ORDERS,
    Recognition,
    clean_threshold,
    with_errors,
)
from benchmarks.subjects.face_sets import pair_sets, quick_pair_sets
from captum_plq.models import ModelSpec

pytest.importorskip("scipy", reason="needs the extra [benchmarks]")

SPEC = ModelSpec("net", (64, 64), mean=(0.0,) * 3, std=(1.0,) * 3)


class Pixels(torch.nn.Module):
    """The embedding is the image."""

    def forward(self, images):
        return images.flatten(1)


def context_of(maps, gallery):
    subject = SimpleNamespace(quality=lambda images: images.mean((1, 2, 3)), rows=7)
    faces = SimpleNamespace(names=tuple(gallery), gallery=list(gallery.values()))
    return SimpleNamespace(subject=subject, model=Pixels(), maps=lambda images: maps, faces=faces)


def protocol(imputer, steps, orders):
    return Recognition(model=("m",), imputers=(imputer,), steps=steps, orders=orders)


def by_method(rows):
    return {row["method"]: row for row in rows}


def test_a_hand_computed_example():
    """(3, 0, 0, 4) against itself; the map puts the 4 first, then the 3."""
    image = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
    scores = torch.tensor([[[0.9, 0.1], [0.2, 1.0]]])
    context = context_of({"planted": scores}, {"one": image[0]})
    rows = protocol("black", 4, 2).rows(context, image, ["one"])
    row = by_method(with_errors(rows, 0.7))["planted"]
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
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 8, 8, generator=generator)
    gallery = dict(zip("abc", images.flip(2), strict=True))
    recognition, context = protocol("mean", 4, 3), context_of({}, gallery)
    rows = recognition.rows(context, images, ["a", "b", "c"])
    assert [row["method"] for row in rows] == [RANDOM_ORDERS.name] * 3
    assert np.shape(rows[0]["similarity"]) == (3, 2, 5)
    curves = np.array(rows[0]["similarity"])
    assert np.ptp(curves[:, 0, 2]) > 0  # three orders, not one three times
    assert with_errors(rows, 0.5)[0]["similarity"] == curves.mean(0).tolist()
    (alone,) = recognition.rows(context, images[1:2], ["b"])
    np.testing.assert_allclose(alone["similarity"], rows[1]["similarity"], atol=1e-5)


@pytest.mark.parametrize("imputer", IMPUTERS)
def test_planted_best_inverted_worst_random_at_chance(imputer):
    generator = torch.Generator().manual_seed(0)
    images = torch.full((6, 3, 12, 12), 20.0)
    images[:, :, 3:8, 4:9] = 220.0 * torch.rand(6, 3, 5, 5, generator=generator)
    planted = images.mean(1) + torch.rand(6, 12, 12, generator=generator)
    maps = {"planted": planted, "inverted": -planted}
    names = [str(i) for i in range(6)]
    context = context_of(maps, dict(zip(names, images, strict=True)))
    rows = with_errors(protocol(imputer, 10, 10).rows(context, images, names), 0.99)
    for metric in ("similarity_gain", "fnmr_gain", "quality_gain"):
        gain = {
            name: np.array([row[metric] for row in rows if row["method"] == name])
            for name in (*maps, RANDOM_ORDERS.name)
        }
        assert (gain["planted"] >= 0).all(), metric
        assert gain["planted"].mean() > 0, metric
        np.testing.assert_allclose(gain["inverted"], -gain["planted"], atol=0.02 * 12)
        assert abs(gain[RANDOM_ORDERS.name].mean()) < gain["planted"].mean() / 3, metric


def test_the_threshold_is_of_different_people_only():
    generator = torch.Generator().manual_seed(0)
    people = torch.randn(40, 16, generator=generator)
    probes, gallery = (people + 0.1 * torch.randn(40, 16, generator=generator) for _ in "pg")
    threshold = clean_threshold(probes, gallery, 0.01)
    cosine = torch.nn.functional.cosine_similarity(
        probes[:, None].double(), gallery[None].double(), dim=2
    )
    others = cosine[~torch.eye(40, dtype=torch.bool)]
    assert 0.005 < (others >= threshold).double().mean() <= 0.01
    assert (cosine.diag() >= threshold).all()
    with pytest.raises(ValueError, match="at least 1000"):
        clean_threshold(probes[:5], gallery[:5], 1e-3)


def test_one_person_has_no_errors():
    row = {"similarity": [[[1, 0.5], [1, 0]]], "quality": [[1, 1], [1, 0]]}
    (found,) = with_errors([{**row, "method": "m"}], None)
    assert found["fnmr"] is None
    assert found["fnmr_gain"] is None
    assert found["similarity_gain"] == pytest.approx(0.25)


@pytest.fixture
def folder(tmp_path):
    """Five people with two images each, one of them broken; each pair listed twice."""
    generator = np.random.default_rng(0)
    lines = ["fold,first,second,mated"]
    for person in "abcde":
        (tmp_path / person).mkdir()
        for k in (1, 2):
            pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / person / f"{k}.png")
        lines += [f"{fold},{person}/1.png,{person}/2.png,1" for fold in (1, 2)]
    (tmp_path / "e" / "2.png").write_bytes(b"no image")
    lines.append("2,a/1.png,b/2.png,0")
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("\n".join(lines), encoding="utf-8")
    return tmp_path, pairs


def test_pairs_are_one_per_person_and_none_of_the_reference(folder):
    directory, pairs = folder
    for seed in range(5):
        found = pair_sets(directory, pairs, SPEC, 2, 2, seed)
        people = [name[0] for name in (*found.names, *found.reference_names)]
        assert len(set(people)) == 4
        assert [name[0] for name in found.names] == [name[0] for name in found.gallery_names]
        for name, image in (
            *zip(found.names, found.images, strict=True),
            *zip(found.gallery_names, found.gallery, strict=True),
        ):
            pixels = np.asarray(Image.open(directory / name).convert("RGB"))
            assert np.array_equal(image.permute(1, 2, 0).numpy(), pixels)
    with pytest.raises(ValueError, match="fewer than the 4 asked for"):
        pair_sets(directory, pairs, SPEC, 4, 2)


def test_the_gallery_is_in_the_digest():
    found = quick_pair_sets(SPEC, 2, 2)
    assert not found.several_people
    changed = found.gallery.clone()
    changed[0, 0, 0, 0] ^= 1

    assert dataclasses.replace(found, gallery=changed).digest != found.digest
