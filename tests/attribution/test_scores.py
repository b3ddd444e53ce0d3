"""Other scores than SER-FIQ in PLQ, in the quality node and under Captum's methods."""

import pytest
import torch
from captum.attr import (
    DeepLift,
    FeatureAblation,
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    Saliency,
)

from captum_plq import SERFIQ, LayerPixelQuality, PixelQualityAttribution, QualityModel
from captum_plq.attribution import LocalScore, scaling_factor
from captum_plq.calibration.settings import MethodSettings
from captum_plq.functional import QualityScaling
from captum_plq.quality.scores import SCORES, make_score
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm
from captum_plq.quality.scores.grafiqs import GraFIQsStyle
from captum_plq.quality.scores.prefiqs import PreFIQsStyle
from tests.conftest import assert_untouched, snapshot
from tests.quality.scores.networks import network_for
from tests.support.architectures import BatchNormTail, build, faces

DIFFERENTIABLE = [name for name in SCORES if make_score(name, network_for(name)).differentiable]
SCALING = QualityScaling(3.0, 0.2)


def saliency(score, images):
    return Saliency(score).attribute(images.clone().requires_grad_(), abs=False)


def test_which_have_gradients():
    assert set(SCORES) - set(DIFFERENTIABLE) == {"serfiq-spatial", "grafiqs-style"}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_the_gradient_of_a_score(name):
    net, images = network_for(name), faces()
    score = make_score(name, net)
    before = snapshot(net)
    plq = PixelQualityAttribution(net, target_scalar=score)
    found, quality = plq.attribute(images, return_quality=True)
    assert_untouched(before, net)
    torch.testing.assert_close(found, saliency(score, images))
    torch.testing.assert_close(quality, score(images).detach())
    assert torch.equal(PixelQualityAttribution(score, target_scalar=score).attribute(images), found)
    scaled = PixelQualityAttribution(net, target_scalar=score, scaling=SCALING).attribute(images)
    factor = scaling_factor(quality, SCALING, score).view(-1, 1, 1, 1)
    torch.testing.assert_close(scaled, found * factor)


@pytest.mark.parametrize("name", SCORES)
def test_a_score_in_the_place_of_q_in_the_node(name):
    """Eq. 3 with another Q: the same gradient, times the ratio of the qualities."""
    if name == "native":
        pytest.skip("its network has two outputs: the same node as the others'")
    net, images = network_for(name), faces()
    score = make_score(name, net)
    usual, q = PixelQualityAttribution(net, scaling=SCALING).attribute(images, return_quality=True)
    found, own = PixelQualityAttribution(score, scaling=SCALING).attribute(
        images, return_quality=True
    )
    torch.testing.assert_close(own, score(images).detach())
    ratio = torch.sigmoid(3 * (own - 0.2)) / torch.sigmoid(3 * (q - 0.2))
    torch.testing.assert_close(found, usual * ratio.to(usual).view(-1, 1, 1, 1))


def test_serfiq_as_the_score_is_serfiq():
    net, images = build(BatchNormTail), faces()
    serfiq = SERFIQ(net, passes=10)
    expected = PixelQualityAttribution(serfiq, target_scalar="serfiq").attribute(images)
    plq = PixelQualityAttribution(net, target_scalar=serfiq)
    assert torch.equal(plq.attribute(images), expected)
    assert plq.target_scalar == "serfiq"
    assert plq.quality_model.serfiq is serfiq


@pytest.mark.parametrize("name", ["embedding-norm", "prefiqs-style", "vitnt-style", "native"])
def test_captums_methods_on_a_score(name):
    net = network_for(name)
    score, images = make_score(name, net), faces(2)
    for method in (InputXGradient, GuidedBackprop, DeepLift):
        if method is not DeepLift or name == "embedding-norm":
            found = method(score).attribute(images.clone().requires_grad_())
            assert found.isfinite().all()
            assert found.any()
    integrated, delta = IntegratedGradients(score).attribute(
        images, baselines=0.5 * images, n_steps=40, return_convergence_delta=True
    )
    gained = score(images) - score(0.5 * images)
    torch.testing.assert_close(
        integrated.flatten(1).sum(1), gained.detach(), rtol=0.05, atol=float(delta.abs().max())
    )
    assert delta.abs().max() < 0.1 * gained.abs().max()
    shap = GradientShap(score).attribute(images, baselines=0 * images[:1] + 0.1, n_samples=2)
    tunnel = NoiseTunnel(Saliency(score)).attribute(images, nt_samples=2, stdevs=0.1)
    assert (shap.isfinite() & tunnel.isfinite()).all()


@pytest.mark.parametrize("name", ["embedding-norm", "grafiqs-style", "serfiq-spatial"])
def test_perturbations_need_no_gradient(name):
    score, images = make_score(name, network_for(name)), faces(2)
    found = Occlusion(score).attribute(images, (3, 16, 16), strides=(3, 16, 16))
    mask = torch.arange(4).view(2, 2).repeat_interleave(16, 0).repeat_interleave(16, 1)
    again = FeatureAblation(score).attribute(images, feature_mask=mask.expand(1, 3, 32, 32))
    torch.testing.assert_close(found, again, check_dtype=False)
    assert found.any()


def test_a_node_of_another_score_under_captums_methods():
    net, images = build(BatchNormTail), faces()
    model = QualityModel(GraFIQsStyle(net), scaling=SCALING)
    expected = PixelQualityAttribution(GraFIQsStyle(net), scaling=SCALING).attribute(images)
    torch.testing.assert_close(saliency(model, images), expected)
    node = model.node(images)
    maps = IntegratedGradients(model).attribute(images, additional_forward_args=node, n_steps=4)
    assert maps.isfinite().all()
    cam = LayerGradCam(model, net.trunk[1]).attribute(images)
    assert cam.shape == (3, 1, 8, 8)


def test_what_a_score_cannot_do_is_said():
    net, images = build(BatchNormTail), faces()
    norm, other = EmbeddingNorm(net), EmbeddingNorm(build(BatchNormTail))
    with pytest.raises(ValueError, match="no gradient with respect to the images"):
        PixelQualityAttribution(net, target_scalar=GraFIQsStyle(net))
    with pytest.raises(ValueError, match="of another network"):
        PixelQualityAttribution(net, target_scalar=other)
    with pytest.raises(ValueError, match="pass the score itself"):
        PixelQualityAttribution(norm, target_scalar="serfiq")
    with pytest.raises(ValueError, match="target_scalar must be"):
        PixelQualityAttribution(net, target_scalar="norm")
    with pytest.raises(ValueError, match="need target_scalar='node'"):
        PixelQualityAttribution(net, target_scalar=norm, directions=2)
    for plq in (PixelQualityAttribution(norm), PixelQualityAttribution(net, target_scalar=norm)):
        with pytest.raises(ValueError, match="Only SER-FIQ is sampled"):
            plq.attribute(images, return_standard_error=True)
        with pytest.raises(ValueError, match="settings of SER-FIQ"):
            MethodSettings.of(plq)
    with pytest.raises(ValueError, match=r"must be positive: pass scaling="):
        PixelQualityAttribution(PreFIQsStyle(net)).attribute(images)
    for options in ({"model": norm}, {"model": net, "target_scalar": norm}):
        with pytest.raises(ValueError, match="LayerGradientXActivation"):
            LayerPixelQuality(layer=net.trunk, **options)
    with pytest.raises(TypeError, match="no score that adds up"):
        LocalScore(PreFIQsStyle(net))


def test_a_local_score_at_pixels_and_places():
    net, images = build(BatchNormTail), faces()
    local, score = LocalScore(EmbeddingNorm(net)), EmbeddingNorm(net)
    pixels, norm, delta = local.attribute(
        images, return_quality=True, return_convergence_delta=True
    )
    places = local.attribute(images, at_places=True)
    torch.testing.assert_close(norm, score(images).detach())
    torch.testing.assert_close(pixels.sum((1, 2, 3)), places.sum((1, 2)))
    assert delta.abs().max() < 1e-9
    moved = local.compute_convergence_delta(places + 0.01, images)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.16))
    with pytest.raises(ValueError, match="no target"):
        local.attribute(images, target=1)
