"""Recognition along a curve and while pairs are discarded: by hand, and against plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch

from captum_plq import metrics as M
from tests.conftest import small_face_net
from tests.support.draws import normal, uniform


def accepted(scores, threshold):
    return int((scores >= threshold).sum())


@pytest.mark.parametrize(("fmr", "count"), [(1e-3, 1000), (0.07, 100), (0.29, 100), (1 / 3, 1024)])
def test_the_rate_is_kept_and_no_lower_threshold_keeps_it(fmr, count):
    """0.29 · 100 falls below 29 in floating point, 0.07 · 100 rises above 7."""
    for digits in (1, 8):  # with many ties, and without
        scores = normal(count).round(decimals=digits)
        found = M.threshold_at_fmr(scores, fmr)
        assert accepted(scores, found) / count <= fmr
        below = math.nextafter(found, -math.inf)
        assert accepted(scores, below) / count > fmr
        if digits == 8:
            assert accepted(scores, found) == max(k for k in range(count) if k / count <= fmr)


def test_fnmr_by_hand():
    """A score at the threshold is a match."""
    assert float(M.fnmr(torch.tensor([0.2, 0.5, 0.7]), 0.5)) == pytest.approx(1 / 3)
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.2, 0.1]])
    assert M.fnmr(scores, 0.4).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("way", ["deletion", "insertion"])
def test_curves_and_rates_are_those_of_plain_loops(images, way):
    net = small_face_net()
    probes, gallery = images / 255, net(images.flip(3) / 255).detach()
    maps = uniform(7, 20, 20)
    impute = M.blurred(2.0) if way == "insertion" else M.black
    curve = M.similarity_curve(
        net, probes, gallery, maps, way=way, order="lowest-first", impute=impute, steps=5, rows=9
    )
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
    rates = M.false_non_match_curve(curve, threshold)
    shares = [sum(row[k] < threshold for row in expected) / 7 for k in range(6)]
    assert rates.values.tolist() == pytest.approx(shares)
    assert torch.equal(rates.fractions, curve.fractions)
    areas = sum((a + b) / 2 / 5 for a, b in itertools.pairwise(shares))
    assert float(M.area_under_curve(rates)) == pytest.approx(areas)


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_discarding_by_hand():
    """Ten pairs; pair qualities 1 2 2 3 3 3 4 4 5 5; errors at qualities 1, 2, 3, 3 and 5."""
    first = t(1, 9, 2, 3, 7, 3, 4, 8, 5, 6)
    second = t(6, 2, 2, 8, 3, 3, 9, 4, 9, 5)
    scores = t(0.1, 0.2, 0.9, 0.3, 0.3, 0.5, 0.8, 0.9, 0.9, 0.0)
    curve = M.error_versus_discard(scores, first, second, 0.5)
    assert curve.discarded.tolist() == pytest.approx([0, 0.1, 0.3, 0.6, 0.8])
    assert curve.errors.tolist() == pytest.approx([5 / 10, 4 / 9, 3 / 7, 1 / 4, 1 / 2])
    assert curve.starting_error == 0.5 == float(M.fnmr(scores, 0.5))
    assert M.partial_area(curve, 0.1) == pytest.approx(0.1 * 0.5)
    assert M.partial_area(curve, 0.2) == pytest.approx(0.1 * 0.5 + 0.1 * 4 / 9)
    assert M.partial_area(curve, 0.3) == pytest.approx(0.1 * 0.5 + 0.2 * 4 / 9)
    assert M.partial_area(curve, 0.05) == pytest.approx(0.05 * 0.5)
    assert M.partial_area(curve, 1.0) == pytest.approx(
        0.1 * 0.5 + 0.2 * 4 / 9 + 0.3 * 3 / 7 + 0.2 / 4 + 0.2 / 2
    )
