"""The contract over all methods, that it bites, and Captum's own configurations and metrics."""

import copy

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel, Saliency, visualization
from captum.testing.attr.helpers.test_config import config
from torch import nn

from captum_plq import LayerPixelQuality, PixelQualityAttribution, QualityModel
from tests.attribution.contract import CHECKS, check_attribution
from tests.attribution.methods import METHODS, Method


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, check):
    check(METHODS[name])


BREACHES = {
    "random state": lambda method, x, found: (torch.rand(1), found)[1],
    "hooks": lambda method, x, found: (
        method.quality_model.serfiq.model.register_forward_hook(lambda *_: None), found
    )[1],
    "modes": lambda method, x, found: (method.quality_model.eval(), found)[1],
    "cost": lambda method, x, found: (method.quality_model.serfiq.model(0 * x), found)[1],
    "batch": lambda method, x, found: found / found.abs().max(),
    "gradients": lambda method, x, found: (setattr(x, "grad", found), found)[1],
    "type": lambda method, x, found: found.float(),
}  # fmt: skip


class Broken(PixelQualityAttribution):
    """Breaks one promise."""

    def attribute(self, inputs, *args, **options):
        found = super().attribute(inputs, *args, **options)
        plain = isinstance(found, torch.Tensor)
        return BREACHES[self.breach](self, inputs, found) if plain else found


@pytest.mark.parametrize("breach", BREACHES)
def test_the_contract_bites(monkeypatch, breach):
    monkeypatch.setattr(Broken, "breach", breach, raising=False)
    with pytest.raises(AssertionError):
        check_attribution(Method(Broken))


# --- wherever Captum's Saliency works ------------------------------------------------------

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


def example(i, count, inputs, target, additional_forward_args=None, **_):
    """One row of a configuration, with its own target."""
    is_tensor = isinstance(target, torch.Tensor)
    if isinstance(target, list) or (is_tensor and target.numel() == count):
        target = target[i]
    one = lambda x: x[i : i + 1] if isinstance(x, torch.Tensor) else x  # noqa: E731
    extra = additional_forward_args
    return {
        "inputs": tuple(map(one, as_tuple(inputs))),
        "target": target.reshape(1) if is_tensor else target,
        "additional_forward_args": None if extra is None else tuple(map(one, as_tuple(extra))),
    }


# Captum's toy networks have features that are all zero for some images: said, but no error.
@pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_captums_configuration(case):
    """As Captum's test_targets and test_data_parallel: each example alone gives its row."""
    inputs = case["attribute_args"]["inputs"]
    attributions = attribute(case, copy.deepcopy(case["model"]))
    assert type(attributions) is type(inputs)
    together = as_tuple(attributions)
    for a, x in zip(together, as_tuple(inputs), strict=True):
        assert a.shape == x.shape
        assert a.isfinite().all()
    parallel = as_tuple(attribute(case, nn.DataParallel(case["model"])))
    for a, b in zip(together, parallel, strict=True):
        torch.testing.assert_close(a, b)
    count = len(together[0])
    for i in range(count):
        one = example(i, count, **case["attribute_args"])
        alone = as_tuple(attribute(case, case["model"], **one))
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b[i : i + 1], rtol=1e-3, atol=1e-4)


def test_captum_still_has_its_saliency_configurations():
    assert len(CASES) >= 13


def test_noise_tunnel_averages_the_signed_gradients(net, images):
    """S(I) is what is averaged; P of Eqs. 5 and 6 comes after."""
    plq, seen = PixelQualityAttribution(net), []
    plq.attribute(images[:1])  # finds the embedding layer
    with net.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach())):
        smoothed = NoiseTunnel(plq).attribute(images[:1], nt_samples=6, stdevs=3.0)
    (noisy,) = seen
    assert 2.0 < (noisy - images[:1]).std() < 4.0
    torch.testing.assert_close(smoothed, plq.attribute(noisy).mean(0, keepdim=True))


def test_saliency_of_a_quality_model_is_plq_traced_too(net, images):
    expected = PixelQualityAttribution(net).attribute(images)
    x = images.clone().requires_grad_()
    torch.testing.assert_close(Saliency(QualityModel(net)).attribute(x, abs=False), expected)
    with pytest.warns():
        traced = torch.jit.trace(QualityModel(net), images)
    torch.testing.assert_close(Saliency(traced).attribute(x, abs=False), expected)


def test_captum_draws_it(net, images):
    layer = LayerPixelQuality(net, net.trunk[3]).attribute(images)
    picture = (images[0] / 255).permute(1, 2, 0).numpy()
    for maps, way, sign in (
        (PixelQualityAttribution(net).attribute(images), "heat_map", "all"),
        (PixelQualityAttribution(net).attribute(images), "masked_image", "absolute_value"),
        (LayerPixelQuality.interpolate(layer, (20, 20)), "blended_heat_map", "negative"),
    ):
        shown = maps[0].permute(1, 2, 0).numpy()
        _, axes = visualization.visualize_image_attr(shown, picture, way, sign, use_pyplot=False)
        assert np.std(axes.images[-1].get_array()) > 0
