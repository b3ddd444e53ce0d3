"""What both of Captum's metrics promise: fair perturbations, no company, nothing left, errors."""

import math
import warnings

import pytest
import torch
from captum.attr import Saliency

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel
from captum_plq.metrics import GaussianNoise, RemovedSquare, infidelity, sensitivity_max
from tests.conftest import assert_untouched, snapshot
from tests.metrics.test_captum_own import bent, some

# --- perturbations -------------------------------------------------------------------------


def test_noise_is_one_draw_scaled_to_each_image():
    images = some(3, 3, 40, 40) * torch.tensor([1.0, 20, 0])[:, None, None, None]
    kept = images.clone()
    changed = GaussianNoise(0.2)(images, torch.Generator().manual_seed(1))
    assert torch.equal(images, kept)
    assert torch.equal(changed[2], images[2])  # of one colour: no range
    noise = [(changed[i] - images[i]) / (images[i].max() - images[i].min()) for i in (0, 1)]
    torch.testing.assert_close(noise[0], noise[1])
    assert float(noise[0].mean()) == pytest.approx(0, abs=0.01)
    assert float(noise[0].std()) == pytest.approx(0.2, rel=0.05)
    assert float((noise[0].abs() < 0.2).double().mean()) == pytest.approx(0.683, abs=0.02)


@pytest.mark.parametrize(
    ("share", "size", "side"),
    [(0.5, (4, 5), 2), (0.5, (5, 4), 2), (0.01, (3, 3), 1), (1, (3, 5), 3), (0.25, (8, 9), 2)],
)
def test_squares_lie_wholly_inside_everywhere_and_show_the_mean(share, size, side):
    images = some(2, 3, *size)
    kept = images.clone()
    generator = torch.Generator().manual_seed(0)
    places = set()
    for _ in range(400):
        changed = RemovedSquare(share)(images, generator)
        different = changed != images
        rows, columns = (different[0, 0].any(axis).nonzero().flatten() for axis in (1, 0))
        top, left = int(rows[0]), int(columns[0])
        places.add((top, left))
        for image, before in zip(changed, images, strict=True):
            for channel, values in zip(image, before, strict=True):
                mean = sum(values.flatten().tolist()) / values.numel()
                for r in range(size[0]):
                    for c in range(size[1]):
                        inside = top <= r < top + side and left <= c < left + side
                        expected = mean if inside else float(values[r, c])
                        assert float(channel[r, c]) == pytest.approx(expected)
        if len(places) == (size[0] - side + 1) * (size[1] - side + 1):
            break
    down, right = size[0] - side + 1, size[1] - side + 1
    assert places == {(r, c) for r in range(down) for c in range(right)}
    assert torch.equal(images, kept)


@pytest.mark.parametrize("share", [0, -0.1, math.nan])
def test_shares_that_are_none(share):
    with pytest.raises(ValueError, match="share must be above 0 and finite, but got"):
        GaussianNoise(share)
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, but got"):
        RemovedSquare(share)


def test_a_square_larger_than_the_image():
    with pytest.raises(ValueError, match=r"at most 1, but got 1\.1"):
        RemovedSquare(1.1)
    assert GaussianNoise(1.1).share == 1.1


# --- both ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 100])
def test_neither_the_company_nor_the_rows_matter(net, images, rows):
    expected = both(net, images, samples=4)
    assert len(expected[:, 0].unique()) == len(expected[:, 1].unique()) == len(images)
    torch.testing.assert_close(both(net, images, samples=4, rows=rows), expected)
    order = [3, 0, 6]
    some_of_them = both(net, images[order], samples=4, rows=rows)
    torch.testing.assert_close(some_of_them, expected[order])


@pytest.mark.parametrize("rows", [2, 5])
def test_no_more_rows_at_a_time(rows):
    most = []

    def counting(x):
        most.append(len(x))
        return bent(x)

    images = some(3, 1, 4, 4)
    infidelity(counting, images, images, samples=7, rows=rows)
    assert max(most) <= rows
    assert sum(most) >= 3 * 7
    most.clear()
    sensitivity_max(lambda x: x * counting(x)[:, None, None, None], images, samples=7, rows=rows)
    assert max(most) <= rows
    assert sum(most) == 3 + 3 * 7


def test_seeds(net, images):
    first = both(net, images[:2], samples=3)
    assert torch.equal(both(net, images[:2], samples=3), first)
    other = both(net, images[:2], samples=3, seed=1)
    assert bool((other != first).all())


def test_the_seed_is_also_that_of_methods_that_draw():
    images = some(2, 1, 4, 4)

    def target(x):
        return bent(x) + torch.rand(len(x))

    def attribute(x):
        return x + torch.rand(x.shape)

    for metric in (
        lambda: infidelity(target, images, images),
        lambda: sensitivity_max(attribute, images),
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
    net.fc.bias.grad = torch.ones_like(net.fc.bias)
    images = images[:2].clone().requires_grad_()
    images.grad = torch.full_like(images, 5.0)
    before, pixels = snapshot(net), images.detach().clone()
    quality_model = QualityModel(SERFIQ(net, passes=4))
    with mode():
        expected = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        plq = PixelQualityAttribution(SERFIQ(net, passes=4)).attribute
        attributions = plq(images)
        steady = sensitivity_max(plq, images, samples=2)
        faithful = infidelity(
            quality_model, images, attributions, node=quality_model.node(images), samples=2
        )
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == expected
    assert_untouched(before, net)
    assert torch.equal(net.fc.bias.grad, torch.ones_like(net.fc.bias))
    assert torch.equal(images.grad, torch.full_like(images, 5.0))
    assert images.requires_grad
    assert torch.equal(images.detach(), pixels)
    for result in (steady, faithful):
        assert not result.requires_grad
        assert bool((result > 0).all())


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


@pytest.mark.parametrize("images", [torch.float32, torch.float64])
@pytest.mark.parametrize("attributions", [torch.float32, torch.float64])
def test_results_are_as_precise_as_the_images(images, attributions):
    x, phi = some(2, 1, 4, 4), some(2, 1, 4, 4, seed=1).float()
    found = infidelity(bent, x.to(images), phi.to(attributions))
    assert found.dtype == images
    torch.testing.assert_close(found, infidelity(bent, x, phi).to(images), rtol=1e-4, atol=0)
    assert sensitivity_max(lambda x: x, x.to(images)).dtype == images


def test_methods_find_autograd_at_work():
    images = some(2, 1, 4, 4)

    def gradient(x):
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(bent(leaf).sum(), leaf)[0]

    with torch.no_grad():
        assert bool((sensitivity_max(gradient, images) > 0).all())


@pytest.mark.parametrize("count", [1, 3])
def test_captum_has_nothing_to_warn_of(count):
    images = some(count, 1, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in ({}, {"samples": 1}, {"rows": 1}, {"rows": 1000}):
            infidelity(bent, images, images, **options)
            sensitivity_max(lambda x: x, images, **options)


IMAGES = torch.ones(2, 3, 4, 5)


@pytest.mark.parametrize(
    ("error", "message", "images", "options"),
    [
        (TypeError, "must be floating point", IMAGES.byte(), {}),
        (ValueError, r"images must be \(B, C, H, W\), but got \(2, 3, 4\)", IMAGES[..., 0], {}),
        (ValueError, "NaN or infinite", IMAGES * math.nan, {}),
        (ValueError, r"one row for each of 2 images, but got \(3, 4\)", IMAGES, {"node": (3, 4)}),
        (ValueError, r"what node\(images\) returned", IMAGES, {"node": (2,)}),
        (ValueError, "at least 1, but got 0 and 64", IMAGES, {"samples": 0}),
        (ValueError, "at least 1, but got 3 and 0", IMAGES, {"samples": 3, "rows": 0}),
    ],
)
def test_what_both_refuse(error, message, images, options):
    given = {k: torch.ones(v) if k == "node" else v for k, v in options.items()}
    with pytest.raises(error, match=message):
        infidelity(bent, images, images, **given)
    with pytest.raises(error, match=message):
        sensitivity_max(lambda x, node=None: x, images, **given)


def test_merged_attributions_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5\), channels not merged, but got \(2, 4, 5"):
        infidelity(bent, IMAGES, IMAGES.sum(1))


@pytest.mark.parametrize("radius", [0, -1, math.nan])
def test_no_radius_is_refused(radius):
    with pytest.raises(ValueError, match="radius must be above 0 and finite, but got"):
        sensitivity_max(lambda x: x, IMAGES, radius=radius)
