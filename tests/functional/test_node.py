"""Eqs. 3 and 4: the quality node's weights, and its gradient with respect to the pixels."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import functional as plq
from tests.support.draws import normal, uniform

WEIGHTS = ["l1", "sum", "signed", "l2"]


def weights_oracle(e, quality, weights):
    """The table of `plq.node_weights`, line by line; "l1" is Eq. 3 as printed."""
    l1 = sum(abs(v) for v in e)
    return {
        "l1": lambda: [quality / l1 for _ in e],
        "sum": lambda: [quality / sum(e) for _ in e],
        "signed": lambda: [quality * ((v > 0) - (v < 0)) / l1 for v in e],
        "l2": lambda: [quality * v / sum(u * u for u in e) for v in e],
    }[weights]()


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1, 1), (4, 2, 3)])
def test_weights_are_those_printed(shape, weights):
    e, q = normal(*shape), torch.tensor([0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    got = plq.node_weights(e, q, weights)
    assert got.shape == e.shape
    for row, quality, w in zip(e.flatten(1).tolist(), q.tolist(), got.flatten(1), strict=True):
        assert w.tolist() == pytest.approx(weights_oracle(row, quality, weights), rel=1e-12)
    scale, direction = plq.node_scale(e, q, weights), plq.node_direction(e, weights)
    torch.testing.assert_close(got, scale.view(-1, *[1] * (e.ndim - 1)) * direction)
    assert direction.unique().tolist() == pytest.approx(
        {"l1": [1], "sum": [1], "signed": [-1, 1], "l2": e.unique().tolist()}[weights]
    )
    output = (got * e).flatten(1).sum(1)
    assert torch.allclose(output, q) == (weights != "l1")  # Eq. 3's claim needs the signs
    positive = plq.node_weights(e.abs(), q, weights) * e.abs()
    torch.testing.assert_close(positive.flatten(1).sum(1), q)
    if weights == "l1":
        assert torch.equal(plq.node_weights(e, q), got)
        assert torch.equal(plq.node_scale(e, q), scale)


@pytest.mark.parametrize(("weights", "follows"), [(w, w == "l2") for w in WEIGHTS])
def test_only_l2_follows_a_change_of_basis(weights, follows):
    """With e' = Re the pixels' gradient stays the same if, and only if, w' = Rw."""
    e, q = normal(3, 6), torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
    rotation = torch.linalg.qr(normal(6, 6, seed=1))[0]
    turned = plq.node_weights(e @ rotation.T, q, weights)
    same = torch.allclose(turned, plq.node_weights(e, q, weights) @ rotation.T, rtol=1e-9)
    assert same == follows


@pytest.mark.parametrize("weights", WEIGHTS)
def test_weights_of_an_all_zero_embedding_and_of_half_precision(weights):
    e = torch.zeros(2, 4, 1, 1)
    e[1] = 1.0
    w = plq.node_weights(e, torch.tensor([0.5, 0.8]), weights)
    assert w[0].isnan().all()
    assert w[1].flatten().tolist() == pytest.approx([0.2] * 4)
    e, q = (20 * normal(2, 512).abs() + 5).half(), torch.tensor([0.5, 0.9])
    got = plq.node_weights(e, q, weights)  # the sum of squares overflows float16
    assert got.dtype == torch.float32
    for row, quality, w in zip(e.tolist(), q.tolist(), got, strict=True):
        assert w.tolist() == pytest.approx(weights_oracle(row, quality, weights), rel=1e-5)


def test_unknown_weights():
    e, q = torch.ones(1, 2), torch.ones(1)
    for call in (lambda w: plq.node_direction(e, w), lambda w: plq.node_scale(e, q, w)):
        with pytest.raises(ValueError, match="'L1'"):
            call("L1")


class SmoothNet(nn.Module):
    """(B, 3, 6, 6), about 0–1, to (B, 5); without kinks, so that differences are exact."""

    def __init__(self):
        super().__init__()
        self.first, self.last = normal(20, 108) / 4, normal(5, 20, seed=1) / 2

    def forward(self, x):
        return (x.flatten(1) @ self.first.T).tanh() @ self.last.T


def pixels(count=3):
    return uniform(count, 3, 6, 6, seed=5)


def node_gradient(net, x, weights):
    x = x.clone().requires_grad_()
    e = net(x)
    q = torch.linspace(0.3, 0.8, len(x), dtype=x.dtype)
    return plq.saliency((plq.node_weights(e.detach(), q, weights) * e).sum(1), x)


def test_saliency_is_the_derivative_and_leaves_grad_alone():
    net, x = SmoothNet(), pixels(2).requires_grad_()
    x.grad = torch.full_like(x, 7.0)
    w = normal(2, 5, seed=9)
    got = plq.saliency((w * net(x)).sum(1), x)
    assert (x.grad == 7).all()
    assert not got.requires_grad
    with torch.no_grad():
        for index in itertools.product(range(2), range(3), range(0, 6, 2), range(1, 6, 2)):
            up, down = x.clone(), x.clone()
            up[index] += 1e-5
            down[index] -= 1e-5
            i = index[0]
            rise = (w * net(up)).sum(1)[i] - (w * net(down)).sum(1)[i]
            assert got[index].item() == pytest.approx(rise.item() / 2e-5, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("other", "alike"), [("sum", True), ("signed", False), ("l2", False)])
def test_l1_ranks_pixels_as_sum_does_and_unlike_signed_and_l2(other, alike):
    net, x = SmoothNet(), pixels()
    order = plq.merge_channels(node_gradient(net, x, "l1")).flatten(1).argsort(1)
    ranked = plq.merge_channels(node_gradient(net, x, other)).flatten(1).gather(1, order)
    assert (ranked.diff(dim=1) >= -1e-12 * ranked.max()).all() == alike


def test_l2_vanishes_on_normalised_embeddings():
    net = SmoothNet()
    raw = node_gradient(net, pixels(), "l2").abs().max()
    on_sphere = node_gradient(lambda x: F.normalize(net(x)), pixels(), "l2").abs().max()
    assert on_sphere < 1e-12 < 1e-3 < raw
