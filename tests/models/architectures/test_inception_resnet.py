"""InceptionResnetV1 against the published layout of its weights, and an oracle on them."""

import copy

import pytest
import torch
import torch.nn.functional as F

from captum_plq import SERFIQ
from captum_plq.models import INCEPTION_RESNET_V1_SPEC, FaceModel, InceptionResnetV1
from tests.models.architectures.test_iresnet import (
    batchnorm,
    flops,
    on_meta,
    random_checkpoint,
    random_images,
    shapes_in,
)

# Weights of facenet-pytorch: each of these has `conv.weight` and the five entries of `bn`.
STEM = {
    "conv2d_1a": (32, 3, 3, 3),
    "conv2d_2a": (32, 32, 3, 3),
    "conv2d_2b": (64, 32, 3, 3),
    "conv2d_3b": (80, 64, 1, 1),
    "conv2d_4a": (192, 80, 3, 3),
    "conv2d_4b": (256, 192, 3, 3),
}
BLOCK_35 = {
    "branch0": (32, 256, 1, 1),
    "branch1.0": (32, 256, 1, 1),
    "branch1.1": (32, 32, 3, 3),
    "branch2.0": (32, 256, 1, 1),
    "branch2.1": (32, 32, 3, 3),
    "branch2.2": (32, 32, 3, 3),
}
MIXED_6A = {
    "branch0": (384, 256, 3, 3),
    "branch1.0": (192, 256, 1, 1),
    "branch1.1": (192, 192, 3, 3),
    "branch1.2": (256, 192, 3, 3),
}
BLOCK_17 = {
    "branch0": (128, 896, 1, 1),
    "branch1.0": (128, 896, 1, 1),
    "branch1.1": (128, 128, 1, 7),
    "branch1.2": (128, 128, 7, 1),
}
MIXED_7A = {
    "branch0.0": (256, 896, 1, 1),
    "branch0.1": (384, 256, 3, 3),
    "branch1.0": (256, 896, 1, 1),
    "branch1.1": (256, 256, 3, 3),
    "branch2.0": (256, 896, 1, 1),
    "branch2.1": (256, 256, 3, 3),
    "branch2.2": (256, 256, 3, 3),
}
BLOCK_8 = {
    "branch0": (192, 1792, 1, 1),
    "branch1.0": (192, 1792, 1, 1),
    "branch1.1": (192, 192, 1, 3),
    "branch1.2": (192, 192, 3, 1),
}
# ... and each of these, besides its branches, `conv2d.weight` and `conv2d.bias`.
RESIDUALS = {
    **{f"repeat_1.{i}": (BLOCK_35, (256, 96, 1, 1)) for i in range(5)},
    **{f"repeat_2.{i}": (BLOCK_17, (896, 256, 1, 1)) for i in range(10)},
    **{f"repeat_3.{i}": (BLOCK_8, (1792, 384, 1, 1)) for i in range(5)},
    "block8": (BLOCK_8, (1792, 384, 1, 1)),
}
CLASSIFIER = {"logits.weight": (8631, 512), "logits.bias": (8631,)}


def published_shapes():
    convolutions = dict(STEM)
    shapes = {}
    for name, (branches, joined) in RESIDUALS.items():
        convolutions |= {f"{name}.{branch}": shape for branch, shape in branches.items()}
        shapes |= {f"{name}.conv2d.weight": joined, f"{name}.conv2d.bias": joined[:1]}
    convolutions |= {f"mixed_6a.{branch}": shape for branch, shape in MIXED_6A.items()}
    convolutions |= {f"mixed_7a.{branch}": shape for branch, shape in MIXED_7A.items()}
    for name, shape in convolutions.items():
        shapes |= {f"{name}.conv.weight": shape, **batchnorm(f"{name}.bn", shape[0])}
    return {**shapes, "last_linear.weight": (512, 1792), **batchnorm("last_bn", 512)}


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return InceptionResnetV1().eval()


@pytest.fixture(scope="module")
def checkpoint():
    return random_checkpoint(published_shapes())


def oracle(state, x):
    """Inception-ResNet-v1 written out from the paper's figures, on the published names."""

    def normed(name, x):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        z = (x - mean.view(shape)) / (var.view(shape) + 0.001).sqrt()
        return z * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)

    def conv(name, x, stride=1, padding=0):
        y = F.conv2d(x, state[f"{name}.conv.weight"], stride=stride, padding=padding)
        return normed(f"{name}.bn", y).clamp(min=0)

    def add(name, x, branches, scale):
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        return x + scale * F.conv2d(torch.cat(branches, 1), weight, bias)

    def block8(name, x, scale):
        y = conv(f"{name}.branch1.1", conv(f"{name}.branch1.0", x), padding=(0, 1))
        y = conv(f"{name}.branch1.2", y, padding=(1, 0))
        return add(name, x, [conv(f"{name}.branch0", x), y], scale)

    x = conv("conv2d_1a", x, stride=2)
    x = conv("conv2d_2a", x)
    x = conv("conv2d_2b", x, padding=1)
    x = F.max_pool2d(x, 3, 2)
    x = conv("conv2d_3b", x)
    x = conv("conv2d_4a", x)
    x = conv("conv2d_4b", x, stride=2)
    for i in range(5):
        b = f"repeat_1.{i}.branch"
        y = conv(f"{b}1.1", conv(f"{b}1.0", x), padding=1)
        z = conv(f"{b}2.2", conv(f"{b}2.1", conv(f"{b}2.0", x), padding=1), padding=1)
        x = add(f"repeat_1.{i}", x, [conv(f"{b}0", x), y, z], 0.17).clamp(min=0)
    y = conv("mixed_6a.branch1.1", conv("mixed_6a.branch1.0", x), padding=1)
    y = conv("mixed_6a.branch1.2", y, stride=2)
    x = torch.cat([conv("mixed_6a.branch0", x, stride=2), y, F.max_pool2d(x, 3, 2)], 1)
    for i in range(10):
        b = f"repeat_2.{i}.branch"
        y = conv(f"{b}1.1", conv(f"{b}1.0", x), padding=(0, 3))
        y = conv(f"{b}1.2", y, padding=(3, 0))
        x = add(f"repeat_2.{i}", x, [conv(f"{b}0", x), y], 0.10).clamp(min=0)
    w = conv("mixed_7a.branch0.1", conv("mixed_7a.branch0.0", x), stride=2)
    y = conv("mixed_7a.branch1.1", conv("mixed_7a.branch1.0", x), stride=2)
    z = conv("mixed_7a.branch2.1", conv("mixed_7a.branch2.0", x), padding=1)
    z = conv("mixed_7a.branch2.2", z, stride=2)
    x = torch.cat([w, y, z, F.max_pool2d(x, 3, 2)], 1)
    for i in range(5):
        x = block8(f"repeat_3.{i}", x, 0.20).clamp(min=0)
    x = block8("block8", x, 1.0)
    x = normed("last_bn", x.mean(dim=(2, 3)) @ state["last_linear.weight"].T)
    return x / x.norm(dim=1, keepdim=True)


def test_a_checkpoint_of_facenet_pytorch_loads_and_gives_what_it_should(checkpoint):
    network = on_meta(InceptionResnetV1)
    network.load_state_dict(checkpoint, strict=True, assign=True)
    images = random_images(2, 160)
    with torch.no_grad():
        embeddings = network(images)
        torch.testing.assert_close(embeddings, oracle(checkpoint, images), rtol=1e-9, atol=1e-10)
    assert not torch.allclose(embeddings[0], embeddings[1], atol=1e-3)  # nor a constant


def test_names_and_shapes(checkpoint):
    assert len(published_shapes()) == 714
    assert shapes_in(on_meta(InceptionResnetV1)) == published_shapes()


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_classifier_of_a_checkpoint_is_dropped(checkpoint, wrapped):
    network = on_meta(InceptionResnetV1)
    module = FaceModel(network, INCEPTION_RESNET_V1_SPEC) if wrapped else network
    prefix = "backbone." if wrapped else ""
    state = {**checkpoint, **{key: torch.zeros(shape) for key, shape in CLASSIFIER.items()}}
    state = {prefix + key: value for key, value in state.items()}
    module.load_state_dict(state, strict=True, assign=True)
    assert not any("logits" in key for key in module.state_dict())
    assert prefix + "logits.weight" in state  # the caller's dictionary is left alone
    with pytest.raises(RuntimeError, match="Unexpected key"):
        module.load_state_dict({**state, prefix + "logits_2.weight": torch.zeros(1)})


# facenet-20180408-102900 in OpenVINO's Open Model Zoo: 23.469 million parameters, the
# batch normalisations folded, and 2.846 GFLOPs, elementwise operations included.
def test_numbers_of_parameters_and_operations():
    network = on_meta(InceptionResnetV1)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == 23_482_624
    assert parameters == pytest.approx(23.469e6, rel=0.001)
    assert flops(network, 160) == pytest.approx(2.846e9, rel=0.005)


def test_embeds_a_batch_at_unit_length(network):
    images = random_images(2, 160, torch.float32)
    with torch.no_grad():
        embeddings = network(images)
        torch.testing.assert_close(network(images[1:]), embeddings[1:], rtol=1e-4, atol=1e-5)
    assert embeddings.shape == (2, 512)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_maps_have_the_published_sizes():
    network = on_meta(InceptionResnetV1)
    sizes = []
    for name in ("conv2d_1a", "repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "block8"):
        getattr(network, name).register_forward_hook(lambda *args: sizes.append(args[2].shape[1:]))
    network(torch.zeros(1, 3, 160, 160, device="meta"))
    groups = [(896, 8, 8)] * 2 + [(1792, 3, 3)] * 2
    assert sizes == [(32, 79, 79), (256, 17, 17), *groups]


def test_serfiq_finds_the_embedding_layer(network):
    model = FaceModel(network, INCEPTION_RESNET_V1_SPEC)
    serfiq = SERFIQ(model, passes=2)
    with torch.no_grad():
        quality = serfiq(127.5 + 127.5 * random_images(2, 160, torch.float32))
    assert ((quality > 0) & (quality < 1)).all()
    assert serfiq.tap.layer_name == "backbone.last_linear"
    layer = INCEPTION_RESNET_V1_SPEC.embedding_layer
    assert model.backbone.get_submodule(layer) is network.last_linear


def test_state_dict_round_trip_and_copy(network):
    other = InceptionResnetV1().eval()
    images = random_images(1, 160, torch.float32)
    with torch.no_grad():
        assert not torch.equal(other(images), network(images))
        other.load_state_dict(copy.deepcopy(network.state_dict()))
        assert torch.equal(other(images), network(images))
        assert torch.equal(copy.deepcopy(other)(images), network(images))


def test_width_and_dropout_can_be_chosen():
    network = on_meta(lambda: InceptionResnetV1(embedding_size=128, dropout=0.2))
    assert network(torch.zeros(3, 3, 160, 160, device="meta")).shape == (3, 128)
    assert network.dropout.p == 0.2
    assert on_meta(InceptionResnetV1).dropout.p == 0.6


def test_spec_has_no_numbers_measured_on_another_network():
    assert (INCEPTION_RESNET_V1_SPEC.scaling, INCEPTION_RESNET_V1_SPEC.gamma) == (None, None)
