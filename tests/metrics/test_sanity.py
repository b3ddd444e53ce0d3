"""Randomisation checks: what ignores the weights must fail them, a gradient must pass."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from captum_plq import metrics as M
from tests.support.draws import normal, uniform

SIDE = 16


def deep_net(seed=0):
    """Learned to look at one place: behind six convolutions, only the middle reaches the output."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = []
        for channels in (3, *[8] * 5):
            layers += [nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
        net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * SIDE**2, 4)).double()
        with torch.no_grad():
            middle = torch.zeros(8, SIDE, SIDE)
            middle[:, 7:9, 7:9] = 1
            net[-1].weight.mul_(middle.flatten())
            net.train()(noise_images(64, 9))
    return net.eval()


def noise_images(count=6, seed=0):
    return uniform(count, 3, SIDE, SIDE, seed=seed)


def signed_gradients(network, images):
    x = images.detach().requires_grad_()
    return torch.autograd.grad(network(x).sum(), x)[0][:, 0]


def gradients(network, images):
    return signed_gradients(network, images).abs()


def edges(network, images):
    across = images.diff(dim=3, append=images[..., -1:]).abs()
    return (across + images.diff(dim=2, append=images[..., -1:, :]).abs()).sum(1)


@pytest.mark.parametrize(("similarity", "order"), [("spearman", "bottom-up"), ("ssim", "top-down")])
def test_edges_fail_and_gradients_pass(similarity, order):
    net, images = deep_net(), noise_images()
    given = {"samples": 4, "order": order, "similarity": similarity}
    failed = M.smooth_mprt(net, images, edges, **given)
    passed = M.smooth_mprt(net, images, signed_gradients, **given)
    assert failed.layers == passed.layers
    assert len(failed.layers) == 13
    assert failed.similarity.shape == passed.similarity.shape == (13, 6)
    torch.testing.assert_close(failed.similarity, torch.ones(13, 6, dtype=torch.float64))
    assert float(passed.similarity[-1].abs().max()) < 0.3


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_smooth_mprt_by_definition(noise):
    net, images = deep_net(), noise_images(2) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1)
    samples, seed = 3, 4
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randn(images.shape[1:], generator=generator) for _ in range(samples)]

    def smooth(network, image):
        spread = float(image.max() - image.min())
        total = torch.zeros(SIDE, SIDE, dtype=torch.float64)
        for draw in draws:
            total += gradients(network, (image + noise * spread * draw)[None])[0]
        return total / samples

    curve = M.smooth_mprt(net, images, gradients, samples=samples, noise=noise, seed=seed)
    for row, (layer, altered) in enumerate(M.randomised(net, seed, images=images)):
        assert curve.layers[row] == layer
        for i, image in enumerate(images):
            expected = M.spearman(smooth(net, image)[None], smooth(altered, image)[None])
            assert float(curve.similarity[row, i]) == pytest.approx(float(expected), abs=1e-9)


def test_stages_and_ssim_reach_the_curve():
    net, images = deep_net(), noise_images(2)
    given = {"samples": 1, "noise": 0.0, "similarity": "ssim", "stages": 2}
    curve = M.smooth_mprt(net, images, gradients, **given)
    assert len(curve.layers) == 2
    null = M.with_random_weights(net, images=images)
    expected = M.structural_similarity(gradients(net, images), gradients(null, images))
    torch.testing.assert_close(curve.similarity[-1], expected)


def test_entropy_is_scipys_of_numpys_histogram():
    maps = normal(3, 40, 30)
    for found, values in zip(M.histogram_entropy(maps, 17), maps.numpy(), strict=True):
        assert float(found) == pytest.approx(stats.entropy(np.histogram(values, 17)[0]))
    torch.testing.assert_close(M.histogram_entropy(maps * 1e-9), M.histogram_entropy(maps))
    assert M.histogram_entropy(torch.full((1, 2, 2), 7.0)).tolist() == [0]


def test_efficient_mprt_by_definition_with_calibration_images_or_the_images_themselves():
    net, images, others = deep_net(), noise_images(2), 5 * noise_images(8, seed=3)
    for given, calibration, statistics in (
        (images, None, images),
        (images, others, others),
        (images[:1], None, None),  # one image has no statistics
    ):
        null = M.with_random_weights(net, 2, images=statistics)
        before, after = (M.histogram_entropy(gradients(n, given), 50) for n in (net, null))
        found = M.efficient_mprt(net, given, gradients, bins=50, seed=2, calibration=calibration)
        torch.testing.assert_close(found, after / before - 1)
    assert M.efficient_mprt(net, images, lambda _, x: torch.ones(len(x), 4, 4)).isnan().all()
