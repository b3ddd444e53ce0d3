"""PixelQualityAttribution: equal to the naive method; what holds for all is in the contract."""

import pytest
import torch
import torch.nn.functional as F

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling
from captum_plq.attribution import scaling_factor
from tests.support.naive import naive_plq


def largest_relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_equals_the_naive_method(net, images, dtype, tolerance):
    net, images = net.to(dtype), images.to(dtype)
    plq = PixelQualityAttribution(net)
    attributions, quality = plq.attribute(images, return_quality=True)
    masks = plq.quality_model.serfiq.masks.for_features(torch.Size([300]), images.device)
    expected, q = naive_plq(net.trunk, lambda x: net.bn(net.fc(x)), images, masks, 0.5)
    assert largest_relative(attributions, expected) < tolerance
    torch.testing.assert_close(quality, q, rtol=tolerance, atol=0)


def test_map_depends_neither_on_batch_nor_on_chunks_in_float32(dlib_net, dlib_chips):
    """As users run it: the kernels a library picks depend on the batch, the last bit with them.

    Where an activation is close to a switch (ReLU, pooling), its receptive field differs by more.
    """
    chips = torch.cat([dlib_chips, dlib_chips[:3].flip(3)])
    plq = PixelQualityAttribution(dlib_net)
    together, quality = plq.attribute(chips, return_quality=True)
    for i, chip in enumerate(chips):
        alone, q = plq.attribute(chip[None], return_quality=True)
        difference = (alone[0] - together[i]).abs() / together[i].abs().max()
        assert difference.quantile(0.9) <= 1e-6
        assert difference.max() <= 1e-4
        assert abs(float(q / quality[i]) - 1) <= 1e-6
    for chunk_size in (9, 250):
        chunked = PixelQualityAttribution(SERFIQ(dlib_net, chunk_size=chunk_size))
        assert largest_relative(chunked.attribute(chips), together) <= 1e-6


@pytest.mark.parametrize("target", ["node", "serfiq"])
@pytest.mark.parametrize("weights", ["l1", "sum", "signed"])
def test_scaling_may_be_put_on_afterwards(net, images, weights, target):
    q = SERFIQ(net)(images).detach()
    scaling = QualityScaling(130.0, q.mean().item())
    choices = {"weights": weights, "target_scalar": target}
    expected = PixelQualityAttribution(net, scaling=scaling, **choices).attribute(images)
    plq = PixelQualityAttribution(net, **choices)
    attributions, quality = plq.attribute(images, return_quality=True)
    factor = scaling_factor(quality, scaling, target)
    assert factor.max() > 1.5 * factor.min()
    scaled = attributions * factor.view(-1, 1, 1, 1)
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=0)
    q_hat = torch.sigmoid(130 * (q - q.mean()))
    by_hand = q_hat / q if target == "node" else 130 * q_hat * (1 - q_hat)
    torch.testing.assert_close(factor, by_hand)


def test_a_poor_image_keeps_a_factor():
    factor = scaling_factor(torch.tensor([0.3, 0.9]), QualityScaling(130.0, 0.9))
    assert factor.tolist() == pytest.approx([1.3355e-34 / 0.3, 0.5 / 0.9], rel=1e-3)
    with pytest.raises(ValueError, match="target_scalar"):
        scaling_factor(torch.tensor([0.3]), QualityScaling(130.0, 0.9), "Q")


def test_serfiq_target_is_the_gradient_of_the_score(net, images):
    x, serfiq = images.clone().requires_grad_(), SERFIQ(net, passes=20)
    expected = torch.autograd.grad(serfiq(x).sum(), x)[0]
    actual = PixelQualityAttribution(serfiq, target_scalar="serfiq").attribute(images)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-18)
    step = torch.randn(images[:1].shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        slope = (serfiq(images[:1] + 1e-4 * step) - serfiq(images[:1] - 1e-4 * step)) / 2e-4
    torch.testing.assert_close((actual[:1] * step).sum(), slope[0], rtol=1e-4, atol=1e-10)


def test_l2_node_on_unit_vectors_is_refused(net, images):
    on_the_sphere = SERFIQ(lambda x: F.normalize(net(x), dim=1))
    for model, normalize in ((on_the_sphere, None), (net, True)):
        plq = PixelQualityAttribution(model, weights="l2", normalize=normalize)
        with pytest.raises(ValueError, match="gradient zero everywhere"):
            plq.attribute(images)
    assert PixelQualityAttribution(net, weights="l2").attribute(images).abs().max() > 0


def test_unknown_choices_are_refused(net):
    for name in ("weights", "target_scalar"):
        with pytest.raises(ValueError, match=f"{name} must be '"):
            PixelQualityAttribution(net, **{name: "L1"})
