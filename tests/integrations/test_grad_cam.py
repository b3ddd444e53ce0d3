"""pytorch-grad-cam's conventions, and the package itself where it is installed ([grad-cam])."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityModel, quality_map
from captum_plq.functional import merge_channels
from captum_plq.integrations.grad_cam import CosineTarget, EmbeddingQualityTarget, PLQCam
from tests.conftest import assert_untouched, snapshot
from tests.support import architectures as zoo


@pytest.fixture
def network():
    return zoo.build(zoo.IResNet).float()


@pytest.fixture
def pictures():
    return zoo.faces().float()


def grad_cam(name="pytorch_grad_cam"):
    return pytest.importorskip(name, reason="needs the extra [grad-cam]", exc_type=ImportError)


def test_targets_by_hand():
    row = torch.tensor([3.0, 4.0])
    node = torch.tensor([0.5, -1.0])
    assert EmbeddingQualityTarget(node, normalize=False)(row).item() == pytest.approx(-2.5)
    assert EmbeddingQualityTarget(node)(row).item() == pytest.approx(-0.5)
    assert CosineTarget(torch.tensor([0.0, 2.0]))(row).item() == pytest.approx(0.8)
    assert CosineTarget(-row)(row).item() == pytest.approx(-1.0)


@pytest.mark.parametrize("weights", ["l1", "l2"])
def test_targets_of_images_are_the_quality_model(network, pictures, weights):
    quality_model = QualityModel(network, weights=weights)
    targets = EmbeddingQualityTarget.of_images(quality_model, pictures)
    values = torch.stack([t(e) for t, e in zip(targets, network(pictures), strict=True)])
    torch.testing.assert_close(values, quality_model(pictures))
    if weights == "l1":
        plain = EmbeddingQualityTarget.of_images(network, pictures)
        torch.testing.assert_close(plain[1].node, targets[1].node)


def test_a_map_is_the_quality_of_pixels_or_stretched(network, pictures):
    network.train()
    before = snapshot(network)
    with PLQCam(network, gamma=2.0) as cam:
        maps = cam(input_tensor=pictures)
    assert_untouched(before, network)
    assert (type(maps), maps.dtype) == (np.ndarray, np.float32)
    attributions = PixelQualityAttribution(network).attribute(pictures)
    np.testing.assert_allclose(maps, quality_map(attributions, gamma=2.0), rtol=1e-4, atol=1e-6)
    for found, raw in zip(
        PLQCam(network)(pictures, None), merge_channels(attributions), strict=True
    ):
        expected = (raw - raw.min()) / (raw.max() - raw.min())
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_flat_map_is_nought():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    nn.init.ones_(net[1].weight)
    maps = PLQCam(PixelQualityAttribution(net, normalize=False))(torch.rand(1, 3, 2, 2))
    assert (maps == 0).all()


def test_targets_are_what_is_explained(network, pictures):
    """Against autograd, one image at a time; the quality's target gives the quality's map."""
    targets = [CosineTarget(network(x[None])[0]) for x in pictures.roll(1, 0)]
    maps = PLQCam(network, gamma=1.0)(pictures, targets)
    for image, target, actual in zip(pictures, targets, maps, strict=True):
        x = image[None].requires_grad_()
        value = F.cosine_similarity(network(x), target.reference[None]).sum()
        (gradient,) = torch.autograd.grad(value, x)
        np.testing.assert_allclose(actual, quality_map(gradient, gamma=1.0)[0], 1e-3, 1e-6)
    quality = EmbeddingQualityTarget.of_images(network, pictures)
    np.testing.assert_allclose(
        PLQCam(network)(pictures, quality), PLQCam(network)(pictures), atol=1e-4
    )


def test_smoothed_over_mirrored_and_brightened_images(network, pictures):
    cam = PLQCam(network)
    expected = np.zeros((3, 32, 32))
    for factor in (0.9, 1.0, 1.1):
        expected += cam(pictures * factor)
        expected += cam(torch.flip(pictures, [3]) * factor)[:, :, ::-1]
    np.testing.assert_allclose(cam(pictures, aug_smooth=True), expected / 6, atol=1e-5)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "no such channels", lambda cam, x: cam(x, eigen_smooth=True)),
        (ValueError, "2 targets for 3", lambda cam, x: cam(x, [CosineTarget(torch.ones(16))] * 2)),
        (ValueError, "of 5 features", lambda cam, x: cam(x, [CosineTarget(torch.ones(5))] * 3)),
        (ValueError, "one number", lambda cam, x: cam(x, [lambda embedding: embedding] * 3)),
        (TypeError, "floating point", lambda cam, x: cam(x.long())),
        (ValueError, "of_images", lambda *_: EmbeddingQualityTarget(torch.ones(2, 16))),
        (ValueError, "one embedding", lambda *_: CosineTarget(torch.zeros(16))),
        (ValueError, "one embedding", lambda *_: CosineTarget(torch.ones(2, 16))),
    ],
)
def test_what_makes_no_sense_is_refused(network, pictures, error, message, call):
    with pytest.raises(error, match=message), PLQCam(network) as cam:  # errors pass
        call(cam, pictures)


def test_networks_that_return_more_than_the_embedding(pictures):
    net = zoo.build(zoo.AdaFace).float()
    targets = [CosineTarget(e) for e in net(pictures)[0].flip(0)]
    assert PLQCam(SERFIQ(net, output=0))(pictures, targets).shape == (3, 32, 32)


def test_a_class_is_not_looked_for_in_an_embedding(network, pictures):
    targets = grad_cam("pytorch_grad_cam.utils.model_targets")
    with pytest.raises(ValueError, match="a feature of an embedding"):
        PLQCam(network)(pictures, [targets.ClassifierOutputTarget(3)] * 3)


def test_its_own_cams_take_our_targets(network, pictures):
    package = grad_cam()
    ours = EmbeddingQualityTarget.of_images(network, pictures)
    others = [CosineTarget(e) for e in network(pictures).detach().flip(0)]
    with package.GradCAM(model=network, target_layers=[network.layers[1]]) as cam:
        # None: what an embedding's largest feature gives
        quality, likeness, feature = (cam(pictures, targets) for targets in (ours, others, None))
    assert quality.shape == PLQCam(network)(pictures).shape
    assert quality.std() > 0
    assert not np.allclose(quality, likeness)
    assert not np.allclose(quality, feature)


@pytest.mark.slow
def test_road_finds_the_pixels_that_carry_the_target():
    """A network that sees only a corner: the map of the target beats its own reverse."""
    metrics = grad_cam("pytorch_grad_cam.metrics.road")
    torch.manual_seed(2)
    corner = nn.ConstantPad2d((0, -16, 0, -16), 0.0)
    net, pictures = nn.Sequential(corner, nn.Flatten(), nn.Linear(768, 8)), torch.rand(3, 3, 32, 32)
    targets = [CosineTarget(e) for e in net(pictures).detach()]
    reference = [CosineTarget(e) for e in net(pictures).detach().roll(1, 0)]
    maps = PLQCam(net)(pictures, reference)
    assert (maps[:, 16:] == 0).all()
    torch.manual_seed(0)
    combined = metrics.ROADCombined(percentiles=[30, 50, 75])
    reverse = combined(pictures, 1 - maps, targets, net)
    assert (combined(pictures, maps, targets, net) > reverse).all()
