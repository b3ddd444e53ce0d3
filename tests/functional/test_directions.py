"""Gradients along random directions, against the Jacobian they estimate."""

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional.directions import root_mean_square, sign_directions


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.PReLU(), nn.Flatten(), nn.Linear(6 * 25, 10)
        ).double()


@pytest.fixture
def images():
    return torch.rand(3, 3, 11, 11, generator=torch.Generator().manual_seed(1)).double()


def along(contributions, x, signs):
    for sign in signs:
        yield torch.autograd.grad(contributions, [x], sign.expand_as(contributions).to(x), True)


def jacobian_lengths(net, images, quality):
    """(B, C, H, W): Q/‖e‖₁ · ‖∂e/∂x‖₂ pixel by pixel, of the whole Jacobian, unit embedding."""
    found = []
    for image, q in zip(images, quality, strict=True):

        def unit(x):
            e = net(x[None])[0]
            return e / e.norm()

        jacobian = torch.autograd.functional.jacobian(unit, image)  # (d, C, H, W)
        length = jacobian.square().sum(0).sqrt()
        found.append(length * q / unit(image).abs().sum())
    return torch.stack(found).detach()


def test_a_hand_computed_example():
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    contributions = torch.stack([3 * x[:, 0], 4 * x[:, 0] - x[:, 1]], 1)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    (found,) = root_mean_square(along(contributions, x, signs))
    # gradients (7, -1) and (-1, 1): √((49 + 1)/2) = 5 = √(3² + 4²), and 1
    torch.testing.assert_close(found, torch.tensor([[5.0, 1.0]]))


def test_directions_are_signs_of_their_own_seed():
    some, more = sign_directions(3, (8,), 5), sign_directions(7, (8,), 5)
    assert set(more.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(more[:3], some)
    assert not torch.equal(sign_directions(3, (8,), 6), some)


def test_many_directions_give_the_length_of_the_jacobian(net, images):
    plq = PixelQualityAttribution(net, directions=4000)
    attributions, quality = plq.attribute(images, return_quality=True)
    assert attributions.min() >= 0
    expected = jacobian_lengths(net, images, quality)
    error = (attributions - expected).abs() / expected
    assert error.median() < 0.02
    assert error.max() < 0.1


def test_all_signs_at_once_give_it_exactly(net, images):
    """Over a complete orthogonal set of directions the mean of squares is exact."""
    signs = torch.ones(1, 1)
    for _ in range(4):  # Hadamard's matrix of 16 rows
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    x = images.clone().requires_grad_()
    e = net(x)
    (found,) = root_mean_square(along(e, x, signs[:, :10]))
    jacobian = torch.stack([torch.autograd.grad(net(x)[:, j].sum(), x)[0] for j in range(10)])
    torch.testing.assert_close(found, jacobian.square().sum(0).sqrt())


def test_the_papers_direction_alone_is_the_papers_map(net, images, monkeypatch):
    monkeypatch.setattr(
        "captum_plq.attribution.quality_gradient.sign_directions",
        lambda count, shape, seed: torch.ones(1, *shape),
    )
    found = PixelQualityAttribution(net, directions=1).attribute(images)
    torch.testing.assert_close(found, PixelQualityAttribution(net).attribute(images).abs())


def test_it_costs_one_forward_depends_on_no_batch_and_leaves_nothing_behind(net, images):
    plq = PixelQualityAttribution(net, directions=3)
    plq.attribute(images[:1])
    forwards, backwards, state = [], [], torch.random.get_rng_state()
    handles = [
        net[0].register_forward_hook(lambda *_: forwards.append(1)),
        net[0].register_full_backward_hook(lambda *_: backwards.append(1)),
    ]
    together, quality = plq.attribute(images, return_quality=True)
    for handle in handles:
        handle.remove()
    assert (len(forwards), len(backwards)) == (1, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in net.parameters())
    for image, expected, q in zip(images, together, quality, strict=True):
        alone, own = plq.attribute(image[None], return_quality=True)
        torch.testing.assert_close(alone[0], expected)
        torch.testing.assert_close(own[0], q)
    assert torch.equal(quality, SERFIQ(net)(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_other_number_types(net, images, dtype):
    exact = PixelQualityAttribution(net, directions=4).attribute(images)
    plq = PixelQualityAttribution(net.to(dtype), directions=4)
    found = plq.attribute(images.to(dtype))
    assert found.dtype == dtype
    similarity = torch.cosine_similarity(found.double().flatten(), exact.flatten(), dim=0)
    assert similarity > (0.99 if dtype == torch.bfloat16 else 0.99999)


def test_a_tuple_of_inputs_clipping_and_further_arguments():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 5)

        def forward(self, a, b, factor):
            return self.fc(torch.cat([a.flatten(1), b.flatten(1)], 1) * factor)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TwoInputs()
        a, b = torch.rand(2, 3, 2, 1), torch.rand(2, 3, 2, 1)
    plq = PixelQualityAttribution(model, directions=8)
    first, second = plq.attribute((a, b), additional_forward_args=2.0)
    assert first.shape == a.shape
    assert second.shape == b.shape
    clipped = plq.attribute((a, b), additional_forward_args=2.0, max_gradient_norm=1e-6)
    assert clipped[0].flatten(1).norm(dim=1).max() <= 1.01e-6


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (TypeError, "whole number", {"directions": 2.0}),
        (TypeError, "whole number", {"directions": True}),
        (ValueError, "at least 1", {"directions": 0}),
        (ValueError, "target_scalar='node'", {"directions": 2, "target_scalar": "serfiq"}),
    ],
)
def test_bad_directions(net, images, error, message, options):
    with pytest.raises(error, match=message):
        PixelQualityAttribution(net, **options)
    with pytest.raises(ValueError, match="one of the two"):
        PixelQualityAttribution(net, directions=2).attribute(images, target=1)
