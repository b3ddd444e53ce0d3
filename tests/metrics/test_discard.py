"""Error versus discard: by hand, against plain loops, and with planted qualities."""

import numpy as np
import pytest
import torch

from captum_plq.metrics import error_versus_discard, fnmr, partial_area


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_by_hand():
    """Ten pairs; pair qualities 1 2 2 3 3 3 4 4 5 5; errors at qualities 1, 2, 3, 3 and 5."""
    first = t(1, 9, 2, 3, 7, 3, 4, 8, 5, 6)
    second = t(6, 2, 2, 8, 3, 3, 9, 4, 9, 5)
    scores = t(0.1, 0.2, 0.9, 0.3, 0.3, 0.5, 0.8, 0.9, 0.9, 0.0)
    curve = error_versus_discard(scores, first, second, 0.5)
    assert curve.discarded.tolist() == pytest.approx([0, 0.1, 0.3, 0.6, 0.8])
    assert curve.errors.tolist() == pytest.approx([5 / 10, 4 / 9, 3 / 7, 1 / 4, 1 / 2])
    assert curve.starting_error == 0.5 == float(fnmr(scores, 0.5))
    assert partial_area(curve, 0.1) == pytest.approx(0.1 * 0.5)
    assert partial_area(curve, 0.2) == pytest.approx(0.1 * 0.5 + 0.1 * 4 / 9)
    assert partial_area(curve, 0.3) == pytest.approx(0.1 * 0.5 + 0.2 * 4 / 9)
    assert partial_area(curve, 0.05) == pytest.approx(0.05 * 0.5)
    assert partial_area(curve, 1.0) == pytest.approx(
        0.1 * 0.5 + 0.2 * 4 / 9 + 0.3 * 3 / 7 + 0.2 / 4 + 0.2 / 2
    )


def naive(scores, first, second, threshold, limit):
    """For each number of pairs one may discard: drop whole groups of equal quality that fit."""
    pairs = [
        (min(a, b), s < threshold)
        for s, a, b in zip(scores.tolist(), first.tolist(), second.tolist(), strict=True)
    ]
    area, points, count = 0.0, 1000, len(pairs)
    for point in range(points):  # the middle of each small interval
        may_go = (point + 0.5) / points * limit * count
        left = pairs
        while True:
            worst = min(q for q, _ in left)
            fewer = [p for p in left if p[0] > worst]
            if not fewer or count - len(fewer) > may_go:
                break
            left = fewer
        area += sum(wrong for _, wrong in left) / len(left) * limit / points
    return area


@pytest.mark.parametrize("limit", [0.2, 0.3, 1.0])
@pytest.mark.parametrize("levels", [3, 20])
def test_areas_are_those_of_plain_loops(limit, levels):
    generator = torch.Generator().manual_seed(levels)
    scores = torch.rand(50, generator=generator)
    first, second = torch.randint(levels, (2, 50), generator=generator)
    curve = error_versus_discard(scores, first, second, 0.4)
    found = partial_area(curve, limit)
    assert found == pytest.approx(naive(scores, first, second, 0.4, limit), abs=2e-3)
    assert len(curve.discarded) == len(torch.minimum(first, second).unique())


def test_the_order_of_pairs_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(60, generator=generator)
    first, second = torch.randint(6, (2, 60), generator=generator)
    curve = error_versus_discard(scores, first, second, 0.5)
    for _ in range(3):
        i = torch.randperm(60, generator=generator)
        again = error_versus_discard(scores[i], second[i], first[i], 0.5)
        assert torch.equal(again.discarded, curve.discarded)
        assert torch.equal(again.errors, curve.errors)


def test_planted_qualities_are_best_inverted_worst_random_and_constant_at_the_start():
    scores = torch.linspace(0, 1, 400, dtype=torch.float64)  # 10 % are below 0.1
    threshold, limit, start = float(scores[40]), 0.3, 0.1
    good = torch.full_like(scores, 2.0)

    def area(quality):
        return partial_area(error_versus_discard(scores, quality, good, threshold), limit)

    best, worst = area(scores), area(-scores)
    discarded = np.arange(120) / 400
    assert best == pytest.approx(np.maximum(0, (start - discarded) / (1 - discarded)).sum() / 400)
    assert worst == pytest.approx((start / (1 - discarded)).sum() / 400)
    assert area(torch.ones_like(scores)) == pytest.approx(limit * start)
    generator = torch.Generator().manual_seed(0)
    chances = [area(torch.rand(400, generator=generator, dtype=torch.float64)) for _ in range(200)]
    assert np.mean(chances) == pytest.approx(limit * start, rel=0.02)
    assert best < min(chances) < max(chances) < worst


CURVE = error_versus_discard(t(0.1, 0.9), t(1, 2), t(1, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: error_versus_discard(t(1, 2), t(1), t(1, 2), 0.5), r"\(2,\), \(1,\), \(2,\)"),
        (lambda: error_versus_discard(t(), t(), t(), 0.5), "n ≥ 1"),
        (lambda: error_versus_discard(torch.ones(2, 2), t(1), t(1), 0.5), r"\(2, 2\)"),
        (lambda: error_versus_discard(t(1.0), t(torch.nan), t(1.0), 0.5), "NaN"),
        (lambda: error_versus_discard(t(torch.nan), t(1.0), t(1.0), 0.5), "NaN"),
        (lambda: partial_area(CURVE, 0.0), "above 0 and at most 1"),
        (lambda: partial_area(CURVE, 1.1), "above 0 and at most 1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
