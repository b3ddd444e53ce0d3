"""Eqs. 5 to 8, clipping and γ, against the paper's printed formulas."""

import math
from decimal import Decimal, localcontext

import pytest
import torch

from captum_plq import functional as plq
from tests.functional.test_node import SmoothNet, node_gradient, pixels
from tests.support.draws import normal

HALF = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 7)])
def test_clipping_caps_the_norm_of_each_image(shape):
    g = normal(*shape) * torch.tensor([1e-3, 1.0, 10.0, 1e6]).view(-1, *[1] * (len(shape) - 1))
    got = plq.clip_gradient(g, 2.0)
    assert got.shape == g.shape
    for before, after in zip(g.flatten(1).tolist(), got.flatten(1).tolist(), strict=True):
        factor = min(1, 2 / math.hypot(*before))
        assert after == pytest.approx([v * factor for v in before], rel=1e-12)
    assert torch.equal(plq.clip_gradient(g, math.inf), g)
    assert torch.equal(plq.clip_gradient(torch.zeros_like(g), 1.0), torch.zeros_like(g))


@pytest.mark.parametrize(("dtype", "size"), [(HALF[0], 1e3), (HALF[1], 1e3), (torch.float32, 1e20)])
def test_clipping_a_norm_beyond_the_type(dtype, size):
    """A norm of 1e5 overflows float16, a square of 1e20 float32; the gradient keeps its type."""
    got = plq.clip_gradient((size * normal(2, 3, 64, 64)).to(dtype), 5.0)
    assert got.dtype == dtype
    assert got.double().flatten(1).norm(dim=1).tolist() == pytest.approx([5, 5], rel=1e-2)


def pixel_oracle(g, gamma):
    """Eq. 6 as printed, in 120 digits: in floats the difference from 1 would be lost."""
    with localcontext() as context:
        context.prec = 120
        return float(1 - 1 / (1 + Decimal(10) ** Decimal(gamma) * Decimal(g) ** 2))


def merged_oracle(g):
    """Eq. 5 for one image, g[c][i][j]."""
    columns = range(len(g[0][0]))
    return [[sum(abs(c[i][j]) for c in g) / len(g) for j in columns] for i in range(len(g[0]))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("gamma", [2.0, 7.5])
def test_map_is_eq5_then_eq6(gamma, channels):
    g = 1e-2 * normal(2, channels, 4, 5)
    merged, maps = plq.merge_channels(g), plq.quality_map(g, gamma)
    assert merged.shape == maps.shape == (2, 4, 5)
    for i, image in enumerate(g.tolist()):
        want = merged_oracle(image)
        for j, row in enumerate(want):
            assert merged[i, j].tolist() == pytest.approx(row, rel=1e-12)
            expected = [pixel_oracle(v, gamma) for v in row]
            assert maps[i, j].tolist() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(plq.quality_map(torch.cat([g[:1], 100 * g[1:]]), gamma)[0], maps[0])


def test_merging_by_hand():
    g = torch.tensor([1.0, -2.0, 6.0])
    assert plq.merge_channels(g.view(1, 1, 1, 3), dim=-1).tolist() == [[[3]]]
    small = torch.tensor([6e-8, 0.0, 0.0]).half().view(3, 1, 1)
    assert plq.merge_channels(small).item() == pytest.approx(float(small[0]) / 3, rel=1e-3)


@pytest.mark.parametrize("gamma", [-2.0, 0.0, 5.5, 7.5])
def test_pixel_quality_is_eq6(gamma):
    g = torch.logspace(-15, 4, 96, dtype=torch.float64).view(3, 32)
    got = plq.pixel_quality(g, gamma)
    assert got.shape == g.shape
    want = [pixel_oracle(v, gamma) for v in g.flatten().tolist()]
    assert got.flatten().tolist() == pytest.approx(want, rel=1e-12)
    for dtype in (torch.float32, *HALF):
        coarse = torch.cat([g.flatten(), torch.zeros(1)]).clamp_max(6e4).to(dtype)
        got = plq.pixel_quality(coarse, gamma)
        assert got.dtype == torch.float32
        want = [pixel_oracle(v, gamma) for v in coarse.tolist()]
        assert got.tolist() == pytest.approx(want, rel=3e-5)
    half = torch.tensor([10 ** (-gamma / 2)], dtype=torch.float64)
    assert plq.pixel_quality(half, gamma).item() == pytest.approx(0.5, rel=1e-12)


def test_pixel_quality_of_huge_and_of_no_gradients():
    """Squares of 1e38 are infinite in float32."""
    assert plq.pixel_quality(torch.tensor([1e15, 1e25, 1e38]), 0.0).tolist() == [1, 1, 1]
    assert plq.pixel_quality(torch.tensor([math.inf, math.nan]), 7.5).isnan().all()


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("gamma must be a finite number", lambda: plq.pixel_quality(torch.ones(3), math.nan)),
        ("gamma must be a finite number", lambda: plq.rescale_gamma(math.nan, 1.0)),
        ("positive", lambda: plq.clip_gradient(torch.ones(2, 3), math.nan)),
        ("positive", lambda: plq.clip_gradient(torch.ones(2, 3), 0.0)),
        ("median", lambda: plq.gamma_for_median(torch.tensor([0.0, 0.0, 1.0]))),
        ("median", lambda: plq.gamma_for_median(torch.tensor([math.nan] * 3))),
        ("median", lambda: plq.gamma_for_median(torch.tensor([1.0, math.inf, math.inf]))),
        *(
            ("pixel_scale", lambda scale=scale: plq.rescale_gamma(7.5, scale))
            for scale in (0.0, -1.0, math.inf, math.nan)
        ),
    ],
)
def test_what_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_gamma_for_median():
    merged = 1e-3 * normal(3, 5, 7).abs()
    median = sorted(merged.flatten().tolist())[3 * 5 * 7 // 2]
    assert plq.gamma_for_median(merged) == pytest.approx(-2 * math.log10(median), abs=1e-6)
    assert plq.gamma_for_median(torch.tensor([1e-4, 1e-3, 1e-2])) == 6.0


def test_rescaled_gamma_by_hand():
    assert plq.rescale_gamma(7.5, 1.0) == 7.5
    assert plq.rescale_gamma(7.5, 10.0) == pytest.approx(9.5)
    assert plq.rescale_gamma(7.5, 0.01) == pytest.approx(3.5)


@pytest.mark.parametrize(("scale", "shift"), [(1 / 255, 0.0), (1 / 128, -127.5 / 128)])
def test_rescaled_gamma_gives_the_same_map(scale, shift):
    """One network, fed 0–255 pixels x or x' = scale · x + shift."""
    net, x = SmoothNet(), 255 * pixels()
    bytes_gradient = node_gradient(lambda v: net(v / 255), x, "l1")
    gamma = plq.gamma_for_median(plq.merge_channels(bytes_gradient))
    want = plq.quality_map(bytes_gradient, gamma)
    rescaled = node_gradient(lambda v: net((v - shift) / scale / 255), scale * x + shift, "l1")
    got = plq.quality_map(rescaled, plq.rescale_gamma(gamma, scale))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)
    assert not torch.allclose(plq.quality_map(rescaled, gamma), want, atol=0.1)


@pytest.mark.parametrize("lead", [(), (2, 3)])
def test_changes_are_eqs_7_and_8(lead):
    original, disturbed = (normal(*lead, 5, 7, seed=s).sigmoid() for s in (1, 2))
    mask = normal(*lead, 5, 7, seed=3) > 0.3
    assert torch.equal(plq.quality_change(original, disturbed), original - disturbed)
    got = plq.pixel_quality_change(original, disturbed, mask)
    assert got.shape == lead
    images = zip(*(t.reshape(-1, 35).tolist() for t in (original, disturbed, mask)), strict=True)
    for found, (org, dis, area) in zip(got.flatten().tolist(), images, strict=True):
        losses = [p - q for p, q, inside in zip(org, dis, area, strict=True) if inside]
        assert found == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_change_of_an_empty_area_and_in_half_precision():
    original = torch.ones(2, 300, 300).half()
    mask = torch.ones(2, 300, 300, dtype=torch.bool)
    mask[0] = False
    got = plq.pixel_quality_change(original, 0.5 * original, mask)
    assert got[0].isnan()
    assert got[1].item() == pytest.approx(0.5, rel=1e-3)
