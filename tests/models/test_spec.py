"""What `FaceModel` does to images before the network sees them."""

import dataclasses
import re

import pytest
import torch
from torch import nn

from captum_plq.models import FaceModel, ModelSpec

MEAN, STD = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)


def face_model(**changes):
    spec = ModelSpec("mine", (6, 5), mean=MEAN, std=STD, **changes)
    return FaceModel(nn.Identity(), spec)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 6, 5), generator=generator).float()


def test_each_channel_is_normalised_in_the_order_of_the_network(images):
    before = images.clone()
    output = face_model()(images)
    for channel in range(3):
        expected = (images[:, channel] - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(output[:, channel], expected)
    bgr = face_model(channel_order="BGR")(images)
    torch.testing.assert_close(bgr, face_model()(images.flip(1)))
    assert torch.equal(images, before)


def test_the_gradient_is_with_respect_to_rgb_pixels_of_0_to_255(images):
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(face_model(channel_order="BGR")(images).sum(), images)
    expected = torch.tensor(STD).reciprocal().flip(0).view(1, 3, 1, 1).expand_as(gradient)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("shape", [(3, 6, 5), (2, 4, 6, 5), (2, 3, 5, 6)])
def test_wrong_shape(shape):
    told = rf"mine takes images of shape \(B, 3, 6, 5\).* got {re.escape(str(shape))}"
    with pytest.raises(ValueError, match=told):
        face_model()(torch.zeros(shape))


def test_normalisation_follows_the_module_but_is_not_saved():
    model = FaceModel(nn.Conv2d(3, 1, 1), ModelSpec("mine", (6, 5), mean=MEAN, std=STD)).double()
    assert model(torch.zeros(1, 3, 6, 5, dtype=torch.float64)).dtype == torch.float64
    assert set(model.state_dict()) == {"backbone.weight", "backbone.bias"}


def test_spec_is_fixed_and_claims_nothing_by_default():
    spec = face_model().spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "other"
    assert (spec.trained_with_dropout, spec.scaling, spec.gamma, spec.output) == (None,) * 4
    assert {spec.licence_code, spec.licence_weights, spec.source} == {"unknown"}
    assert face_model().embedding_layer is None
    assert face_model(embedding_layer="fc").embedding_layer == "backbone.fc"


@pytest.mark.parametrize(
    ("pack", "output"),
    [
        (lambda e: e, None),
        (lambda e: (e,), None),
        (lambda e: (e[:, 0], e), 1),
        (lambda e: {"quality": e[:, 0], "embedding": e}, "embedding"),
        (lambda e: {"deep": [e[:, 0], (e, 3)]}, lambda out: out["deep"][1][0]),
    ],
)
def test_the_embedding_is_picked_out_of_the_output(images, pack, output):
    network = nn.Identity()
    network.forward = lambda x: pack(x.mean(dim=(2, 3)))
    spec = ModelSpec("mine", (6, 5), mean=(0.0,) * 3, std=(1.0,) * 3, output=output)
    torch.testing.assert_close(FaceModel(network, spec)(images), images.mean(dim=(2, 3)))


def test_an_output_without_a_clear_embedding(images):
    network = nn.Identity()
    network.forward = lambda x: (x, x + 1)
    spec = ModelSpec("mine", (6, 5), mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r"tuple with 2 tensors \[0, 1\]: say which .* output=0"):
        FaceModel(network, spec)(images)
    with pytest.raises(ValueError, match="has no part 2"):
        FaceModel(network, dataclasses.replace(spec, output=2))(images)
