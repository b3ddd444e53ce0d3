"""Gradients along random directions, against the Jacobian they estimate."""

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional.directions import root_mean_square
from tests.support.draws import uniform


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, 2), nn.PReLU(), nn.Flatten(), nn.Linear(6 * 25, 10)
        ).double()


@pytest.fixture
def images():
    return uniform(3, 3, 11, 11)


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
    along = (torch.autograd.grad(e, [x], s.expand_as(e).to(x), True) for s in signs[:, :10])
    (found,) = root_mean_square(along)
    jacobian = torch.stack([torch.autograd.grad(net(x)[:, j].sum(), x)[0] for j in range(10)])
    torch.testing.assert_close(found, jacobian.square().sum(0).sqrt())


def test_the_quality_is_that_without_directions_and_a_seed_decides_them(net, images):
    plq = PixelQualityAttribution(net, directions=3)
    found, quality = plq.attribute(images, return_quality=True)
    assert torch.equal(quality, SERFIQ(net)(images))
    other = PixelQualityAttribution(SERFIQ(net, seed=1), directions=3).attribute(images)
    assert not torch.allclose(other / other.sum(), found / found.sum(), rtol=0.01)


def test_a_tuple_of_inputs_clipping_and_further_arguments():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 5).double()

        def forward(self, a, b, factor):
            return self.fc(torch.cat([a.flatten(1), b.flatten(1)], 1) * factor)

    inputs = uniform(2, 3, 2, 1), uniform(2, 3, 2, 1, seed=1)
    plq = PixelQualityAttribution(TwoInputs(), directions=8)
    found = plq.attribute(inputs, additional_forward_args=2.0)
    assert [x.shape for x in found] == [x.shape for x in inputs]
    clipped = plq.attribute(inputs, additional_forward_args=2.0, max_gradient_norm=1e-6)
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
