"""Wherever Captum's Saliency works, PixelQualityAttribution does."""

import copy

import pytest
import torch
from captum.attr import GradientAttribution, NoiseTunnel, Saliency
from captum.metrics import infidelity, sensitivity_max
from captum.testing.attr.helpers.test_config import config
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel
from tests.conftest import assert_untouched, snapshot

# Captum's own schema: a method is put on trial by adding it to a configuration's list.
for case in config:
    if Saliency in case["algorithms"]:
        case["algorithms"].append(PixelQualityAttribution)
CASES = [case for case in config if PixelQualityAttribution in case["algorithms"]]


def as_tuple(x):
    return x if isinstance(x, tuple) else (x,)


def attribute(case, model, **changes):
    method = PixelQualityAttribution(model)
    if case.get("noise_tunnel"):
        method = NoiseTunnel(method)
    return method.attribute(**{**case["attribute_args"], **changes})


# Captum's toy networks have features that are all zero for some images: said, but no error.
dead_features = pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")


def test_captum_still_has_its_saliency_configurations():
    assert len(CASES) >= 13


@dead_features
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_captums_configuration_runs(case):
    inputs = case["attribute_args"]["inputs"]
    attributions = attribute(case, copy.deepcopy(case["model"]))
    assert type(attributions) is type(inputs)
    for a, x in zip(as_tuple(attributions), as_tuple(inputs), strict=True):
        assert a.shape == x.shape
        assert a.isfinite().all()


@dead_features
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_captums_targets_test(case):
    """As Captum's test_targets: each example alone, with its own target, gives its row."""
    arguments = case["attribute_args"]
    together = as_tuple(attribute(case, case["model"]))
    count = len(together[0])
    target = arguments["target"]
    extra = arguments.get("additional_forward_args")
    for i in range(count):
        per_example = isinstance(target, list) or (
            isinstance(target, torch.Tensor) and target.numel() == count
        )
        one = {
            "inputs": tuple(x[i : i + 1] for x in as_tuple(arguments["inputs"])),
            "target": target[i] if per_example else target,
        }
        if isinstance(one["target"], torch.Tensor):
            one["target"] = one["target"].reshape(1)
        if extra is not None:
            one["additional_forward_args"] = tuple(
                x[i : i + 1] if isinstance(x, torch.Tensor) else x for x in as_tuple(extra)
            )
        alone = as_tuple(attribute(case, case["model"], **one))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b[i : i + 1], rtol=1e-3, atol=1e-4)


@dead_features
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_captums_data_parallel_test_on_one_device(case):
    plain = as_tuple(attribute(case, case["model"]))
    parallel = as_tuple(attribute(case, nn.DataParallel(case["model"])))
    for a, b in zip(plain, parallel, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("target", [99, -99, (0, 0, 0), [0, 1], torch.tensor([0, 1])])
def test_a_target_that_does_not_fit_raises_as_saliencys_does(net, images, target):
    raised = []
    for method in (Saliency(net), PixelQualityAttribution(net)):
        with pytest.raises((AssertionError, IndexError)) as info:
            method.attribute(images.requires_grad_(), target=target)
        raised.append(info.type)
    assert raised[0] is raised[1]


def test_the_score_has_no_targets(net, images):
    with pytest.raises(AssertionError):
        PixelQualityAttribution(net, target_scalar="serfiq").attribute(images, target=0)


def test_one_script_runs_over_saliency_and_plq(net, images):
    """Nothing but the constructor changes for someone who knows Captum."""
    for method in (Saliency(QualityModel(net)), PixelQualityAttribution(net)):
        x = images.requires_grad_()
        assert isinstance(method, GradientAttribution)
        assert method.attribute(x).shape == x.shape
        assert isinstance(method.attribute((x,)), tuple)
        assert method.attribute(x, additional_forward_args=None).is_contiguous()
        assert method.has_convergence_delta() is False
        assert (
            method.multiplies_by_inputs is False if hasattr(method, "multiplies_by_inputs") else 1
        )
        assert NoiseTunnel(method).attribute(x, nt_samples=2, stdevs=0.1).shape == x.shape
        with pytest.raises(NotImplementedError):
            method.attribute_future()


def test_its_name_reads_well(net):
    assert PixelQualityAttribution.get_name() == "Pixel Quality Attribution"


def test_additional_forward_args_reach_the_model(images):
    class Brightened(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1200, 8).double()

        def forward(self, x, gain, offset=0.0):
            return self.fc((x * gain.view(-1, 1, 1, 1) + offset).flatten(1).tanh())

    net = Brightened()
    gain = torch.linspace(0.001, 0.004, 7, dtype=torch.float64)
    plq = PixelQualityAttribution(net)
    together = plq.attribute(images, additional_forward_args=(gain, 0.5))
    for i in range(7):
        alone = plq.attribute(images[i : i + 1], additional_forward_args=(gain[i : i + 1], 0.5))
        torch.testing.assert_close(alone[0], together[i])
    assert not torch.allclose(plq.attribute(images, additional_forward_args=(gain, 0.0)), together)


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_noise_tunnel(net, images, nt_type, batch):
    plq = PixelQualityAttribution(SERFIQ(net, passes=10))
    before = snapshot(net)
    torch.manual_seed(1)
    result = NoiseTunnel(plq).attribute(
        images, nt_type=nt_type, nt_samples=4, nt_samples_batch_size=batch, stdevs=5.0
    )
    torch.set_rng_state(before["rng"])
    assert_untouched(before, net)
    assert result.shape == images.shape
    assert result.isfinite().all()
    assert result.abs().sum() > 0


def test_noise_tunnel_without_noise_changes_nothing(net, images):
    plq = PixelQualityAttribution(net)
    smoothed = NoiseTunnel(plq).attribute(images, nt_samples=3, stdevs=0.0)
    torch.testing.assert_close(smoothed, plq.attribute(images))


def test_noise_tunnel_averages_the_signed_gradients(net, images):
    """S(I) is what is averaged; P of Eqs. 5 and 6 comes after."""
    plq = PixelQualityAttribution(net)
    plq.attribute(images[:1])  # finds the embedding layer
    seen = []
    handle = net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    smoothed = NoiseTunnel(plq).attribute(images[:1], nt_samples=6, stdevs=3.0)
    handle.remove()
    (noisy,) = seen
    assert 2.0 < (noisy - images[:1]).std() < 4.0
    torch.testing.assert_close(smoothed, plq.attribute(noisy).mean(0, keepdim=True))


@pytest.mark.parametrize("target_scalar", ["node", "serfiq"])
def test_infidelity(net, images, target_scalar):
    plq = PixelQualityAttribution(SERFIQ(net, passes=10), target_scalar=target_scalar)
    model = plq.quality_model if target_scalar == "node" else plq.quality_model.serfiq
    extra = {"additional_forward_args": model.node(images)} if target_scalar == "node" else {}

    def perturb(x):
        noise = 1e-4 * torch.randn_like(x)
        return noise, x - noise

    ours, random = (
        infidelity(model, perturb, images, a, n_perturb_samples=5, normalize=True, **extra)
        for a in (plq.attribute(images), torch.randn_like(images))
    )
    assert ours.shape == (7,)
    assert ours.isfinite().all()
    assert (ours < 1e-3 * random).all()  # the gradient explains small noise all but exactly


def test_sensitivity_max(net, images):
    plq = PixelQualityAttribution(SERFIQ(net, passes=10))
    torch.manual_seed(0)
    near = sensitivity_max(plq.attribute, images, perturb_radius=0.01, n_perturb_samples=3)
    far = sensitivity_max(plq.attribute, images, perturb_radius=30.0, n_perturb_samples=3)
    assert near.shape == (7,)
    assert near.isfinite().all()
    assert (near < far).all()


def test_saliency_of_a_traced_quality_model_is_plq(net, images):
    expected = PixelQualityAttribution(net).attribute(images)
    with pytest.warns():
        traced = torch.jit.trace(QualityModel(net), images)
    actual = Saliency(traced).attribute(images.requires_grad_(), abs=False)
    torch.testing.assert_close(actual, expected)
