"""Recognition along a curve: threshold and rate by hand, curves against plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq.metrics import (
    area_under_curve,
    black,
    blurred,
    false_non_match_curve,
    fnmr,
    similarity_curve,
    threshold_at_fmr,
)
from tests.conftest import assert_untouched, small_face_net, snapshot


def accepted(scores, threshold):
    return int((scores >= threshold).sum())


@pytest.mark.parametrize(
    ("scores", "fmr", "matching", "refused"),
    [
        ([0.1, 0.2, 0.3, 0.4], 0.25, [0.4], 0.3),
        ([0.4, 0.1, 0.3, 0.2], 0.5, [0.4, 0.3], 0.2),
        ([0.1, 0.2, 0.3, 0.4], 0.49, [0.4], 0.3),  # half of 0.49·4 is no whole score
        ([0.1, 0.3, 0.3, 0.4], 0.5, [0.4], 0.3),  # the tie would make three of four
        ([0.1, 0.4, 0.4, 0.4], 0.5, [], 0.4),
        ([0.1, 0.3, 0.3, 0.4], 0.75, [0.4, 0.3, 0.3], 0.1),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threshold_by_hand(scores, fmr, matching, refused, dtype):
    scores = torch.tensor(scores, dtype=dtype)
    found = threshold_at_fmr(scores, fmr)
    assert sorted(scores[scores >= found].tolist()) == sorted(
        torch.tensor(matching, dtype=dtype).tolist()
    )
    highest_refused = scores[scores < found].max()
    assert highest_refused == torch.tensor(refused, dtype=dtype)
    # no lower threshold would do: the highest score refused is the next number below
    assert torch.nextafter(highest_refused, torch.tensor(torch.inf, dtype=dtype)) == found


@pytest.mark.parametrize("fmr", [1e-3, 0.07, 0.29, 0.57, 1 / 3])
@pytest.mark.parametrize("count", [1000, 1024, 3000])
def test_the_rate_is_kept_and_no_lower_threshold_keeps_it(fmr, count):
    """0.29 · 100 falls below 29 in floating point, 0.07 · 100 rises above 7."""
    for digits in (2, 8):
        generator = torch.Generator().manual_seed(count + digits)
        scores = torch.randn(count, generator=generator, dtype=torch.float64).round(decimals=digits)
        found = threshold_at_fmr(scores, fmr)
        assert accepted(scores, found) / count <= fmr
        below = math.nextafter(found, -math.inf)
        assert accepted(scores, below) / count > fmr
        if digits == 8:
            assert accepted(scores, found) == max(k for k in range(count) if k / count <= fmr)


@pytest.mark.parametrize(("fmr", "count"), [(0.29, 100), (0.07, 100), (0.1, 10), (1e-3, 1000)])
def test_exactly_the_share_allowed(fmr, count):
    assert accepted(torch.arange(float(count)), threshold_at_fmr(torch.arange(float(count)), fmr))
    scores = torch.arange(float(count))
    assert accepted(scores, threshold_at_fmr(scores, fmr)) == round(fmr * count)


def test_fnmr_by_hand():
    """A score at the threshold is a match."""
    assert float(fnmr(torch.tensor([0.2, 0.5, 0.7]), 0.5)) == pytest.approx(1 / 3)
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.2, 0.1]])
    assert fnmr(scores, 0.4).tolist() == [0.0, 0.5, 1.0]


class Brightness(nn.Module):
    """A pixel's grey value is its feature."""

    def forward(self, images):
        return images.mean(1).flatten(1)


def test_cosines_by_hand():
    probe = torch.tensor([[[[3.0, 4.0]]]])
    options = {"impute": black, "steps": 2}
    gallery, score_map = torch.tensor([[6.0, 8.0]]), torch.tensor([[[0.1, 0.2]]])
    for way, order, middle in (
        ("deletion", "highest-first", 0.6),  # what is left: 3, 0
        ("deletion", "lowest-first", 0.8),
        ("insertion", "highest-first", 0.8),
        ("insertion", "lowest-first", 0.6),
    ):
        curve = similarity_curve(
            Brightness(), probe, gallery, score_map, way=way, order=order, **options
        )
        values = [1.0, middle, 0.0] if way == "deletion" else [0.0, middle, 1.0]
        assert curve.values[0].tolist() == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize("way", ["deletion", "insertion"])
def test_curves_and_rates_are_those_of_plain_loops(images, way):
    net = small_face_net()
    probes, gallery = images / 255, net(images.flip(3) / 255).detach()
    maps = torch.rand(7, 20, 20, generator=torch.Generator().manual_seed(5))
    impute = blurred(2.0) if way == "insertion" else black
    before = snapshot(net)
    curve = similarity_curve(
        net, probes, gallery, maps, way=way, order="lowest-first", impute=impute, steps=5, rows=9
    )
    assert_untouched(before, net)
    blank = impute(probes, torch.ones(7, 20, 20, dtype=torch.bool))
    expected = np.empty((7, 6))
    for i in range(7):
        in_order = maps[i].flatten().argsort().tolist()
        for k in range(6):
            image = (probes if way == "deletion" else blank)[i].clone()
            other = (blank if way == "deletion" else probes)[i]
            for place in in_order[: 80 * k]:
                image[:, place // 20, place % 20] = other[:, place // 20, place % 20]
            a, b = net(image[None])[0].detach().numpy(), gallery[i].numpy()
            expected[i, k] = a @ b / np.sqrt((a @ a) * (b @ b))
    np.testing.assert_allclose(curve.values.numpy(), expected, rtol=1e-9)
    threshold = float(np.median(expected))
    rates = false_non_match_curve(curve, threshold)
    shares = [sum(row[k] < threshold for row in expected) / 7 for k in range(6)]
    assert rates.values.tolist() == pytest.approx(shares)
    assert torch.equal(rates.fractions, curve.fractions)
    areas = sum((a + b) / 2 / 5 for a, b in itertools.pairwise(shares))
    assert float(area_under_curve(rates)) == pytest.approx(areas)


def test_the_planted_map_is_best_inverted_worst_and_random_between():
    """Who someone is stands in a square of pixels; the rest is noise of its own in each image."""
    generator = torch.Generator().manual_seed(0)
    identities = torch.randn(200, 16, generator=generator)

    def pictures():
        images = 0.2 * torch.randn(200, 1, 12, 12, generator=generator)
        images[:, 0, 4:8, 4:8] += identities.view(-1, 4, 4)
        return images

    probes, gallery = pictures(), Brightness()(pictures())
    cosines = (
        torch.nn.functional.normalize(gallery)
        @ torch.nn.functional.normalize(Brightness()(probes)).T
    )
    threshold = threshold_at_fmr(cosines[~torch.eye(200, dtype=torch.bool)], 1e-3)
    assert fnmr(cosines.diagonal(), threshold) < 0.05
    chance = torch.rand(200, 12, 12, generator=generator)
    useful = torch.zeros(12, 12)
    useful[4:8, 4:8] = 1.0

    def area(maps, way):
        curve = similarity_curve(
            Brightness(),
            probes,
            gallery,
            maps,
            way=way,
            order="highest-first",
            impute=black,
            steps=36,
        )
        return float(area_under_curve(false_non_match_curve(curve, threshold)))

    true, inverted = useful + 1e-3 * chance, -useful + 1e-3 * chance
    deletion = [area(maps, "deletion") for maps in (true, chance, inverted)]
    insertion = [area(maps, "insertion") for maps in (true, chance, inverted)]
    assert deletion[0] > deletion[1] + 0.2 > deletion[2] + 0.4
    assert insertion[0] < insertion[1] - 0.2 < insertion[2] - 0.4
    assert deletion[0] > 0.9
    assert insertion[0] < 0.1


PROBES, GALLERY, MAPS = torch.rand(2, 3, 4, 4), torch.rand(2, 16), torch.rand(2, 4, 4)


def curve_of(embed=Brightness(), gallery=GALLERY, way="deletion", maps=MAPS):  # noqa: B008
    return similarity_curve(
        embed, PROBES, gallery, maps, way=way, order="lowest-first", impute=black, steps=4
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curve_of(way="removal"), "'deletion' or 'insertion'"),
        (lambda: curve_of(gallery=GALLERY[:1]), r"one embedding per probe.*\(1, 16\) for 2"),
        (lambda: curve_of(gallery=GALLERY[0]), r"\(B, d\)"),
        (lambda: curve_of(gallery=GALLERY[:, :8]), r"\(10, 8\).*as the gallery has.*\(10, 16\)"),
        (lambda: curve_of(maps=MAPS[:1]), r"\(1, 4, 4\)"),
        (lambda: threshold_at_fmr(torch.rand(999)), "at least 1000 impostor scores, but got 999"),
        (lambda: threshold_at_fmr(torch.rand(0), 0.5), "at least 2 impostor scores, but got 0"),
        (lambda: threshold_at_fmr(torch.rand(9), 1.0), "strictly between 0 and 1"),
        (lambda: threshold_at_fmr(torch.rand(3, 3), 0.5), r"\(n,\), but got \(3, 3\)"),
        (
            lambda: threshold_at_fmr(torch.tensor([1.0, torch.nan]), 0.5),
            "1 of [0-9]+ values are NaN",
        ),
        (lambda: fnmr(torch.rand(0), 0.5), "n ≥ 1"),
        (lambda: fnmr(torch.tensor([0.1, torch.nan]), 0.5), "NaN"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
