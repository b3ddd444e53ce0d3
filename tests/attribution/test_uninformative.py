"""What is not finite, constant or damaged never gets a number without a word."""

import pickle

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, LayerPixelQuality, PixelQualityAttribution, QualityModel
from captum_plq.errors import PixelScaleWarning, UninformativeWarning, UnusableImagesError
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.network.embedding_layer import EmbeddingLayerError
from tests.support.draws import normal, uniform

IMAGES = uniform(4, 3, 32, 32, seed=1).float()
ESTIMATORS = ["sampling", "balanced", "closed-form"]


class Net(nn.Module):
    """A small network with a step in front of it, and one after its features."""

    def __init__(self, first=None, bias=True):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, 4, bias=bias)
        self.fc, self.act = nn.Linear(8 * 64, 16, bias=bias), nn.ReLU()
        self.first = first or nn.Identity()

    def forward(self, x):
        return self.fc(self.act(self.conv(self.first(x))).flatten(1))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


def standardised(x):
    return (x - x.mean((1, 2, 3), keepdim=True)) / x.std((1, 2, 3), keepdim=True)


@pytest.fixture
def images():
    return IMAGES.clone()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("net", "value", "words"),
    [
        (Net(Apply(standardised)), 0.5, "NaN or infinite embedding"),
        (Net(bias=False), 0.0, "embedding of zeros"),
    ],
    ids=["nan", "zero"],
)
def test_an_embedding_of_nothing_is_refused_by_name(images, estimator, net, value, words):
    serfiq, blank = SERFIQ(net.eval(), estimator=estimator), images.clone()
    blank[2] = value
    with pytest.raises(UnusableImagesError) as raised:
        serfiq(blank)  # met when the network is explored
    assert raised.value.indices == (2,)
    expected = serfiq(images)
    for method in (serfiq, QualityModel(serfiq), PixelQualityAttribution(serfiq).attribute):
        with pytest.raises(UnusableImagesError, match=words) as raised:
            method(blank)
        assert raised.value.indices == (2,)
    assert torch.equal(serfiq(images), expected)  # and spoils nothing


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("count", [1, 4])
def test_a_network_that_tells_no_images_apart_is_refused_now_or_later(images, estimator, count):
    net = Net().eval()
    later = SERFIQ(net, estimator=estimator)
    later(images)
    net.conv.weight.data.zero_()
    with pytest.raises(EmbeddingLayerError, match="same embedding"):
        SERFIQ(net, estimator=estimator)(images[:count])
    with pytest.raises(EmbeddingLayerError, match="same embedding"):
        later(images)
    later(images[:1].expand(3, -1, -1, -1))  # the same image three times is no fault


def test_an_image_whose_features_are_all_zero_is_told(images):
    net = Net().eval()
    with torch.no_grad():
        net.conv.bias.fill_(-0.1)
    images[1] = 0
    with pytest.warns(UninformativeWarning, match="image 1 of a batch of 4"):
        quality = SERFIQ(net)(images)
    assert quality[1] == 1


@pytest.mark.parametrize("kind", ["pixel", "layer"])
@pytest.mark.parametrize(
    ("step", "words"),
    [(lambda x: (255 * x).round() / 255, "zero everywhere"), (torch.sqrt, "NaN or infinite")],
)
def test_a_gradient_that_means_nothing_is_told(images, step, words, kind):
    images[:, :, :8] = 0
    net = Net(Apply(step)).eval()
    method = PixelQualityAttribution(net) if kind == "pixel" else LayerPixelQuality(net, net.first)
    arguments = {} if kind == "pixel" else {"attribute_to_layer_input": True}
    with pytest.warns(UninformativeWarning, match=words):
        method.attribute(images, **arguments)


def test_pixels_from_0_to_1_are_told_to_a_network_that_takes_255(images):
    spec = ModelSpec("mine", (32, 32), mean=(127.5,) * 3, std=(127.5,) * 3)
    model = FaceModel(Net().eval(), spec)
    for method in (SERFIQ(model), PixelQualityAttribution(model).attribute):
        with pytest.warns(PixelScaleWarning, match="multiply by 255"):
            method(images)
        method(images * 255)
    SERFIQ(Net().eval())(images)  # who knows what it takes


def test_bad_pixels_are_refused_by_name(images):
    images[3, 0, 0, 0] = float("-inf")
    net = nn.Sequential(nn.Hardtanh(), Net()).eval()  # whose embedding is finite all the same
    for method in (PixelQualityAttribution(net).attribute, SERFIQ(net), SERFIQ(net).assess):
        with pytest.raises(UnusableImagesError) as raised:
            method(images)
        assert raised.value.indices == (3,)


def test_an_error_survives_pickling():
    error = UnusableImagesError([1, 2], 5, "A problem", "Advice.")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.indices) == (str(error), (1, 2))
    assert str(error) == "A problem (images 1, 2 of a batch of 5, counted from 0). Advice."


def test_batch_statistics_in_the_trunk_are_refused(images):
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4), norm, nn.ReLU(), nn.Flatten(), nn.Linear(512, 16))
    for batch in (images, images[:1]):
        with pytest.raises(EmbeddingLayerError, match="running statistics"):
            PixelQualityAttribution(net.eval()).attribute(batch)


def one_weight(net):
    features = net.act(net.conv(net.first(IMAGES)))
    net.fc.weight.data[3, int(features[0].argmax())] += 0.5


def another_shape():
    return nn.Sequential(nn.Linear(512, 32), nn.BatchNorm1d(32), nn.Linear(32, 16)).eval()


CHANGES = {
    "replaced": lambda net: setattr(net, "fc", nn.Linear(512, 16)),
    "another shape": lambda net: setattr(net, "fc", another_shape()),
    "renamed": lambda net: nn.Sequential(Net(bias=False)).eval(),
    "data": lambda net: net.fc.weight.data.copy_(normal(16, 512)),
    "one weight": one_weight,
    "loaded": lambda net: net.load_state_dict(
        {k: 2 * v.flip(0) for k, v in net.state_dict().items()}
    ),
    "bias": lambda net: net.fc.bias.data.add_(1),
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", CHANGES)
def test_nothing_outlives_the_weights_it_was_made_of(images, kind, estimator):
    net = Net().eval()
    plq = PixelQualityAttribution(SERFIQ(net, estimator=estimator))
    serfiq = plq.quality_model.serfiq
    before = plq.attribute(images, return_quality=True)
    changed = CHANGES[kind](net)
    if kind == "renamed":
        serfiq.model = changed
    after = plq.attribute(images, return_quality=True)
    fresh = SERFIQ(serfiq.model, estimator=estimator)
    expected = PixelQualityAttribution(fresh).attribute(images, return_quality=True)
    for a, b, c in zip(after, expected, before, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
