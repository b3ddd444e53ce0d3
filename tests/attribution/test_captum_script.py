"""One script for Captum's users: the line that makes the method changes, and nothing else."""

import numpy as np
import pytest
import torch
from captum.attr import Saliency, visualization
from matplotlib.backends.backend_agg import FigureCanvasAgg

from captum_plq import LayerPixelQuality, PixelQualityAttribution, QualityModel
from tests.conftest import assert_untouched, snapshot

SCRIPT = """
import torch
from captum.attr import NoiseTunnel, Saliency, visualization
from captum.metrics import infidelity, sensitivity_max
from captum_plq import PixelQualityAttribution

method = {method}

attributions = method.attribute(images)
(of_tuple,) = method.attribute((images,))
smooth = NoiseTunnel(method).attribute(images, nt_samples=3, stdevs=1.0)
squared = NoiseTunnel(method).attribute(
    (images,), nt_type="smoothgrad_sq", nt_samples=4, nt_samples_batch_size=2, stdevs=(1.0,)
)[0]


def perturb(x):
    noise = torch.randn_like(x)
    return noise, x - noise


with torch.no_grad():
    unfaithful = infidelity(f, perturb, images, attributions, n_perturb_samples=4, normalize=True)
    unstable = sensitivity_max(
        method.attribute, images, perturb_radius=0.5, n_perturb_samples=3, max_examples_per_batch=14
    )

figures = []
for way in ("heat_map", "blended_heat_map", "masked_image", "alpha_scaling"):
    figure, axes = visualization.visualize_image_attr(
        attributions[0].permute(1, 2, 0).numpy(),
        (images[0].detach() / 255).permute(1, 2, 0).numpy(),
        method=way,
        sign="absolute_value",
        show_colorbar=True,
        use_pyplot=False,
    )
    figures.append(figure)
"""

METHODS = {"Saliency": "Saliency(f)", "PLQ": "PixelQualityAttribution(model)"}


@pytest.mark.parametrize("method", METHODS)
def test_a_script_for_saliency_runs_as_it_stands(net, images, method):
    before = snapshot(net)
    names = {"model": net, "f": QualityModel(net), "images": images.requires_grad_()}
    torch.manual_seed(3)
    exec(compile(SCRIPT.format(method=METHODS[method]), "script.py", "exec"), names)
    torch.set_rng_state(before["rng"])
    assert_untouched(before, net)
    for name in ("attributions", "of_tuple", "smooth", "squared"):
        assert names[name].shape == images.shape, name
        assert names[name].abs().sum() > 0, name
    torch.testing.assert_close(names["of_tuple"], names["attributions"])
    for name in ("unfaithful", "unstable"):
        assert names[name].shape == (7,), name
        assert names[name].isfinite().all(), name
        assert (names[name] >= 0).all(), name
    for figure in names["figures"]:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20
    assert names["unstable"].max() > 0


def test_the_two_scripts_come_to_the_same(net, images):
    """Saliency of the quality node, sign and all, is what PLQ attributes."""
    saliency = Saliency(QualityModel(net)).attribute(images.requires_grad_(), abs=False)
    torch.testing.assert_close(PixelQualityAttribution(net).attribute(images), saliency)


@pytest.mark.parametrize("sign", ["all", "positive", "negative", "absolute_value"])
def test_captum_draws_every_sign_of_it(net, images, sign):
    attributions = PixelQualityAttribution(net).attribute(images)[0].permute(1, 2, 0).numpy()
    _, axes = visualization.visualize_image_attr(attributions, sign=sign, use_pyplot=False)
    drawn = axes.images[0].get_array()
    assert drawn.shape == (20, 20)
    assert drawn.std() > 0


def test_captum_draws_a_layer_laid_over_the_image(net, images):
    attributions = LayerPixelQuality(net, net.trunk[3]).attribute(images)
    large = LayerPixelQuality.interpolate(attributions, (20, 20), "bilinear")
    _, axes = visualization.visualize_image_attr_multiple(
        large[0].permute(1, 2, 0).numpy(),
        (images[0] / 255).permute(1, 2, 0).numpy(),
        ["original_image", "blended_heat_map"],
        ["all", "all"],
        use_pyplot=False,
    )
    assert len(axes) == 2
