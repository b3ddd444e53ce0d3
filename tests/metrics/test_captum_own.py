"""Captum's metrics against loops from their formulas; neither batch nor memory matters."""

import itertools
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel
from captum_plq.metrics import GaussianNoise, RemovedSquare, infidelity, sensitivity_max
from tests.conftest import assert_untouched, snapshot

PERTURBATIONS = [GaussianNoise(0.1), RemovedSquare(0.25), RemovedSquare(1)]


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(x: Tensor, node: Tensor | None = None) -> Tensor:
    """No linear function of the image."""
    rows = x.flatten(1)
    shift = 0 if node is None else node.sum(1)
    return rows.square().mean(1) + (rows[:, 0] * rows[:, -1]).tanh() * (1 + shift)


def changes(perturbation, image: Tensor, samples: int, seed: int) -> list[Tensor]:
    """x − I, ``samples`` times, of one image (C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    return [perturbation(image[None], generator)[0] for _ in range(samples)]


def infidelity_in_loops(target, images, attributions, perturbation, share, samples, seed):
    """E[(β I·Φ − (f(x) − f(x − I)))²], β by a solver of least squares."""
    found = []
    for x, phi in zip(images, attributions, strict=True):
        predicted, happened = [], []
        for changed in changes(perturbation, x, samples, seed):
            taken = (x - changed) / x if share else x - changed
            predicted.append(float((taken * phi).sum()))
            happened.append(float(target(x[None]) - target(changed[None])))
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
    images, attributions = some(3, 2, 4, 5), some(3, 2, 4, 5, seed=1)
    found = infidelity(
        bent,
        images,
        attributions,
        perturbation=perturbation,
        multiplies_by_inputs=share,
        samples=7,
        rows=5,
        seed=3,
    )
    slow = infidelity_in_loops(bent, images, attributions, perturbation, share, 7, 3)
    assert min(slow) > 1e-6 or perturbation == RemovedSquare(1)
    assert found.tolist() == pytest.approx(slow, rel=1e-6, abs=1e-10)
    if perturbation == GaussianNoise(0.1) and not share:
        slow = infidelity_in_loops(bent, images, attributions, perturbation, False, 50, 0)
        assert infidelity(bent, images, attributions).tolist() == pytest.approx(slow, rel=1e-6)


def test_where_attributions_are_zero_it_is_the_change_itself():
    images = some(2, 1, 1, 2)

    def attribute(x):
        """0 on the images themselves, (6, 8) elsewhere."""
        known = torch.stack([(x == image).flatten(1).all(1) for image in images]).any(0)
        return torch.tensor([6.0, 8.0]) * (~known)[:, None]

    assert sensitivity_max(attribute, images).tolist() == [10, 10]


@pytest.mark.parametrize("merged", [False, True])
def test_sensitivity_is_what_the_formula_says(merged):
    images = some(3, 2, 4, 5) * torch.tensor([1.0, 10, 0.1])[:, None, None, None]

    def attribute(x):
        values = (3 * x).sin() * x.mean((1, 2, 3), keepdim=True)
        return values.abs().sum(1) if merged else values

    found = sensitivity_max(attribute, images, radius=0.03, samples=6, rows=4, seed=5)
    slow = sensitivity_in_loops(attribute, images, 0.03, 6, 5)
    assert found.tolist() == pytest.approx(slow, rel=1e-9)
    default = sensitivity_in_loops(attribute, images, 0.02, 10, 0)
    assert sensitivity_max(attribute, images).tolist() == pytest.approx(default, rel=1e-9)


def test_noise_is_one_draw_scaled_to_each_image():
    images = some(3, 3, 40, 40) * torch.tensor([1.0, 20, 0])[:, None, None, None]
    changed = GaussianNoise(0.2)(images, torch.Generator().manual_seed(1))
    assert torch.equal(changed[2], images[2])  # of one colour: no range
    noise = [(changed[i] - images[i]) / (images[i].max() - images[i].min()) for i in (0, 1)]
    torch.testing.assert_close(noise[0], noise[1])
    assert float(noise[0].mean()) == pytest.approx(0, abs=0.01)
    assert float(noise[0].std()) == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(("share", "size", "side"), [(0.5, (4, 5), 2), (0.01, (3, 3), 1)])
def test_squares_lie_wholly_inside_everywhere_and_show_the_mean(share, size, side):
    images = some(2, 3, *size)
    kept, mean = images.clone(), images.mean((2, 3))
    generator = torch.Generator().manual_seed(0)
    places = set()
    for _ in range(400):
        changed = RemovedSquare(share)(images, generator)
        rows, columns = ((changed != images)[0, 0].any(axis).nonzero() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        places.add((top, left))
        expected = images.clone()
        expected[:, :, top : top + side, left : left + side] = mean[..., None, None]
        torch.testing.assert_close(changed, expected)
    assert places == set(itertools.product(range(size[0] - side + 1), range(size[1] - side + 1)))
    assert torch.equal(images, kept)


def both(net, images, **options):
    """The two metrics of a quality model, (B, 2), its nodes held."""
    quality_model = QualityModel(SERFIQ(net, passes=8))
    node = quality_model.node(images)
    saliency = Saliency(quality_model)

    def attribute(x, node):
        return saliency.attribute(x, abs=False, additional_forward_args=node)

    attributions = attribute(images, node)
    return torch.stack(
        [
            infidelity(quality_model, images, attributions, node=node, **options),
            sensitivity_max(attribute, images, node=node, **options),
        ],
        1,
    )


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_neither_the_company_nor_the_rows_matter(net, images, rows):
    expected = both(net, images, samples=4)
    assert len(expected[:, 0].unique()) == len(expected[:, 1].unique()) == len(images)
    torch.testing.assert_close(both(net, images, samples=4, rows=rows), expected)
    order = [3, 0, 6]
    some_of_them = both(net, images[order], samples=4, rows=rows)
    torch.testing.assert_close(some_of_them, expected[order])


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
    most, rows = [], 2

    def counting(x):
        most.append(len(x))
        return bent(x)

    images = some(3, 1, 4, 4)
    infidelity(counting, images, images, samples=7, rows=rows)
    assert sum(most) >= 3 * 7
    sensitivity_max(lambda x: x * counting(x)[:, None, None, None], images, samples=7, rows=rows)
    assert max(most) <= rows


def test_the_seed_is_also_that_of_methods_that_draw():
    images = some(2, 1, 4, 4)
    for metric in (
        lambda: infidelity(lambda x: bent(x) + torch.rand(len(x)), images, images),
        lambda: sensitivity_max(lambda x: x + torch.rand(x.shape), images),
    ):
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first = metric()
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(4)
        assert torch.equal(metric(), first)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_is_left_behind(net, images, mode):
    net.train()
    images = images[:2].clone().requires_grad_()
    images.grad = torch.full_like(images, 5.0)
    before, pixels = snapshot(net), images.detach().clone()
    serfiq = SERFIQ(net, passes=4)
    with mode():
        expected = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        plq, target = PixelQualityAttribution(serfiq).attribute, QualityModel(serfiq)
        results = [
            sensitivity_max(plq, images, samples=2),
            infidelity(target, images, plq(images), node=target.node(images), samples=2),
        ]
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == expected
    assert_untouched(before, net)
    assert torch.equal(images.grad, torch.full_like(images, 5.0))
    assert images.requires_grad
    assert torch.equal(images.detach(), pixels)
    for result in results:
        assert not result.requires_grad
        assert bool((result > 0).all())
    with mode():  # also of tensors made in it, by methods that know nothing of it
        own = images.detach().clone()
        steady = sensitivity_max(partial(Saliency(bent).attribute, abs=False), own)
    assert bool((steady > 0).all())


def test_methods_find_autograd_at_work():
    def gradient(x):
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(bent(leaf).sum(), leaf)[0]

    with torch.no_grad():
        assert bool((sensitivity_max(gradient, some(2, 1, 4, 4)) > 0).all())


def test_the_memory_layout_does_not_matter():
    images, attributions = some(3, 2, 4, 5), some(3, 2, 4, 5, seed=1)
    last = torch.channels_last

    def viewing(x):
        return x.view(len(x), -1)[:, 3:].square().sum(1)

    maps = [lambda x: (2 * x).sin().contiguous(memory_format=last), lambda x: (2 * x).sin()]
    for given in (images, images.contiguous(memory_format=last), images.mT.contiguous().mT):
        found = infidelity(viewing, given, attributions.contiguous(memory_format=last))
        assert torch.equal(found, infidelity(viewing, images, attributions))
        steady = [sensitivity_max(attribute, given) for attribute in maps]
        torch.testing.assert_close(steady[0], sensitivity_max(maps[1], images))
        torch.testing.assert_close(steady[1], steady[0])


@pytest.mark.parametrize("count", [1, 3])
def test_captum_has_nothing_to_warn_of(count):
    images = some(count, 1, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"samples": 1}, {"rows": 1}, {"rows": 1000}):
            infidelity(bent, images, images, **options)
            sensitivity_max(lambda x: x, images, **options)


IMAGES = torch.ones(2, 3, 4, 5)


NODE = torch.ones(3, 4)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "must be floating point", lambda: infidelity(bent, IMAGES.byte(), IMAGES)),
        (ValueError, r"\(B, C, H, W\), but got", lambda: sensitivity_max(bent, IMAGES[..., 0])),
        (ValueError, r"but got \(3, 4\)", lambda: infidelity(bent, IMAGES, IMAGES, node=NODE)),
        (ValueError, r"what node\(", lambda: sensitivity_max(bent, IMAGES, node=NODE[:2, 0])),
        (ValueError, "1, but got 0 and 64", lambda: infidelity(bent, IMAGES, IMAGES, samples=0)),
        (ValueError, "1, but got 10 and 0", lambda: sensitivity_max(bent, IMAGES, rows=0)),
        (ValueError, r"but got \(2, 4, 5", lambda: infidelity(bent, IMAGES, IMAGES.sum(1))),
        (ValueError, "radius must be above 0", lambda: sensitivity_max(bent, IMAGES, radius=0)),
        (ValueError, "share must be above 0 and finite", lambda: GaussianNoise(0)),
        (ValueError, "share must be above 0 and at most 1", lambda: RemovedSquare(0)),
        (ValueError, r"at most 1, but got 1\.1", lambda: RemovedSquare(1.1)),
    ],
)
def test_what_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()
