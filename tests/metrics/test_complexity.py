import math

import pytest
import torch

from captum_plq.metrics import complexity, gini_index


def naive(values):
    """Gini as the mean absolute difference over twice the mean; entropy; plain loops."""
    sizes = [abs(v) for v in values]
    count, total = len(sizes), sum(sizes)
    gini = sum(abs(a - b) for a in sizes for b in sizes) / (2 * count * total)
    entropy = -sum(a / total * math.log(a / total) for a in sizes if a)
    return gini, entropy


@pytest.mark.parametrize(
    ("values", "gini", "entropy"),
    [
        ([1.0, -1.0, 1.0, -1.0], 0.0, math.log(4)),
        ([0.0, 0.0, -5.0, 0.0], 0.75, 0.0),
        ([0.0, 1.0, 0.0, 1.0], 0.5, math.log(2)),
        ([1.0, -3.0], 0.25, 0.25 * math.log(4) + 0.75 * math.log(4 / 3)),
    ],
)
def test_by_hand(values, gini, entropy):
    attributions = torch.tensor([values], dtype=torch.float64)
    assert float(gini_index(attributions)) == pytest.approx(gini)
    assert float(complexity(attributions)) == pytest.approx(entropy)
    assert naive(values) == pytest.approx((gini, entropy))


def test_against_plain_loops():
    generator = torch.Generator().manual_seed(0)
    attributions = torch.randn(4, 3, 5, 4, generator=generator, dtype=torch.float64) ** 3
    attributions[1, 0] = 0
    found = zip(gini_index(attributions), complexity(attributions), strict=True)
    for values, numbers in zip(attributions, found, strict=True):
        expected = naive(values.flatten().tolist())
        assert [float(x) for x in numbers] == pytest.approx(expected)


def test_neither_depends_on_scale_sign_or_place():
    attributions = torch.randn(
        3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    mixed = -1e-20 * attributions.flatten(1)[:, torch.randperm(64)]
    for measure in (gini_index, complexity):
        torch.testing.assert_close(measure(mixed), measure(attributions))


def test_half_precision_is_raised():
    attributions = torch.rand(1, 112, 112, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        gini_index(attributions.half()), gini_index(attributions), atol=1e-3, rtol=0
    )
    assert complexity(attributions.half()).dtype == torch.float32


@pytest.mark.parametrize("measure", [gini_index, complexity])
@pytest.mark.parametrize(
    ("attributions", "message"),
    [
        (torch.tensor([[0.0, 0.0], [0.0, 1.0]]), r"zero everywhere, but nos\. \[0\] are"),
        (torch.tensor([[torch.nan, 0.0]]), "finite"),
        (torch.tensor([[torch.inf, 0.0]]), "finite"),
        (torch.tensor([1.0, 2.0]), r"\(B, \.\.\.\), not empty"),
        (torch.ones(0, 3), "not empty"),
        (torch.ones(3, 0), "not empty"),
    ],
)
def test_bad_input_is_refused(measure, attributions, message):
    with pytest.raises(ValueError, match=message):
        measure(attributions)


@pytest.mark.parametrize("scale", [1e38, 1e-30])
def test_the_unit_changes_nothing_however_large(scale):
    """In float32 the sum of many large sizes is infinite, and shares of it would be 0."""
    sizes = torch.rand(2, 500, generator=torch.Generator().manual_seed(0))
    for measure in (gini_index, complexity):
        torch.testing.assert_close(measure(sizes * scale), measure(sizes))
