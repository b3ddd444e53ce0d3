"""LayerPixelQuality against Captum's own layer gradient, and by hand."""

import pytest
import torch
from captum.attr import LayerGradientXActivation
from torch import nn

from captum_plq import (
    SERFIQ,
    LayerPixelQuality,
    PixelQualityAttribution,
    QualityModel,
    QualityScaling,
)
from captum_plq.network.leaves import LayerError
from tests.conftest import SmallFaceNet
from tests.support import architectures as zoo
from tests.support.packings import Packed

LAYERS = ["trunk.0", "trunk.2", "trunk", "dropout", "fc", "bn"]


def captums(net, name, images, of_input, **kwargs):
    """The layer gradient of the node by Captum: the node built first, then held fixed."""
    model, layer = QualityModel(net, **kwargs), net.get_submodule(name)
    return LayerGradientXActivation(model, layer, multiply_by_inputs=False).attribute(
        images, additional_forward_args=model.node(images), attribute_to_layer_input=of_input
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("weights", ["l1", "signed"])
def test_it_is_captums_gradient_of_the_node(net, images, name, weights):
    ours = LayerPixelQuality(net, net.get_submodule(name), weights=weights)
    for of_input in (False, True):
        actual = ours.attribute(images, attribute_to_layer_input=of_input)
        expected = captums(net, name, images, of_input, weights=weights)
        assert actual.is_contiguous()
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("estimator", ["sampling", "balanced", "closed-form"])
@pytest.mark.parametrize("name", ["trunk.0", "fc"])
def test_every_estimator_serves(net, images, estimator, name):
    serfiq = SERFIQ(net, estimator=estimator, passes=8)
    method = LayerPixelQuality(serfiq, net.get_submodule(name))
    found, quality = method.attribute(images, return_quality=True)
    torch.testing.assert_close(quality, serfiq(images))
    expected = captums(net, name, images, False)
    factor = quality / SERFIQ(net)(images)
    scaled = expected * factor.view(-1, *[1] * (expected.ndim - 1))
    torch.testing.assert_close(found, scaled.detach(), rtol=1e-8, atol=1e-16)


def test_by_hand():
    """e = 2 f with f = (3, 4): e = (6, 8), not normalised, weights Q / 14, gradient 2 Q / 14."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).double()
    net[1].weight.data = torch.eye(2, dtype=torch.float64) * 2
    image = torch.tensor([[[[3.0, 4.0]]]], dtype=torch.float64)
    method = LayerPixelQuality(net, net[0], normalize=False)
    attributions, quality = method.attribute(image, return_quality=True)
    torch.testing.assert_close(attributions, (quality / 7).expand(1, 2))


@pytest.mark.parametrize("directions", [None, 3])
def test_at_the_first_layers_input_it_is_the_pixels(net, images, directions):
    pixels = PixelQualityAttribution(net, directions=directions).attribute(images)
    layer = LayerPixelQuality(net, net.trunk[0], directions=directions)
    found = layer.attribute(images, attribute_to_layer_input=True)
    torch.testing.assert_close(found, pixels, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("name", ["trunk.0", "trunk"])
def test_of_the_score_itself(net, images, name):
    """Against autograd through SERFIQ, with the layer's output held by a plain hook."""
    serfiq, layer = SERFIQ(net, passes=10), net.get_submodule(name)
    options = {"target_scalar": "serfiq", "scaling": QualityScaling(3.0, 0.4)}
    actual = LayerPixelQuality(serfiq, layer, **options).attribute(images)
    kept = []
    with layer.register_forward_hook(lambda m, a, y: kept.append(y)):
        score = torch.sigmoid(3.0 * (serfiq(images.requires_grad_()) - 0.4))
    (expected,) = torch.autograd.grad(score.sum(), kept[-1])
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-16)
    for behind in (net.fc, net.bn):
        with pytest.raises(LayerError, match="in front of the embedding layer"):
            LayerPixelQuality(serfiq, behind, **options).attribute(images)


def test_an_in_place_step_behind_the_layer_is_behind_it(images):
    """Captum's own gradient would be that behind the ReLU, where clipped values still count."""
    torch.manual_seed(0)
    plain, in_place = (
        nn.Sequential(nn.Flatten(), nn.Linear(1200, 9), nn.ReLU(inplace), nn.Linear(9, 5)).double()
        for inplace in (False, True)
    )
    in_place.load_state_dict(plain.state_dict())
    expected = captums(plain, "1", images, False)
    actual = LayerPixelQuality(in_place, in_place[1]).attribute(images)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-16)
    assert (actual == 0).any()


class Halves(nn.Module):
    def forward(self, x):
        return x.clamp(max=127.0), x.clamp(min=127.0)


class Windows(nn.Module):
    """Four windows of each image as rows of their own, and a pair of outputs."""

    def __init__(self):
        super().__init__()
        self.split, self.fc = Halves(), nn.Linear(4 * 300, 6).double()

    def forward(self, x):
        low, high = self.split(x.unfold(2, 10, 10).unfold(3, 10, 10).reshape(-1, 300))
        return self.fc((low.tanh() + high).reshape(len(x), -1))


def test_layers_with_several_tensors_and_several_rows_per_image(images):
    net = Windows()
    method = LayerPixelQuality(net, net.split)
    low, high = method.attribute(images)
    assert low.shape == high.shape == (28, 300)
    _, clipped = method.attribute(images, max_gradient_norm=1e-7)
    norms = clipped.reshape(7, -1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full((7,), 1e-7).double())
    torch.testing.assert_close(method.attribute(images[2:3])[1], high[8:12])


def test_layers_that_cannot_be_had():
    shared = nn.Sequential(zoo.trunk(), nn.Flatten(), nn.ReLU(), nn.Linear(128, 8)).double()
    shared.insert(3, shared[2])
    unused, mixing = zoo.build(zoo.Head), zoo.build(zoo.Head)
    unused.other = mixing.other = nn.Linear(128, 8).double()
    mixing.forward = lambda x: mixing.fc(mixing.flat(x)) * mixing.other(x.new_ones(128)).mean()
    head, packed = zoo.build(zoo.QualityHead), zoo.build(Packed, lambda x: {"feature": x})
    inside = nn.Sequential(packed)
    for words, model, layer in (
        ("ran 2 times", shared, shared[2]),
        ("was not run", unused, unused.other),
        ("not found among", shared, nn.ReLU()),
        ("do not belong to single images", SERFIQ(mixing, embedding_layer="fc"), mixing.other),
        ("no part in the quality", SERFIQ(head, output=0), head.qs),
        ("returns dict, not", SERFIQ(inside, output="feature"), packed),
    ):
        with pytest.raises(LayerError, match=words):
            LayerPixelQuality(model, layer).attribute(zoo.faces())
    with pytest.raises(TypeError, match="get_submodule"):
        LayerPixelQuality(shared, "2")
    with pytest.raises(ValueError, match="target_scalar"):
        LayerPixelQuality(shared, shared[2], target_scalar="score")


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("differentiated")


def test_the_backward_ends_at_the_layer(images):
    class Guarded(SmallFaceNet):
        def forward(self, x):
            return super().forward(Once.apply(x))

    net = Guarded().double().eval()
    serfiq = SERFIQ(net, embedding_layer="fc")
    LayerPixelQuality(serfiq, net.trunk[0]).attribute(images)
    with pytest.raises(RuntimeError, match="differentiated"):
        PixelQualityAttribution(serfiq).attribute(images)
