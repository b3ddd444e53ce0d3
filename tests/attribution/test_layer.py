"""LayerPixelQuality against Captum's own layer gradient, by hand, and its contract."""

import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    GradientAttribution,
    LayerAttribution,
    LayerGradientXActivation,
    NoiseTunnel,
)
from torch import nn

from captum_plq import (
    SERFIQ,
    LayerPixelQuality,
    PixelQualityAttribution,
    QualityModel,
    QualityScaling,
)
from captum_plq.network.leaves import LayerError
from tests.conftest import assert_untouched, living_tensors, small_face_net, snapshot
from tests.support import architectures as zoo

LAYERS = ["trunk.0", "trunk.2", "trunk", "dropout", "fc", "bn"]


def captums(net, name, images, of_input, **kwargs):
    """The layer gradient of the node by Captum: the node built first, then held fixed."""
    quality_model = QualityModel(net, **kwargs)
    node = quality_model.node(images)
    method = LayerGradientXActivation(
        quality_model, net.get_submodule(name), multiply_by_inputs=False
    )
    return method.attribute(images, additional_forward_args=node, attribute_to_layer_input=of_input)


@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("weights", ["l1", "signed"])
def test_it_is_captums_gradient_of_the_node(net, images, name, of_input, weights):
    ours = LayerPixelQuality(net, net.get_submodule(name), weights=weights)
    actual = ours.attribute(images, attribute_to_layer_input=of_input)
    expected = captums(net, name, images, of_input, weights=weights)
    assert actual.is_contiguous()
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("estimator", ["sampling", "balanced", "closed-form"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_estimator_serves(net, images, estimator, name):
    serfiq = SERFIQ(net, estimator=estimator, passes=8)
    found = LayerPixelQuality(serfiq, net.get_submodule(name)).attribute(
        images, return_quality=True
    )
    assert found[0].shape[0] == 7
    torch.testing.assert_close(found[1], SERFIQ(net, estimator=estimator, passes=8)(images))
    expected = captums(serfiq.model, name, images, False)
    factor = found[1] / QualityModel(net).build((images,)).quality
    scaled = expected * factor.view(-1, *[1] * (expected.ndim - 1))
    torch.testing.assert_close(found[0], scaled.detach(), rtol=1e-8, atol=1e-16)


def test_by_hand():
    """e = 2 f with f = (3, 4): e = (6, 8), not normalised, weights Q / 14, gradient 2 Q / 14."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    net[1].weight.data = torch.eye(2, dtype=torch.float64) * 2
    image = torch.tensor([[[[3.0, 4.0]]]], dtype=torch.float64)
    method = LayerPixelQuality(net, net[0], normalize=False)
    attributions, quality = method.attribute(image, return_quality=True)
    torch.testing.assert_close(attributions, (quality / 7).expand(1, 2))


def test_at_the_first_layers_input_it_is_the_pixels(net, images):
    pixels = PixelQualityAttribution(net).attribute(images)
    layer = LayerPixelQuality(net, net.trunk[0]).attribute(images, attribute_to_layer_input=True)
    torch.testing.assert_close(layer, pixels, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("name", ["trunk.0", "trunk"])
def test_of_the_score_itself(net, images, name):
    """Against autograd through SERFIQ, with the layer's output held by a plain hook."""
    serfiq = SERFIQ(net, passes=10)
    scaling = QualityScaling(3.0, 0.4)
    actual = LayerPixelQuality(
        serfiq, net.get_submodule(name), target_scalar="serfiq", scaling=scaling
    ).attribute(images)
    kept = []
    with net.get_submodule(name).register_forward_hook(lambda m, a, y: kept.append(y)):
        score = torch.sigmoid(3.0 * (serfiq(images.requires_grad_()) - 0.4))
    (expected,) = torch.autograd.grad(score.sum(), kept[-1])
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-16)


@pytest.mark.parametrize("name", ["fc", "bn"])
def test_the_score_has_no_gradient_behind_its_dropout(net, images, name):
    method = LayerPixelQuality(
        SERFIQ(net, passes=10), net.get_submodule(name), target_scalar="serfiq"
    )
    with pytest.raises(LayerError, match="in front of the embedding layer"):
        method.attribute(images)


def test_a_target_picks_a_feature(net, images):
    method = LayerPixelQuality(net, net.trunk)
    by_feature = [method.attribute(images, target=k) for k in range(16)]
    torch.testing.assert_close(sum(by_feature), method.attribute(images), rtol=1e-8, atol=1e-16)
    mixed = method.attribute(images, target=torch.tensor([3, 0, 1, 3, 5, 6, 15]))
    torch.testing.assert_close(mixed[2], by_feature[1][2])
    for target in (99, (0, 0, 0), [0, 1]):
        with pytest.raises((AssertionError, IndexError)):
            method.attribute(images, target=target)


def test_an_images_values_do_not_depend_on_its_batch(net, images):
    for name in ("trunk.0", "bn"):
        method = LayerPixelQuality(net, net.get_submodule(name))
        together = method.attribute(images)
        for i in range(7):
            alone = method.attribute(images[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-16)


def test_nothing_is_left_behind(net, images):
    net.dropout.train()
    before, flags = snapshot(net), images.requires_grad
    method = LayerPixelQuality(net, net.trunk[2])
    for arguments in ({}, {"attribute_to_layer_input": True}, {"target": 3}):
        method.attribute(images, **arguments)
    with pytest.raises(IndexError):
        method.attribute(images, target=99)
    stranger = LayerPixelQuality(net, nn.ReLU())
    with pytest.raises(LayerError):
        stranger.attribute(images)
    assert_untouched(before, net)
    assert images.requires_grad is flags
    assert images.grad is None
    tensors = living_tensors()
    for _ in range(3):
        method.attribute(images)
    assert living_tensors() <= tensors


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_under_no_grad_and_inference_mode(net, images, mode):
    expected = LayerPixelQuality(net, net.trunk[3]).attribute(images)
    with mode():
        actual = LayerPixelQuality(net, net.trunk[3]).attribute(images + 0)
    torch.testing.assert_close(actual, expected)


def test_captums_contract(net, images):
    method = LayerPixelQuality(net, net.trunk[3])
    assert isinstance(method, LayerAttribution)
    assert isinstance(method, GradientAttribution)
    assert method.layer is net.trunk[3]
    assert method.multiplies_by_inputs is False
    assert method.has_convergence_delta() is False
    assert LayerPixelQuality.get_name() == "Layer Pixel Quality"
    with pytest.raises(NotImplementedError):
        method.attribute_future()
    torch.testing.assert_close(method.attribute((images,)), method.attribute(images))


def test_noise_tunnel(net, images):
    method = LayerPixelQuality(net, net.trunk[3])
    still = NoiseTunnel(method).attribute(images, nt_samples=3, stdevs=0.0)
    torch.testing.assert_close(still, method.attribute(images))
    noisy = NoiseTunnel(method).attribute(images, nt_samples=3, stdevs=9.0)
    assert not torch.allclose(noisy, still)


def test_interpolated_to_the_size_of_the_image(net, images):
    attributions = LayerPixelQuality(net, net.trunk[3]).attribute(images)
    maps = LayerPixelQuality.interpolate(attributions, (20, 20), "bilinear")
    assert maps.shape == (7, 12, 20, 20)
    torch.testing.assert_close(maps, F.interpolate(attributions, (20, 20), mode="bilinear"))


def test_data_parallel_on_one_device(net, images):
    expected = LayerPixelQuality(net, net.trunk[3]).attribute(images)
    actual = LayerPixelQuality(nn.DataParallel(net), net.trunk[3]).attribute(images)
    torch.testing.assert_close(actual, expected)


def test_quality_error_and_clipping_come_as_for_pixels(net, images):
    method, pixels = LayerPixelQuality(net, net.trunk[3]), PixelQualityAttribution(net)
    options = {"return_quality": True, "return_standard_error": True}
    a, quality, error = method.attribute(images, max_gradient_norm=1e-6, **options)
    _, expected_quality, expected_error = pixels.attribute(images, **options)
    torch.testing.assert_close(quality, expected_quality)
    torch.testing.assert_close(error, expected_error)
    torch.testing.assert_close(a.flatten(1).norm(dim=1), torch.full((7,), 1e-6).double())


def test_additional_forward_args():
    class Gained(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6).double()
            self.fc = nn.Linear(6, 4).double()

        def forward(self, x, gain):
            return self.fc(self.first(x * gain).tanh())

    torch.manual_seed(0)
    net, x = Gained(), torch.randn(3, 6, dtype=torch.float64)
    method = LayerPixelQuality(net, net.first)
    doubled = method.attribute(x, additional_forward_args=2.0)
    torch.testing.assert_close(doubled, method.attribute(2 * x, additional_forward_args=(1.0,)))


def test_an_in_place_step_behind_the_layer_is_behind_it(images):
    """Captum's own gradient would be that behind the ReLU, where clipped values still count."""
    plain, in_place = (
        nn.Sequential(nn.Flatten(), nn.Linear(1200, 9), nn.ReLU(inplace), nn.Linear(9, 5)).double()
        for inplace in (False, True)
    )
    in_place.load_state_dict(plain.state_dict())
    expected = captums(plain, "1", images, False)
    actual = LayerPixelQuality(in_place, in_place[1]).attribute(images)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-16)
    assert (actual == 0).any()


def test_layers_with_several_tensors_and_several_rows_per_image(images):
    class Windows(nn.Module):
        """Four windows of each image as rows of their own, and a pair of outputs."""

        def __init__(self):
            super().__init__()
            self.split = Halves()
            self.fc = nn.Linear(4 * 300, 6).double()

        def forward(self, x):
            low, high = self.split(x.unfold(2, 10, 10).unfold(3, 10, 10).reshape(-1, 300))
            return self.fc((low.tanh() + high).reshape(len(x), -1))

    class Halves(nn.Module):
        def forward(self, x):
            return x.clamp(max=127.0), x.clamp(min=127.0)

    net = Windows()
    low, high = LayerPixelQuality(net, net.split).attribute(images)
    assert low.shape == high.shape == (28, 300)
    clipped = LayerPixelQuality(net, net.split).attribute(images, max_gradient_norm=1e-7)
    norms = clipped[1].reshape(7, -1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((7,), 1e-7).double())
    alone = LayerPixelQuality(net, net.split).attribute(images[2:3])
    torch.testing.assert_close(alone[1], high[8:12])


def test_layers_that_cannot_be_had():
    faces = zoo.faces()
    shared = nn.Sequential(zoo.trunk(), nn.Flatten(), nn.ReLU(), nn.Linear(128, 8)).double()
    shared.insert(3, shared[2])
    with pytest.raises(LayerError, match="ran 2 times"):
        LayerPixelQuality(shared, shared[2]).attribute(faces)
    with pytest.raises(LayerError, match="not found among"):
        LayerPixelQuality(shared, nn.ReLU()).attribute(faces)
    head = zoo.build(zoo.QualityHead)
    with pytest.raises(LayerError, match="no part in the quality"):
        LayerPixelQuality(SERFIQ(head, output=0), head.qs).attribute(faces)
    net = nn.Sequential(zoo.build(zoo.Packed, lambda x: {"feature": x}))
    with pytest.raises(LayerError, match="returns dict, not"):
        LayerPixelQuality(SERFIQ(net, output="feature"), net[0]).attribute(faces)
    with pytest.raises(TypeError, match="get_submodule"):
        LayerPixelQuality(shared, "2")
    with pytest.raises(ValueError, match="target_scalar"):
        LayerPixelQuality(shared, shared[2], target_scalar="score")


def test_bad_images_are_refused(net, images):
    method = LayerPixelQuality(net, net.trunk)
    with pytest.raises(TypeError, match="floating point"):
        method.attribute(images.long())
    images[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        method.attribute(images)


def test_the_backward_ends_at_the_layer(images):
    """What stands in front of it is not differentiated."""

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("differentiated")

    class Guarded(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(Once.apply(x))

    net = small_face_net()
    plq = SERFIQ(Guarded(net), embedding_layer="net.fc")
    LayerPixelQuality(plq, net.trunk[0]).attribute(images)
    with pytest.raises(RuntimeError, match="differentiated"):
        PixelQualityAttribution(plq).attribute(images)
