"""Captum's metrics: by hand, against loops from their formulas, and against Captum itself."""

import itertools
import math

import captum.metrics
import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, Saliency
from torch import Tensor

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel
from captum_plq.metrics import GaussianNoise, RemovedSquare, infidelity, sensitivity_max

PERTURBATIONS = [GaussianNoise(0.1), GaussianNoise(0.02), RemovedSquare(0.25), RemovedSquare(1)]


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(weights: Tensor):
    return lambda x: (x * weights).sum((1, 2, 3))


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
            total = 0.0
            pixels = zip(x.flatten(), changed.flatten(), phi.flatten(), strict=True)
            for before, after, attribution in pixels:
                taken = float(before - after)
                total += (taken / float(before) if share else taken) * float(attribution)
            predicted.append([total])
            happened.append(float(target(x[None])) - float(target(changed[None])))
        (beta,) = np.linalg.lstsq(np.array(predicted), np.array(happened), rcond=None)[0]
        errors = [(beta * p - h) ** 2 for (p,), h in zip(predicted, happened, strict=True)]
        found.append(sum(errors) / samples)
    return found


def sensitivity_in_loops(attribute, images, radius, samples, seed):
    """max ‖Φ(x + δ) − Φ(x)‖ / ‖Φ(x)‖, δ uniform in the box of r times the image's range."""
    found = []
    for x in images:
        generator = torch.Generator().manual_seed(seed)
        here, worst = attribute(x[None]), 0.0
        for _ in range(samples):
            unit = torch.rand(x.shape, generator=generator).double()
            delta = (2 * unit - 1) * radius * float(x.max() - x.min())
            there = attribute((x + delta)[None])
            pairs = list(zip(there.flatten().tolist(), here.flatten().tolist(), strict=True))
            apart = math.sqrt(sum((a - b) ** 2 for a, b in pairs))
            worst = max(worst, apart / math.sqrt(sum(b**2 for _, b in pairs)))
        found.append(worst)
    return found


# --- infidelity ----------------------------------------------------------------------------


class BlackenInTurn:
    """Sets one pixel to 0, the first, then the second, and so on."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        changed = images.clone()
        changed.flatten(1)[:, self.calls] = 0
        self.calls += 1
        return changed


@pytest.mark.parametrize(("share", "expected"), [(False, 0.4), (True, 0.25)])
def test_infidelity_by_hand(share, expected):
    def target(x):
        first, second = x.flatten(1).unbind(1)
        return first**2 + 3 * second

    # f = 7; without the first pixel 4 less, without the second 3 less. Φ = (1, 1).
    # I·Φ = 2, 1: β = (2·4 + 1·3)/(4 + 1) = 2.2, errors 0.4 and −0.8.
    # As shares, I·Φ = 1, 1: β = 3.5, errors −0.5 and 0.5.
    found = infidelity(
        target,
        torch.tensor([[[[2.0, 1.0]]]]),
        torch.ones(1, 1, 1, 2),
        perturbation=BlackenInTurn(),
        multiplies_by_inputs=share,
        samples=2,
    )
    assert found.tolist() == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("perturbation", [None, *PERTURBATIONS])
def test_the_weights_of_a_linear_function_predict_it_at_any_scale(perturbation):
    images, weights = some(3, 2, 5, 4), some(2, 5, 4, seed=1)
    target = linear(weights)
    for scale in (1.0, 0.003, 4000.0, -2.5):  # β has any sign
        attributions = (scale * weights).expand_as(images)
        found = infidelity(target, images, attributions, perturbation=perturbation)
        assert found.shape == (3,)
        assert float(found.min()) >= 0
        assert found.tolist() == pytest.approx([0] * 3, abs=1e-12)
    shares = images * weights
    scores = [
        infidelity(target, images, phi, perturbation=perturbation, multiplies_by_inputs=share)
        for phi, share in [(shares, True), (shares, False), (weights.expand_as(images), True)]
    ]
    assert float(scores[0].max()) < 1e-12
    if perturbation != RemovedSquare(1):  # is this attribution wrong in more than scale?
        assert float(torch.stack(scores[1:]).min()) > 1e-4


def test_wrong_attributions_are_worse_the_wronger_and_none_worse_than_nothing():
    images, weights = some(3, 2, 6, 6), some(2, 6, 6, seed=1)
    wrong = some(3, 2, 6, 6, seed=2)
    found = [
        infidelity(linear(weights), images, (1 - part) * weights + part * wrong)
        for part in (0, 0.2, 0.5, 1)
    ]
    for better, worse in itertools.pairwise(found):
        assert bool((better < worse).all())
    nothing = infidelity(linear(weights), images, torch.zeros_like(images))
    assert bool((found[-1] < nothing).all())
    for x, value in zip(images, nothing, strict=True):
        happened = [
            float(linear(weights)((x - c)[None])) for c in changes(GaussianNoise(), x, 50, 0)
        ]
        assert float(value) == pytest.approx(sum(h**2 for h in happened) / 50)


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


def test_the_default_is_noise_of_a_tenth_fifty_times():
    images, attributions = some(2, 1, 4, 4), some(2, 1, 4, 4, seed=1)
    slow = infidelity_in_loops(bent, images, attributions, GaussianNoise(0.1), False, 50, 0)
    assert infidelity(bent, images, attributions).tolist() == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize("share", [False, True])
def test_infidelity_is_captums(net, images, share):
    quality_model = QualityModel(net)
    images = images[:3]
    node = quality_model.node(images)
    method = InputXGradient(quality_model) if share else Saliency(quality_model)
    options = {} if share else {"abs": False}
    attributions = method.attribute(images, additional_forward_args=node, **options).detach()
    noise = GaussianNoise(0.05)
    found = infidelity(
        quality_model,
        images,
        attributions,
        node=node,
        perturbation=noise,
        multiplies_by_inputs=share,
        samples=6,
        seed=2,
    )
    for i, value in enumerate(found):
        changed = torch.stack(changes(noise, images[i], 6, 2))

        def perturb(x, changed=changed):
            return ((x - changed) / x if share else x - changed), changed

        expected = captum.metrics.infidelity(
            quality_model,
            perturb,
            images[i : i + 1],
            attributions[i : i + 1],
            additional_forward_args=node[i : i + 1],
            n_perturb_samples=6,
            normalize=True,
        )
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        assert float(value) > 0


def test_with_a_node_the_target_is_that_nodes(net, images):
    quality_model = QualityModel(net)
    x = images[:3]
    node = quality_model.node(x)
    attributions = PixelQualityAttribution(net).attribute(x).detach()

    def held(given):
        """The node's product with the normalised embedding, from its definition."""
        embedding = torch.nn.functional.normalize(net(given), dim=1)
        return (embedding * held.node).sum(1)

    found = infidelity(quality_model, x, attributions, node=node, samples=9)
    for i in range(3):
        held.node = node[i : i + 1]
        one = infidelity(held, x[i : i + 1], attributions[i : i + 1], samples=9)
        assert found[i : i + 1].tolist() == pytest.approx(one.tolist(), rel=1e-9)
    without = infidelity(quality_model, x, attributions, samples=9)
    assert bool(((without - found).abs() > 0.01 * found).all())  # another node for each change


# --- sensitivity ---------------------------------------------------------------------------


def test_sensitivity_by_hand():
    image = torch.tensor([[[[0.0, 1.0]]]])
    seen = []

    def attribute(x):
        """(3, 4) here, and 1, 3 and 2 lengths away from it there."""
        values = []
        for row in x:
            if not torch.equal(row, image[0]):
                seen.append(row)
            away = 0 if torch.equal(row, image[0]) else (1, 3, 2)[len(seen) - 1]
            values.append([3.0 * (1 + away), 4.0 * (1 + away)])
        return torch.tensor(values).view(-1, 1, 1, 2)

    assert sensitivity_max(attribute, image, samples=3).tolist() == pytest.approx([3])
    assert len(seen) == 3


def test_sensitivity_of_a_constant_and_of_a_multiple():
    images = some(3, 2, 4, 4)
    constant = sensitivity_max(lambda x: torch.ones(len(x), 4, 4), images)
    assert constant.tolist() == [0, 0, 0]
    once, seven = (sensitivity_max(lambda x, by=by: by * x, images) for by in (1, -7))
    assert once.tolist() == pytest.approx(seven.tolist())
    assert float(once.min()) > 0


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


def test_images_move_within_the_box_all_alike():
    images = some(2, 1, 4, 4) * torch.tensor([1.0, 50.0])[:, None, None, None]
    seen = []

    def attribute(x):
        seen.append(x)
        return x

    sensitivity_max(attribute, images, radius=0.1, samples=32)
    original, moved = seen
    assert torch.equal(original, images)
    shares = torch.empty(2, 32, 16, dtype=torch.float64)
    for i, image in enumerate(images):
        for k in range(32):
            step = (moved.unflatten(0, (2, 32))[i, k] - image) / (image.max() - image.min())
            shares[i, k] = step.flatten()
    assert float(shares.abs().max()) <= 0.1 + 1e-12
    assert float(shares.max()) > 0.09
    assert float(shares.min()) < -0.09
    assert float(shares[0].std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.1)
    torch.testing.assert_close(shares[0], shares[1])
    assert len(shares[0].unique(dim=0)) == 32


class Given:
    """Perturbed images for Captum, which looks at how many parameters the function has."""

    def __init__(self, moved: Tensor) -> None:
        self.moved = moved

    def perturb(self, repeated: Tensor) -> Tensor:
        assert repeated.shape == self.moved.shape
        return self.moved


@pytest.mark.parametrize("held", [False, True])
def test_sensitivity_is_captums(net, images, held):
    quality_model = QualityModel(SERFIQ(net, passes=6))
    images = images[:3]
    node = quality_model.node(images) if held else None
    saliency = Saliency(quality_model)

    def attribute(x, node=None):
        return saliency.attribute(x, abs=False, additional_forward_args=node)

    found = sensitivity_max(attribute, images, node=node, samples=5, seed=4)
    for i in range(3):
        x = images[i : i + 1]
        generator = torch.Generator().manual_seed(4)
        steps = [2 * torch.rand(x.shape[1:], generator=generator) - 1 for _ in range(5)]
        moved = x + 0.02 * (x.max() - x.min()) * torch.stack(steps).double()
        expected = captum.metrics.sensitivity_max(
            saliency.attribute,
            x,
            perturb_func=Given(moved).perturb,
            n_perturb_samples=5,
            abs=False,
            additional_forward_args=None if node is None else node[i : i + 1],
        )
        assert float(found[i]) == pytest.approx(float(expected), rel=1e-6)
        assert float(found[i]) > 0
