"""IResNet against the published layout of its weights, and an oracle that runs on them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from captum_plq import SERFIQ
from captum_plq.models import IRESNET_SPEC, FaceModel, IResNet, iresnet

# Channels in and out of the blocks of insightface's iresnet18; those with a stride of 2, and
# with it a 1x1 convolution around them, are the first of each layer.
BLOCKS_18 = {
    "layer1.0": (64, 64),
    "layer1.1": (64, 64),
    "layer2.0": (64, 128),
    "layer2.1": (128, 128),
    "layer3.0": (128, 256),
    "layer3.1": (256, 256),
    "layer4.0": (256, 512),
    "layer4.1": (512, 512),
}


def batchnorm(name, channels):
    fields = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{name}.{field}": (channels,) for field in fields},
        f"{name}.num_batches_tracked": (),
    }


def shapes_of_iresnet18():
    shapes = {"conv1.weight": (64, 3, 3, 3), "prelu.weight": (64,), **batchnorm("bn1", 64)}
    for name, (i, o) in BLOCKS_18.items():
        shapes |= batchnorm(f"{name}.bn1", i)
        shapes[f"{name}.conv1.weight"] = (o, i, 3, 3)
        shapes |= batchnorm(f"{name}.bn2", o)
        shapes[f"{name}.prelu.weight"] = (o,)
        shapes[f"{name}.conv2.weight"] = (o, o, 3, 3)
        shapes |= batchnorm(f"{name}.bn3", o)
        if name.endswith(".0"):
            shapes[f"{name}.downsample.0.weight"] = (o, i, 1, 1)
            shapes |= batchnorm(f"{name}.downsample.1", o)
    shapes |= batchnorm("bn2", 512)
    shapes |= {"fc.weight": (512, 25088), "fc.bias": (512,)}
    return {**shapes, **batchnorm("features", 512)}


def random_checkpoint(shapes, seed=0):
    """Weights in float64 under which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if len(shape) > 1:
            values /= values[0].numel() ** 0.5
        elif key.endswith(("running_var", "weight")):
            values = 0.5 + values.abs() / 2
        else:
            values /= 4
        state[key] = torch.tensor(7) if key.endswith("num_batches_tracked") else values
    return state


def random_images(count, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.rand(count, 3, size, size, generator=generator, dtype=dtype) - 1


def on_meta(make, *args):
    with torch.device("meta"):
        return make(*args).eval()


def flops(network, size):
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        network(torch.zeros(1, 3, size, size))
    return counter.get_total_flops()


def shapes_in(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.fixture(scope="module")
def small():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return iresnet(18).eval()


def oracle(state, x):
    """insightface's iresnet18 written out: ArcFace's blocks, on the published names."""

    def normed(name, x):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        z = (x - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
        return z * state[f"{name}.weight"].view(shape) + state[f"{name}.bias"].view(shape)

    def bent(name, x):
        return torch.where(x > 0, x, x * state[f"{name}.weight"].view(1, -1, 1, 1))

    x = bent("prelu", normed("bn1", F.conv2d(x, state["conv1.weight"], padding=1)))
    for name in BLOCKS_18:
        stride = 2 if name.endswith(".0") else 1
        y = F.conv2d(normed(f"{name}.bn1", x), state[f"{name}.conv1.weight"], padding=1)
        y = bent(f"{name}.prelu", normed(f"{name}.bn2", y))
        y = F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride, padding=1)
        if stride == 2:
            x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
            x = normed(f"{name}.downsample.1", x)
        x = x + normed(f"{name}.bn3", y)
    x = normed("bn2", x).reshape(len(x), -1)
    return normed("features", x @ state["fc.weight"].T + state["fc.bias"])


def test_a_checkpoint_of_insightface_loads_and_gives_what_it_should():
    state = random_checkpoint(shapes_of_iresnet18())
    assert len(state) == 187
    network = on_meta(iresnet, 18)
    network.load_state_dict(state, strict=True, assign=True)
    images = random_images(1, 112)
    with torch.no_grad():
        embedding = network(images)
        torch.testing.assert_close(embedding, oracle(state, images), rtol=1e-9, atol=1e-9)
    assert embedding.std() > 0.1  # and not a constant


def test_names_and_shapes_of_iresnet18():
    assert shapes_in(on_meta(iresnet, 18)) == shapes_of_iresnet18()


def test_names_and_shapes_of_iresnet100():
    shapes = shapes_in(on_meta(iresnet, 100))
    assert len(shapes) == 925
    last_blocks = {"layer1": 2, "layer2": 12, "layer3": 29, "layer4": 2}
    for layer, last in last_blocks.items():
        assert f"{layer}.{last}.bn3.num_batches_tracked" in shapes
        assert f"{layer}.{last + 1}.bn1.weight" not in shapes
        assert f"{layer}.1.downsample.0.weight" not in shapes
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer2.12.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["layer3.0.bn1.running_mean"] == (128,)
    assert shapes["layer3.29.prelu.weight"] == (256,)
    assert shapes["layer4.0.conv1.weight"] == (512, 256, 3, 3)
    assert shapes["layer4.0.downsample.1.running_var"] == (512,)
    assert shapes["fc.weight"] == (512, 25088)
    assert shapes["features.weight"] == (512,)
    assert shapes_of_iresnet18().items() <= shapes.items()


# Stated elsewhere: 43.59 million for 50 (the teacher of AdaDistill, ECCV 2024); for 34 and 100,
# with the batch normalisations folded, 34.13 and 65.13 million (OpenVINO's Open Model Zoo).
@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(18, 24_025_600), (34, 34_139_328), (50, 43_590_848), (100, 65_156_160), (200, 118_833_920)],
)
def test_number_of_parameters(depth, parameters):
    network = on_meta(iresnet, depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


# 34 and 100: OpenVINO's Open Model Zoo, face-recognition-resnet{34-arcface,100-arcface-onnx},
# elementwise operations included; 50: 6.3 GMACs, two operations each.
@pytest.mark.parametrize(("depth", "gigaflops"), [(34, 8.934), (50, 12.6), (100, 24.2115)])
def test_number_of_operations(depth, gigaflops):
    assert flops(on_meta(iresnet, depth), 112) == pytest.approx(1e9 * gigaflops, rel=0.005)


def test_embeds_a_batch(small):
    images = random_images(2, 112, torch.float32)
    with torch.no_grad():
        embeddings = small(images)
        torch.testing.assert_close(small(images[1:]), embeddings[1:], rtol=1e-4, atol=1e-5)
    assert embeddings.shape == (2, 512)
    assert not torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=0.1)


def test_maps_have_the_published_sizes():
    network = on_meta(iresnet, 18)
    sizes = []
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        getattr(network, name).register_forward_hook(lambda *args: sizes.append(args[2].shape[1:]))
    network(torch.zeros(1, 3, 112, 112, device="meta"))
    assert sizes == [(64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


def test_serfiq_finds_the_embedding_layer(small):
    model = FaceModel(small, IRESNET_SPEC)
    serfiq = SERFIQ(model, passes=2)
    with torch.no_grad():
        quality = serfiq(127.5 + 127.5 * random_images(2, 112, torch.float32))
    assert ((quality > 0) & (quality < 1)).all()
    assert serfiq.tap.layer_name == "backbone.fc"
    assert model.backbone.get_submodule(IRESNET_SPEC.embedding_layer) is small.fc


def test_state_dict_round_trip(small):
    other = iresnet(18).eval()
    images = random_images(1, 112, torch.float32)
    with torch.no_grad():
        assert not torch.equal(other(images), small(images))
        other.load_state_dict(copy.deepcopy(small.state_dict()))
        assert torch.equal(other(images), small(images))


def test_width_and_dropout_can_be_chosen():
    network = on_meta(lambda: IResNet((1, 1, 1, 2), embedding_size=128, dropout=0.4))
    assert network(torch.zeros(3, 3, 112, 112, device="meta")).shape == (3, 128)
    assert network.dropout.p == 0.4
    assert on_meta(iresnet, 50).dropout.p == 0.0


def test_spec_has_no_numbers_measured_on_another_network():
    assert (IRESNET_SPEC.scaling, IRESNET_SPEC.gamma) == (None, None)


def test_unknown_depth():
    with pytest.raises(ValueError, match=r"depth must be one of \[18, 34, 50, 100, 200\], .* 101"):
        iresnet(101)


@pytest.mark.parametrize("layers", [(2, 2, 2), (2, 2, 2, 2, 2), (2, 0, 2, 2)])
def test_wrong_layers(layers):
    with pytest.raises(ValueError, match="layers must be four positive numbers"):
        IResNet(layers)
