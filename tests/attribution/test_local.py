"""Local quality adds up to the quality, at pixels and at places."""

import pytest
import torch
from captum.attr import Occlusion
from captum.metrics import sensitivity_max

from captum_plq import SERFIQ, LocalQuality, SpatialSERFIQ
from captum_plq.functional.local import local_reference, quality_from_snr
from tests.support.architectures import AdaFace, BatchNormTail, IResNet, UnitLength, build, faces


@pytest.mark.parametrize(
    ("make", "output"), [(IResNet, None), (AdaFace, 0), (BatchNormTail, None), (UnitLength, None)]
)
@pytest.mark.parametrize("reference", [0.5, 40.0, None])
def test_attributions_and_offset_add_up_to_the_quality_lost(make, output, reference):
    net, x = build(make).float(), faces(4).float()
    local = LocalQuality(SERFIQ(net, output=output), reference=reference)
    pixels, quality, delta = local.attribute(x, return_quality=True, return_convergence_delta=True)
    places = local.attribute(x, at_places=True)
    torch.testing.assert_close(pixels.sum((1, 2, 3)), places.sum((1, 2)), rtol=0, atol=1e-6)
    assert (delta.abs() <= 1e-5 * quality).all()
    for attributions in (pixels, (places,)):
        assert (local.compute_convergence_delta(attributions, x).abs() <= 1e-5 * quality).all()
    moved = local.compute_convergence_delta(places + 0.01, x)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01 * places[0].numel()))


def test_autocast_lowers_the_network_only():
    net, x = build(IResNet).float(), faces(4).float()
    local = LocalQuality(net, reference=5.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pixels, delta = local.attribute(x, return_convergence_delta=True)
        places, quality = local.attribute(x, at_places=True, return_quality=True)
    assert delta.dtype == places.dtype == quality.dtype == torch.float32
    assert (delta.abs() <= 1e-5 * quality).all()
    torch.testing.assert_close(pixels.sum((1, 2, 3)), places.sum((1, 2)), rtol=0, atol=1e-6)


def test_a_guided_map_keeps_the_sum_and_is_the_same_in_any_batch():
    net, x = build(IResNet).float(), faces(3).float()
    local = LocalQuality(net, reference=4.0, guided=True)
    pixels, quality, delta = local.attribute(x, return_quality=True, return_convergence_delta=True)
    assert (delta.abs() <= 1e-5 * quality).all()
    assert (local.compute_convergence_delta(pixels, x).abs() <= 1e-5 * quality).all()
    assert not torch.allclose(pixels, LocalQuality(net, reference=4.0).attribute(x))
    torch.testing.assert_close(local.attribute(x[1:2])[0], pixels[1], rtol=1e-3, atol=1e-7)


def test_without_an_offset_the_sum_alone_is_the_quality_lost():
    net, x = build(BatchNormTail), faces(3)
    net.fc.bias.data.zero_()
    net.bn.running_mean.zero_()
    net.bn.bias.data.zero_()
    places, quality = LocalQuality(net, reference=2.0).attribute(
        x, at_places=True, return_quality=True
    )
    torch.testing.assert_close(
        places.sum((1, 2)), quality - quality_from_snr(torch.tensor(2.0, dtype=torch.float64))
    )


def test_a_covered_place_loses_quality_where_it_is_covered():
    """All of 16 places agree, so ρ = 16; then one speaks against the others."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 8, 8, bias=False),
        torch.nn.Flatten(),
        torch.nn.Linear(128, 8, bias=False),
    ).double()
    net[0].weight.data.fill_(1.0)
    net[2].weight.data.copy_(torch.eye(8).repeat_interleave(16, 1))
    image = torch.ones(1, 3, 32, 32, dtype=torch.float64)
    covered = image.clone()
    covered[:, :, 8:16, 16:24] = -1.0
    local = LocalQuality(net, reference=10.0)
    before, after = (local.attribute(x, at_places=True)[0] for x in (image, covered))
    assert float(local.forward_func(image)) == pytest.approx(
        float(quality_from_snr(torch.tensor(16.0)))
    )
    lost = before - after
    assert lost.argmax() == 1 * 4 + 2
    assert after[1, 2] < 0 < after[0, 0]


def test_references_and_inputs_are_checked():
    net, x = build(BatchNormTail), faces(3)
    local = LocalQuality(net)
    reference = local_reference(local.spatial.shares(faces(6, seed=1)))
    assert LocalQuality(net, reference=reference).reference == reference.snr
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            LocalQuality(net, reference=wrong)
    for arguments, words in (((x, 3), "target"), (((x, x),), "one tensor")):
        with pytest.raises(ValueError, match=words):
            local.attribute(*arguments)
    with pytest.raises(ValueError, match="between 0 and 1"):
        SpatialSERFIQ(net, dropout=1.0)


def test_it_works_with_captums_metrics_and_its_quality_with_captums_methods():
    net, x = build(BatchNormTail), faces(2)
    local = LocalQuality(net, reference=2.0)
    assert sensitivity_max(local.attribute, x, n_perturb_samples=2).isfinite().all()
    found = Occlusion(local.spatial).attribute(x, (3, 16, 16), strides=(3, 16, 16))
    assert found.isfinite().all()
    assert found.any()
