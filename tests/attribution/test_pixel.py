"""PixelQualityAttribution: equal to the naive method, in one forward and one backward."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling
from captum_plq.attribution import scaling_factor
from tests.conftest import assert_untouched, living_tensors, small_face_net, snapshot
from tests.support.naive import naive_plq


def head_of(net):
    return lambda features: net.bn(net.fc(features))


def masks_of(plq, shape):
    return plq.quality_model.serfiq.masks.for_features(torch.Size(shape), torch.device("cpu"))


def largest_relative(a, b):
    return float((a - b).abs().max() / b.abs().max())


def test_equals_the_naive_method(net, images):
    plq = PixelQualityAttribution(net)
    attributions, quality = plq.attribute(images, return_quality=True)
    expected, q = naive_plq(net.trunk, head_of(net), images, masks_of(plq, [300]), 0.5)
    assert largest_relative(attributions, expected) < 1e-10
    torch.testing.assert_close(quality, q, rtol=1e-12, atol=0)


def test_equals_the_naive_method_in_float32(net, images):
    net, images = net.float(), images.float()
    plq = PixelQualityAttribution(net)
    attributions, quality = plq.attribute(images, return_quality=True)
    expected, q = naive_plq(net.trunk, head_of(net), images, masks_of(plq, [300]), 0.5)
    assert largest_relative(attributions, expected) < 1e-5
    torch.testing.assert_close(quality, q, rtol=1e-5, atol=0)


def test_equals_the_naive_method_on_the_dlib_network(dlib_net, dlib_chips):
    """Eight digits in float64, where no rectifier tips over by rounding."""
    net = dlib_net.double()
    try:
        backbone, chips = net.backbone, dlib_chips[:2].double()
        features = []
        handle = backbone.fc.register_forward_pre_hook(lambda _, args: features.append(args[0]))

        def trunk(x):
            features.clear()
            net(x)
            return features[0]

        plq = PixelQualityAttribution(SERFIQ(net, passes=12))
        attributions = plq.attribute(chips)
        trunk(chips)
        shape = features[0].shape[1:]
        expected, _ = naive_plq(trunk, backbone.fc, chips, masks_of(plq, shape), 0.5)
        handle.remove()
        assert largest_relative(attributions, expected) < 1e-8
    finally:
        dlib_net.float()


@pytest.mark.parametrize("target", ["node", "serfiq"])
@pytest.mark.parametrize("weights", ["l1", "sum", "signed"])
def test_scaling_may_be_put_on_afterwards(net, images, weights, target):
    scaling = QualityScaling(130.0, SERFIQ(net)(images).mean().item())
    choices = {"weights": weights, "target_scalar": target}
    expected = PixelQualityAttribution(net, scaling=scaling, **choices).attribute(images)
    plq = PixelQualityAttribution(net, **choices)
    attributions, quality = plq.attribute(images, return_quality=True)
    factor = scaling_factor(quality, scaling, target)
    assert factor.max() > 1.5 * factor.min()
    scaled = attributions * factor.view(-1, 1, 1, 1)
    torch.testing.assert_close(scaled, expected, rtol=1e-9, atol=0)


def test_a_poor_image_keeps_a_factor():
    factor = scaling_factor(torch.tensor([0.3, 0.9]), QualityScaling(130.0, 0.9))
    assert factor.tolist() == pytest.approx([1.3355e-34 / 0.3, 0.5 / 0.9], rel=1e-3)
    with pytest.raises(ValueError, match="target_scalar"):
        scaling_factor(torch.tensor([0.3]), QualityScaling(130.0, 0.9), "Q")


def test_map_and_quality_do_not_depend_on_batch_order_or_chunks(net, images):
    plq = PixelQualityAttribution(net, scaling=QualityScaling(130.0, 0.5))
    maps, quality = plq.attribute(images, return_quality=True)
    alone = [plq.attribute(image[None], return_quality=True) for image in images]
    assert largest_relative(torch.cat([a for a, _ in alone]), maps) < 1e-9
    torch.testing.assert_close(torch.cat([q for _, q in alone]), quality, rtol=1e-12, atol=0)
    order = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    assert largest_relative(plq.attribute(images[order]), maps[order]) < 1e-9
    for chunk_size in (1, 5, 33):
        chunked = PixelQualityAttribution(
            SERFIQ(net, chunk_size=chunk_size), scaling=QualityScaling(130.0, 0.5)
        )
        assert largest_relative(chunked.attribute(images), maps) < 1e-9


def test_map_does_not_depend_on_the_batch_in_float32(dlib_net, dlib_chips):
    """Seven real chips on a real network, as users run it.

    The kernels a library picks depend on the size of the batch, and the last bit with them. Where
    an activation is that close to a switch (ReLU, pooling), its receptive field may differ by more.
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


@pytest.mark.parametrize("chunk_size", [1, 9, 250])
def test_map_does_not_depend_on_the_chunks_in_float32(dlib_net, dlib_chips, chunk_size):
    expected, quality = PixelQualityAttribution(dlib_net).attribute(dlib_chips, return_quality=True)
    chunked = PixelQualityAttribution(SERFIQ(dlib_net, chunk_size=chunk_size))
    actual, q = chunked.attribute(dlib_chips, return_quality=True)
    assert largest_relative(actual, expected) <= 1e-6
    torch.testing.assert_close(q, quality, rtol=1e-6, atol=0)


def test_same_seed_same_map_on_another_day(images):
    first = PixelQualityAttribution(small_face_net()).attribute(images)
    torch.rand(5)
    assert torch.equal(PixelQualityAttribution(small_face_net()).attribute(images), first)
    other = PixelQualityAttribution(SERFIQ(small_face_net(), seed=1)).attribute(images)
    assert not torch.allclose(other, first, rtol=1e-6)


@pytest.mark.parametrize("target_scalar", ["node", "serfiq"])
def test_one_forward_of_the_trunk_and_one_backward(net, images, target_scalar):
    plq = PixelQualityAttribution(net, target_scalar=target_scalar)
    plq.attribute(images[:1])  # finds the embedding layer
    forwards, backwards = [], []
    first, last = net.trunk[0], net.trunk[-1]
    handles = [
        first.register_forward_hook(lambda _, args, __: forwards.append(len(args[0]))),
        last.register_full_backward_hook(lambda _, __, grads: backwards.append(len(grads[0]))),
    ]
    plq.attribute(images)
    for handle in handles:
        handle.remove()
    assert forwards == [7]
    assert backwards == [7]


def test_serfiq_target_is_the_gradient_of_the_score(net, images):
    x = images.clone().requires_grad_()
    expected = torch.autograd.grad(SERFIQ(net)(x).sum(), x)[0]
    plq = PixelQualityAttribution(net, target_scalar="serfiq")
    actual, quality = plq.attribute(images, return_quality=True)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-18)
    torch.testing.assert_close(quality, SERFIQ(net)(images).detach())


def test_serfiq_target_agrees_with_finite_differences(net, images):
    serfiq = SERFIQ(net, passes=20)
    gradient = PixelQualityAttribution(serfiq, target_scalar="serfiq").attribute(images[:1])
    step = torch.randn(images[:1].shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        slope = (serfiq(images[:1] + 1e-4 * step) - serfiq(images[:1] - 1e-4 * step)) / 2e-4
    torch.testing.assert_close((gradient * step).sum(), slope[0], rtol=1e-4, atol=1e-10)


@pytest.mark.parametrize("target_scalar", ["node", "serfiq"])
def test_quality_and_its_standard_error_come_along(net, images, target_scalar):
    serfiq = SERFIQ(net)
    plq = PixelQualityAttribution(serfiq, target_scalar=target_scalar)
    alone = plq.attribute(images)
    both = plq.attribute(images, return_quality=True, return_standard_error=True)
    _, error_alone = plq.attribute(images, return_standard_error=True)
    _, quality, error = serfiq.assess(images, standard_error=True)
    for got, want in zip((*both, error_alone), (alone, quality, error, error), strict=True):
        torch.testing.assert_close(got, want)
        assert not got.requires_grad


def test_scaling_of_the_serfiq_target_follows_the_chain_rule(net, images):
    q = SERFIQ(net)(images).detach()
    scaling = QualityScaling(20.0, 0.5)
    plain = PixelQualityAttribution(net, target_scalar="serfiq").attribute(images)
    scaled = PixelQualityAttribution(net, target_scalar="serfiq", scaling=scaling).attribute(images)
    q_hat = torch.sigmoid(20 * (q - 0.5))
    torch.testing.assert_close(scaled, plain * (20 * q_hat * (1 - q_hat)).view(-1, 1, 1, 1))


def test_paper_and_released_weights_rank_pixels_as_saliency_of_the_sum_does(net, images):
    """Within one image Q only scales the map: stated in the docs, and true."""
    x = images.clone().requires_grad_()
    gradient = torch.autograd.grad(F.normalize(net(x), dim=1).sum(), x)[0].abs()
    order = gradient.flatten(1).argsort()
    for weights in ("l1", "sum"):
        ours = PixelQualityAttribution(net, weights=weights).attribute(images).abs()
        assert torch.equal(ours.flatten(1).argsort(), order)
    signed = PixelQualityAttribution(net, weights="signed").attribute(images).abs()
    assert not torch.equal(signed.flatten(1).argsort(), order)


def test_a_target_feeds_one_feature_to_the_node(net, images):
    plq = PixelQualityAttribution(net)
    parts = sum(plq.attribute(images, target=k) for k in range(16))
    torch.testing.assert_close(parts, plq.attribute(images), rtol=1e-8, atol=1e-16)


def test_clipping_limits_the_norm_of_each_image(net, images):
    plq = PixelQualityAttribution(net)
    norms = plq.attribute(images).flatten(1).norm(dim=1)
    limit = float(norms.median())
    clipped = plq.attribute(images, max_gradient_norm=limit).flatten(1).norm(dim=1)
    torch.testing.assert_close(clipped, norms.clamp_max(limit))
    with pytest.raises(ValueError, match="max_norm must be positive"):
        plq.attribute(images, max_gradient_norm=0.0)


def test_l2_node_on_unit_vectors_is_refused(net, images):
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return F.normalize(self.net(x), dim=1)

    with pytest.raises(ValueError, match="gradient zero everywhere"):
        PixelQualityAttribution(Normalised(), weights="l2").attribute(images)
    with pytest.raises(ValueError, match="gradient zero everywhere"):
        PixelQualityAttribution(net, weights="l2", normalize=True).attribute(images)
    assert PixelQualityAttribution(net, weights="l2").attribute(images).abs().max() > 0


def test_unknown_choices_are_refused(net):
    with pytest.raises(ValueError, match="'node' or 'serfiq'"):
        PixelQualityAttribution(net, target_scalar="quality")
    with pytest.raises(ValueError, match="'l1', 'sum', 'signed' or 'l2'"):
        PixelQualityAttribution(net, weights="L1")


def test_bad_images_are_refused(net, images):
    plq = PixelQualityAttribution(net)
    with pytest.raises(TypeError, match="floating point"):
        plq.attribute(images.to(torch.uint8))
    with pytest.raises(ValueError, match="NaN"):
        plq.attribute(images / 0)
    with pytest.raises(RuntimeError, match="channels"):
        plq.attribute(images[:, :2])
    with pytest.raises(ValueError, match="no Linear or convolution"):
        PixelQualityAttribution(nn.Flatten()).attribute(images)


@pytest.mark.parametrize("target_scalar", ["node", "serfiq"])
def test_nothing_is_left_behind(net, images, target_scalar):
    net.train()
    net.fc.weight.requires_grad_(False)
    x = images.clone().requires_grad_()
    before = snapshot(net)
    attributions = PixelQualityAttribution(net, target_scalar=target_scalar).attribute(x)
    assert_untouched(before, net)
    assert x.grad is None
    assert x.requires_grad
    assert not images.requires_grad
    assert not attributions.requires_grad


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("where", ["trunk", "fc", "bn"])
def test_nothing_is_left_behind_after_an_exception(net, images, where, warm):
    net.train()
    plq = PixelQualityAttribution(net)
    if warm:
        plq.attribute(images)
    before = snapshot(net)

    def fail(*_):
        raise KeyboardInterrupt

    handle = getattr(net, where).register_forward_hook(fail)
    x = images.clone().requires_grad_()
    with pytest.raises(KeyboardInterrupt):
        plq.attribute(x)
    handle.remove()
    assert_untouched(before, net)
    assert x.grad is None
    assert plq.attribute(images).isfinite().all()


def test_nothing_is_left_behind_after_an_exception_in_the_backward(net, images):
    plq = PixelQualityAttribution(net)
    plq.attribute(images)
    before = snapshot(net)
    handle = net.trunk[3].register_full_backward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        plq.attribute(images)
    handle.remove()
    assert_untouched(before, net)


def test_memory_does_not_grow_over_200_calls(net, images):
    plq = PixelQualityAttribution(SERFIQ(net, passes=5))

    plq.attribute(images)
    before = living_tensors()
    for _ in range(200):
        plq.attribute(images)
    assert living_tensors() <= before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_when_the_caller_has_no_autograd(net, images, mode):
    expected = PixelQualityAttribution(net).attribute(images)
    with mode():
        assert torch.equal(PixelQualityAttribution(net).attribute(images.clone()), expected)


def test_parameters_made_in_inference_mode_are_refused_in_words(images):
    with torch.inference_mode():
        net = small_face_net()
    with pytest.raises(ValueError, match="inference mode"):
        PixelQualityAttribution(net).attribute(images)


def test_works_on_a_frozen_model(net, images):
    expected = PixelQualityAttribution(net).attribute(images)
    net.requires_grad_(False)
    assert torch.equal(PixelQualityAttribution(net).attribute(images), expected)


def test_works_under_bfloat16_autocast(net, images):
    net, x = net.float(), images.float()
    expected, q = PixelQualityAttribution(net).attribute(x, return_quality=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps, quality = PixelQualityAttribution(net).attribute(x, return_quality=True)
    assert maps.dtype == torch.float32
    assert torch.cosine_similarity(maps.flatten(1), expected.flatten(1)).min() > 0.97
    torch.testing.assert_close(quality, q, atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_works_in_half_precision(net, images, dtype):
    maps, quality = PixelQualityAttribution(net.to(dtype)).attribute(
        images.to(dtype), return_quality=True
    )
    assert maps.dtype == dtype
    assert maps.isfinite().all()
    assert maps.abs().max() > 0
    assert quality.dtype == torch.float32


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_works_on_a_compiled_model_and_compiled_itself(net, images, backend):
    expected = PixelQualityAttribution(net).attribute(images)
    model = torch.compile(net, backend=backend)
    model(images)
    torch.testing.assert_close(PixelQualityAttribution(model).attribute(images), expected)
    attribute = torch.compile(PixelQualityAttribution(net).attribute, backend=backend)
    torch.testing.assert_close(attribute(images), expected)


def test_the_map_is_contiguous_whatever_the_memory_format(net, images):
    x = images.contiguous(memory_format=torch.channels_last)
    maps = PixelQualityAttribution(net.to(memory_format=torch.channels_last)).attribute(x)
    assert maps.is_contiguous()
