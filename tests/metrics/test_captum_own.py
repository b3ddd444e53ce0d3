"""Captum's metrics against loops from their formulas; neither batch nor memory matters."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor

from captum_plq import PixelQualityAttribution, QualityModel
from captum_plq.metrics import GaussianNoise, RemovedSquare, infidelity, sensitivity_max
from tests.support.draws import normal

pytestmark = pytest.mark.filterwarnings("error", "ignore:Input Tensor")
PERTURBATIONS = [GaussianNoise(0.1), RemovedSquare(0.25), RemovedSquare(1)]


def bent(x: Tensor, node: Tensor | None = None) -> Tensor:
    """No linear function of the image."""
    rows = x.flatten(1)
    shift = 0 if node is None else node.sum(1)
    return rows.square().mean(1) + (rows[:, 0] * rows[:, -1]).tanh() * (1 + shift)


def infidelity_in_loops(target, images, attributions, perturbation, share, samples, seed):
    """E[(β I·Φ − (f(x) − f(x − I)))²], β by a solver of least squares."""
    found = []
    for x, phi in zip(images, attributions, strict=True):
        generator = torch.Generator().manual_seed(seed)
        predicted, happened = [], []
        for changed in (perturbation(x[None], generator)[0] for _ in range(samples)):
            taken = (x - changed) / x if share else x - changed
            predicted.append(float((taken * phi).sum()))
            happened.append(float((target(x[None]) - target(changed[None])).detach()))
        a, b = np.array(predicted), np.array(happened)
        (beta,) = np.linalg.lstsq(a[:, None], b, rcond=None)[0]
        found.append(((beta * a - b) ** 2).mean())
    return found


def sensitivity_in_loops(attribute, images, radius, samples, seed):
    """max ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖, δ uniform in the box of r times the image's range."""
    found = []
    for x in images:
        generator = torch.Generator().manual_seed(seed)
        here, apart = attribute(x[None]), []
        for _ in range(samples):
            unit = 2 * torch.rand(x.shape, generator=generator).double() - 1
            there = attribute((x + unit * radius * (x.max() - x.min()))[None])
            apart.append(float((there - here).norm() / here.norm()))
        found.append(max(apart))
    return found


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("perturbation", PERTURBATIONS)
def test_infidelity_is_what_the_formula_says(perturbation, share):
    images, attributions = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    given = {"perturbation": perturbation, "multiplies_by_inputs": share}
    found = infidelity(bent, images, attributions, **given, samples=7, rows=5, seed=3)
    slow = infidelity_in_loops(bent, images, attributions, perturbation, share, 7, 3)
    assert min(slow) > 1e-6 or perturbation == RemovedSquare(1)
    assert found.tolist() == pytest.approx(slow, rel=1e-6, abs=1e-10)


def test_the_defaults_of_infidelity():
    images, attributions = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    slow = infidelity_in_loops(bent, images, attributions, GaussianNoise(0.1), False, 50, 0)
    assert infidelity(bent, images, attributions).tolist() == pytest.approx(slow, rel=1e-6)


def test_where_attributions_are_zero_it_is_the_change_itself():
    images = normal(1, 1, 1, 2)

    def attribute(x):
        return torch.tensor([6.0, 8.0]) * (x != images).any(3)[:, 0]

    assert sensitivity_max(attribute, images).tolist() == [10]


@pytest.mark.parametrize("merged", [False, True])
def test_sensitivity_is_what_the_formula_says(merged):
    images = normal(3, 2, 4, 5) * torch.tensor([1.0, 10, 0.1])[:, None, None, None]

    def attribute(x):
        values = (3 * x).sin() * x.mean((1, 2, 3), keepdim=True)
        return values.abs().sum(1) if merged else values

    found = sensitivity_max(attribute, images, radius=0.03, samples=6, rows=4, seed=5)
    slow = sensitivity_in_loops(attribute, images, 0.03, 6, 5)
    assert found.tolist() == pytest.approx(slow, rel=1e-9)
    default = sensitivity_in_loops(attribute, images, 0.02, 10, 0)
    assert sensitivity_max(attribute, images).tolist() == pytest.approx(default, rel=1e-9)


def test_noise_is_one_draw_scaled_to_each_image():
    images = normal(3, 3, 40, 40) * torch.tensor([1.0, 20, 0])[:, None, None, None]
    changed = GaussianNoise(0.2)(images, torch.Generator().manual_seed(1))
    assert torch.equal(changed[2], images[2])  # of one colour: no range
    noise = [(changed[i] - images[i]) / (images[i].max() - images[i].min()) for i in (0, 1)]
    torch.testing.assert_close(noise[0], noise[1])
    assert float(noise[0].mean()) == pytest.approx(0, abs=0.01)
    assert float(noise[0].std()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(("share", "size", "side"), [(0.5, (4, 5), 2), (0.01, (3, 3), 1)])
def test_squares_lie_wholly_inside_everywhere_and_show_the_mean(share, size, side):
    images = normal(2, 3, *size)
    generator = torch.Generator().manual_seed(0)
    places = set()
    for _ in range(400):
        changed = RemovedSquare(share)(images, generator)
        top, left = (changed != images)[0, 0].nonzero()[0].tolist()
        places.add((top, left))
        expected = images.clone()
        inside = (slice(None), slice(None), slice(top, top + side), slice(left, left + side))
        expected[inside] = images.mean((2, 3), keepdim=True)
        torch.testing.assert_close(changed, expected)
    assert places == set(itertools.product(range(size[0] - side + 1), range(size[1] - side + 1)))


def test_a_node_that_is_given_is_held(net, images):
    """Without it a QualityModel makes another node, so another target, of each changed image."""
    quality_model, x, noise = QualityModel(net), images[:2], GaussianNoise(0.05)
    node = quality_model.node(x)
    phi = PixelQualityAttribution(net).attribute(x).detach()
    options = {"perturbation": noise, "samples": 9}
    found = infidelity(quality_model, x, phi, node=node, **options)
    for i, held in enumerate(node.split(1)):
        one = slice(i, i + 1)
        target = partial(quality_model, node=held)
        slow = infidelity_in_loops(target, x[one], phi[one], noise, False, 9, 0)
        assert found[one].tolist() == pytest.approx(slow, rel=1e-6)
    without = infidelity(quality_model, x, phi, **options)
    assert bool(((without - found).abs() > 0.01 * found).all())


def test_no_more_rows_at_a_time():
    seen = []

    def counting(x):
        seen.append(len(x))
        return bent(x)

    images = normal(3, 1, 4, 4)
    infidelity(counting, images, images, samples=7, rows=2)
    sensitivity_max(lambda x: x * counting(x)[:, None, None, None], images, samples=7, rows=2)
    assert sum(seen) >= 2 * 3 * 7
    assert max(seen) <= 2


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_methods_find_autograd_at_work_whatever_the_callers_mode(net, images, mode):
    net.train()
    quality_model = QualityModel(net)
    images = images[:2].clone().requires_grad_()
    with mode():
        now = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        for given in (images, images.detach().clone()):  # the latter made in the mode
            found = sensitivity_max(PixelQualityAttribution(net).attribute, given, samples=2)
            assert bool((found > 0).all())
            assert not found.requires_grad
            steady = sensitivity_max(partial(Saliency(bent).attribute, abs=False), given)
            assert bool((steady > 0).all())
            assert not infidelity(quality_model, given, given, samples=2).requires_grad
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == now
    assert images.grad is None


def test_the_memory_layout_does_not_matter():
    images, attributions = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1)
    last = torch.channels_last
    viewing = lambda x: x.view(len(x), -1)[:, 3:].square().sum(1)  # noqa: E731
    scattered = lambda x: (2 * x).sin().contiguous(memory_format=last)  # noqa: E731
    steady = sensitivity_max(lambda x: (2 * x).sin(), images)
    for given in (images, images.contiguous(memory_format=last), images.mT.contiguous().mT):
        found = infidelity(viewing, given, attributions.contiguous(memory_format=last))
        assert torch.equal(found, infidelity(viewing, images, attributions))
        torch.testing.assert_close(sensitivity_max(scattered, given), steady)
