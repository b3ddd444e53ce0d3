"""Quality relative to high-quality faces, against loops over pixels written from the definition."""

import itertools
import math
import statistics

import pytest
import torch

from captum_plq.functional.relative import (
    GradientReference,
    gradient_reference,
    gradient_zscore,
    relative_pixel_quality,
)
from tests.support.draws import normal


def gradients(n=6, height=5, width=7, seed=0):
    """Merged gradients whose size depends on the place and on the face, float64."""
    place, face = normal(height, width, seed=seed), normal(n, 1, 1, seed=seed + 1)
    return (3 * place + face / 2 + normal(n, height, width, seed=seed + 2) / 2 - 14).exp()


def deviation_oracle(value, mean, spread):
    if math.isnan(mean):
        return None
    return max(-20.0, min(20.0, (math.log(value) - mean) / spread)) if value else -20.0


def around(values, row, column, side):
    """What lies in the box around a place, and in the image."""
    half = side // 2
    rows = values[max(row - half, 0) : row + half + 1]
    return [v for line in rows for v in line[max(column - half, 0) : column + half + 1]]


def oracle(g, reference, side):
    """z-scores, each the mean over the places of its box that have a reference."""
    columns = zip(g.tolist(), reference.mean.tolist(), reference.spread.tolist(), strict=True)
    z = [[deviation_oracle(*place) for place in zip(*rows, strict=True)] for rows in columns]
    known = lambda i, j: [v for v in around(z, i, j, side) if v is not None]  # noqa: E731
    return [
        [0.0 if v is None else statistics.mean(known(i, j)) for j, v in enumerate(line)]
        for i, line in enumerate(z)
    ]


@pytest.mark.parametrize("pool_size", [1, 5, 9])
def test_reference_is_that_of_a_loop(pool_size):
    g = gradients()
    reference = gradient_reference(g.log(), pool_size)
    for i, j in itertools.product(range(5), range(7)):
        values = [math.log(v) for v in g[:, i, j].tolist()]
        assert float(reference.mean[i, j]) == pytest.approx(statistics.mean(values), rel=1e-6)
        assert float(reference.spread[i, j]) == pytest.approx(statistics.stdev(values), rel=1e-5)
    pooled = [z for face in g for row in oracle(face, reference, pool_size) for z in row]
    expected = math.sqrt(sum(z * z for z in pooled) / len(pooled))
    assert reference.pooled_spread == pytest.approx(expected, rel=1e-5)
    assert reference.pool_size == pool_size


def test_places_without_gradient_have_no_reference():
    """Always zero, zero for most, zero for half, zero for one of six."""
    g = gradients()
    g[:, 4] = 0
    g[:4, 0, 0] = 0
    g[:3, 0, 1] = 0
    g[0, 0, 2] = 0
    reference = gradient_reference(g.log())
    unknown = reference.mean.isnan()
    assert torch.equal(unknown, reference.spread.isnan())
    assert unknown[4].all()
    assert unknown[:4].nonzero().tolist() == [[0, 0]]
    assert float(reference.mean[0, 2]) == pytest.approx(float(g[1:, 0, 2].log().mean()))
    assert math.isfinite(reference.pooled_spread)


LOGS = gradients().log()


@pytest.mark.parametrize(
    ("reason", "call"),
    [
        ("at least two", lambda: gradient_reference(LOGS[:1])),
        ("no spread", lambda: gradient_reference(LOGS[:1].expand(2, -1, -1))),
        ("no spread", lambda: gradient_reference(torch.full((3, 4, 4), -math.inf))),
        ("NaN or infinite", lambda: gradient_reference(torch.full((3, 4, 4), math.inf))),
        ("NaN or infinite", lambda: gradient_reference(torch.full((3, 4, 4), math.nan))),
        (
            r"size \(5, 7\), but these gradients are of size \(7, 5\)",
            lambda: gradient_zscore(torch.ones(1, 7, 5), gradient_reference(LOGS)),
        ),
        *(
            (
                f"{name} must be an odd",
                lambda given={name: box}: gradient_reference(LOGS, **given),
            )
            for name in ("pool_size", "blur_size")
            for box in (0, 2, -1, 3.0, True)
        ),
    ],
)
def test_what_is_refused(reason, call):
    with pytest.raises(ValueError, match=reason):
        call()


def smoothed_oracle(g, side):
    means = [
        [[statistics.mean(around(face, i, j, side)) for j in range(7)] for i in range(5)]
        for face in g.tolist()
    ]
    return torch.tensor(means, dtype=torch.float64)


@pytest.mark.parametrize(("pool_size", "side"), [(1, 3), (3, 5)])
def test_smoothing_first_is_the_same_of_smooth_gradients(pool_size, side):
    g, other = gradients(), gradients(2, seed=3)
    other[0, 2, 2] = 0
    reference = gradient_reference(g.log(), pool_size, side)
    plain = gradient_reference(smoothed_oracle(g, side).log(), pool_size)
    assert reference.blur_size == side
    torch.testing.assert_close(reference.mean, plain.mean)
    torch.testing.assert_close(reference.spread, plain.spread)
    assert reference.pooled_spread == pytest.approx(plain.pooled_spread, rel=1e-5)
    torch.testing.assert_close(
        relative_pixel_quality(other, reference),
        relative_pixel_quality(smoothed_oracle(other, side), plain),
        rtol=1e-5,
        atol=1e-6,
    )
    assert (relative_pixel_quality(other, reference) > 0).all(), "a zero has neighbours"


@pytest.mark.parametrize("pool_size", [1, 5, 9])
def test_zscore_is_that_of_a_loop(pool_size):
    g = gradients(seed=0)
    g[:, :, 6] = 0
    reference = gradient_reference(g.log(), pool_size)
    other = gradients(2, seed=3)
    other[0, 2, 2] = 0
    got = gradient_zscore(other, reference)
    for k in range(2):
        expected = torch.tensor(oracle(other[k], reference, pool_size), dtype=torch.float64)
        torch.testing.assert_close(got[k], expected, rtol=1e-6, atol=1e-6)
    unpooled = torch.tensor(oracle(other[1], reference, 1), dtype=torch.float64)
    torch.testing.assert_close(
        gradient_zscore(other, reference, pooled=False)[1], unpooled, rtol=1e-6, atol=1e-6
    )


def test_quality_by_hand():
    """One spread below is σ(-1.702) = 0.154; pooled over three, t = ½: σ(-1.702 · 2/3)."""
    ones = torch.ones(1, 3)
    reference = GradientReference(0 * ones, 2 * ones, 3, 0.5)
    g = torch.tensor([[math.exp(-2), 1.0, 1.0]])
    sharp = relative_pixel_quality(g, reference, pooled=False)
    assert sharp.tolist() == [pytest.approx([1 / (1 + math.exp(1.702)), 0.5, 0.5], abs=1e-6)]
    pooled = relative_pixel_quality(g, reference)
    expected = [1 / (1 + math.exp(1.702 * 2 * z)) for z in (1 / 2, 1 / 3, 0)]
    assert pooled.tolist() == [pytest.approx(expected, abs=1e-6)]


def test_reads_as_the_share_of_faces_with_less():
    """On new faces of the same kind, p is below p₀ in about p₀ of the cases, pooled or not."""
    generator = torch.Generator().manual_seed(1)
    logs = torch.randn(800, 40, 40, generator=generator)
    reference = gradient_reference(logs[:400])
    for pooled in (True, False):
        p = relative_pixel_quality(logs[400:].exp(), reference, pooled=pooled)
        for level in (0.05, 0.25, 0.5, 0.75, 0.95):
            # the logistic stays within 0.01 of the normal; boxes cut off at the edges scatter more
            assert float((p < level).float().mean()) == pytest.approx(level, abs=0.015)


def test_zero_gradients_are_the_worst_and_stay_finite():
    g = gradients()
    g[:, 3:] = 0
    reference = gradient_reference(g.log())
    quality = relative_pixel_quality(torch.zeros(1, 5, 7, dtype=torch.float64), reference)
    assert (quality[:, :3] < 1e-10).all()
    assert (quality[:, 3:] == 0.5).all()
    hole = g[:1].clone()
    hole[0, 1, 1] = 0
    quality = relative_pixel_quality(hole, reference)
    assert quality.isfinite().all()
    assert quality[0, 1, 1] < 0.5
    assert relative_pixel_quality(hole, reference, pooled=False)[0, 1, 1] < 1e-10


def test_a_place_without_spread_gives_no_infinity():
    reference = GradientReference(torch.zeros(1, 3), torch.tensor([[0.0, 1.0, 1.0]]), 1, 1.0)
    quality = relative_pixel_quality(
        torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0]])[:, None], reference
    )
    assert quality[:, 0, 0].tolist() == [0.5, pytest.approx(1.0)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_precision_and_leading_dimensions(dtype):
    reference = gradient_reference(gradients().log() + 12)
    g = (gradients(4, seed=3) * math.exp(12)).to(dtype)
    quality = relative_pixel_quality(g, reference)
    assert quality.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = relative_pixel_quality(g.double(), reference)
    torch.testing.assert_close(quality.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(relative_pixel_quality(g[0], reference), quality[0])
    several = relative_pixel_quality(g.view(2, 2, 5, 7), reference)
    torch.testing.assert_close(several.view(4, 5, 7), quality)
