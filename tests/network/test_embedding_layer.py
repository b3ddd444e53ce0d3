"""The embedding layer is found in the networks people use, and refused where there is none."""

import re

import pytest
import timm
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.errors import UnusableImagesError
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.network.embedding_layer import EmbeddingLayerError, select_embedding
from tests.conftest import assert_untouched, in_mixed_state, snapshot
from tests.support import architectures as arch
from tests.support import packings
from tests.support.architectures import DIM, build, faces


def found(model, *inputs, layer=None, output=None):
    """The layer's name; model and images, in a state of all sorts, are left in it."""
    before = snapshot(in_mixed_state(model))
    images, flags = inputs[0], (inputs[0].requires_grad, inputs[0].grad)
    pixels = images.clone()
    try:
        return SERFIQ(model, embedding_layer=layer, output=output).prepare(*inputs)
    finally:
        assert_untouched(before, model)
        assert torch.equal(images, pixels)
        assert (images.requires_grad, images.grad) == flags


def refused(model, *inputs, error=EmbeddingLayerError, **options):
    """What the error says."""
    images = (inputs or (faces(),))[0].requires_grad_()
    with pytest.raises(error) as caught:
        found(model, images, *inputs[1:], **options)
    return str(caught.value)


# --- found ---------------------------------------------------------------------------------

FOUND = [
    (arch.IResNet, None, "fc"),
    (arch.AdaFace, 0, "output_layer.3"),
    (arch.LowRankHead, None, "fc.0"),
    (arch.QualityHead, 0, "fc"),
    (arch.QualityHead, 1, "qs"),
    (arch.CoveringConv, None, "cover"),
    (arch.PointwiseConv, None, "conv"),
    (arch.UnitLength, None, "fc"),
    (arch.FunctionalDropout, None, "fc"),
    (arch.KeywordCalled, None, "fc"),
    (arch.InplaceEnd, None, "fc"),
    (arch.BottleneckMLP, None, "fc.1"),  # in place, so the memory is that of a low-rank pair
]


@pytest.mark.parametrize(
    ("make", "output", "name"), FOUND, ids=[f"{m.__name__}-{o}" for m, o, _ in FOUND]
)
def test_finds_the_last_linear_map(make, output, name):
    net = build(make)
    for images in (faces(4), faces(1)):
        assert found(net, images, output=output) == name
    net.requires_grad_(False).eval()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert SERFIQ(net, output=output).prepare(faces().clone()) == name


def test_finds_layers_without_a_class_around_them():
    net = nn.Sequential(arch.trunk(), nn.Flatten(), nn.Linear(128, 8), nn.BatchNorm1d(8))
    assert found(net.double(), faces()) == "2"
    vectors = torch.randn(3, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert found(nn.Linear(12, 5).double(), vectors) == ""


@pytest.mark.parametrize(
    ("between", "dim", "name"), [(128, 200, "fc2"), (DIM, DIM, "fc2"), (DIM - 1, DIM, "fc1")]
)
def test_of_two_linears_the_first_only_if_low_rank(between, dim, name):
    assert found(build(arch.TwoLinears, between, dim), faces()) == name


def test_further_inputs_are_passed_on():
    def run(net, x, ids, scale, shift):
        return net.fc(net.flat(x) * scale + net.camera(ids)) + shift

    net = build(arch.Changed, run, camera=nn.Embedding(4, 128))
    more = (torch.tensor([0, 1, 2]), torch.ones(3, 1, dtype=torch.float64), 2.0)
    assert found(net, faces(), *more) == "fc"
    with torch.inference_mode():
        assert SERFIQ(net).prepare(faces().clone(), *more) == "fc"


def test_a_named_layer_is_taken_as_it_is():
    assert found(build(arch.TwoLinears), faces(), layer="fc1") == "fc1"
    assert found(build(arch.TwoLinears), faces(), layer="trunk") == "trunk"


def test_is_located_once_on_two_images_and_again_where_shapes_or_forward_change():
    net, seen = build(arch.TwoLinears, 128), []
    net.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    serfiq, images = SERFIQ(net), faces(6)
    assert serfiq.prepare(images) == "fc2"
    assert set(seen) == {2}
    assert len(seen) <= 6
    seen.clear()
    assert serfiq.prepare(images) == "fc2"
    assert not seen
    net.fc1, net.fc2 = nn.Linear(128, 4).double(), nn.Linear(4, DIM).double()
    assert serfiq.prepare(images) == "fc1"  # a low-rank pair
    net.forward = lambda x: net.fc2(net.trunk(x).flatten(1)[:, :4])
    assert serfiq.prepare(images) == "fc2"


def test_a_face_model_states_its_layer_and_all_heed_it():
    spec = ModelSpec("net", (32, 32), (0.0,) * 3, (255.0,) * 3, embedding_layer="pool")
    silent, images = build(arch.ResidualEnd), 255 * (faces() + 1)
    stating = FaceModel(silent, spec)
    stated = PixelQualityAttribution(stating).attribute(images)
    named = SERFIQ(stating, embedding_layer="backbone.pool")
    assert torch.equal(stated, PixelQualityAttribution(named).attribute(images))
    assert SERFIQ(stating, embedding_layer="backbone.relu").prepare(images) == "backbone.relu"


# --- refused -------------------------------------------------------------------------------


def headless_vit():
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, depth=2).eval()


@pytest.mark.parametrize(
    ("make", "candidates"),
    [
        (headless_vit, ["blocks.1", "norm", "fc_norm"]),
        (lambda: build(arch.ResidualEnd).float(), ["pool", "flatten"]),
    ],
    ids=["ViT", "residual"],
)
def test_names_what_serves_if_a_skip_leads_around_the_last_layer(make, candidates):
    net, images = make(), faces().float()
    message = refused(net, images)
    assert "Another path leads around" in message
    assert "embedding_layer=NAME" in message
    net.eval()
    for name in candidates:
        assert f" {name}: " in message
        clean, stochastic = SERFIQ(net, embedding_layer=name, passes=6).embeddings(images)
        torch.testing.assert_close(clean, net(images), rtol=1e-5, atol=1e-5)
        assert stochastic.shape == (3, 6, clean.shape[1])
        assert (stochastic.std(1) > 0).any()


def changed(run, **parts):
    return lambda: arch.Changed(run, **parts)


REFUSED = {
    "no linear module": (arch.FunctionalLinear, {}, "ran no Linear or convolution module"),
    "a functional one behind": (
        changed(lambda n, x: n.fc(n.flat(x)) @ n.mix, mix=nn.Parameter(torch.eye(DIM) + 0.1)),
        {},
        "'mix' by a functional call",
    ),
    "twice": (arch.FlipTwice, {}, r"'fc' \(Linear\) ran 2 times"),
    "twice in one batch": (arch.FlipInBatch, {}, "saw 4 rows for 2 images"),
    "random": (arch.AlwaysRandom, {}, "random in evaluation mode"),
    "detached output": (lambda: arch.Cut("output"), {}, "cuts the gradient"),
    "under no_grad": (lambda: arch.Cut("no_grad"), {}, "cuts the gradient"),
    "bypassed": (
        changed(lambda n, x: (n.fc(n.flat(x)), x.flatten(1))),
        {"output": 1},
        "depends on none of the linear layers",
    ),
    "unknown name": (arch.Head, {"layer": "fc.weight"}, r"'fc\.weight'.*'fc'"),
    "around a named one": (arch.ResidualEnd, {"layer": "block.0.0"}, "leads around 'block.0.0'"),
    "no tensor": (
        changed(lambda n, x: n.fc(n.pair((n.flat(x), x))[0]), pair=nn.Identity()),
        {"layer": "pair"},
        "returns a tuple, not a tensor",
    ),
    "mixes rows": (arch.MixesRows, {}, "mixes the rows"),
    "frames": (lambda: arch.AveragesFrames(2), {}, "other images of its batch"),
    "features of frames": (lambda: arch.AveragesFeatures(2), {}, ""),
    "an open choice": (arch.QualityHead, {}, r"2 tensors \[0, 1\].*output=0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_models_that_would_be_silently_wrong_are_refused(kind):
    make, options, words = REFUSED[kind]
    assert re.search(words, refused(build(make), faces(4), **options))


def test_models_are_refused_with_one_image_and_frozen_too():
    assert "mixes the rows" in refused(build(arch.MixesRows), faces(1))
    mixes = build(arch.Changed, lambda n, x, gain: n.mixes(x) * gain.mean(), mixes=arch.MixesRows())
    with pytest.warns(UserWarning, match="change the embeddings of the others"):
        SERFIQ(mixes).prepare(faces(), torch.ones(3, 1))  # each pass by itself
    frozen = build(arch.Cut, "no_grad").requires_grad_(False)
    with pytest.raises(EmbeddingLayerError, match="cuts the gradient"):
        SERFIQ(frozen).prepare(faces())


def test_the_models_own_errors_pass_and_nan_embeddings_name_their_images():
    assert "own" in refused(build(arch.Changed, lambda n, x: {}["own"]), error=KeyError)
    with pytest.raises(UnusableImagesError) as raised:
        SERFIQ(build(arch.Changed, lambda n, x: n.fc(n.flat(x)) + torch.nan)).prepare(faces())
    assert raised.value.indices == (0, 1)


def test_parameters_made_in_inference_mode_are_refused():
    with torch.inference_mode():
        net = build(arch.Head)
    with pytest.raises(EmbeddingLayerError, match="inference mode"):
        SERFIQ(net)(faces())


# --- which part of the output is the embedding ---------------------------------------------

X = torch.arange(6.0).view(2, 3)
PARTS = {**packings.PACKINGS, **{f"lone {k}": (f, None) for k, f in packings.LONE.items()}}


@pytest.mark.parametrize("kind", PARTS)
def test_selects_the_embedding(kind):
    pack, selector = PARTS[kind]
    assert torch.equal(select_embedding(pack(X), selector), X)
    if kind in ("dataclass", "function", "lone list"):
        assert found(build(packings.Packed, pack), faces(), output=selector) == "fc"


@pytest.mark.parametrize(
    ("output", "selector", "words"),
    [
        ((X, X + 1), None, r"tuple with 2 tensors \[0, 1\]"),
        ({"a": X, "n": 1, "b": X + 1}, None, r"dict with 2 tensors \['a', 'b'\]"),
        (packings.NamedOutput(X, X + 1), None, r"\['feature', 'norm'\]"),
        (packings.Output(X, norm=X + 1), None, r"Output with 2 tensors \['feature', 'norm'\]"),
        ([1, "a"], None, "without a tensor in it"),
        (None, None, "without a tensor in it"),
        ((X, X + 1), 2, "has no part 2"),
        ((X, X + 1), -3, "has no part -1"),
        (packings.Output(X), "embedding", "has no part 'embedding'"),
        (X, 0, "has no part 0"),
        (("a", X), 0, "not a batch of embeddings"),
        ({"a": torch.tensor(1.0)}, None, "not a batch of embeddings"),
        (X, lambda x: x.tolist(), "not a batch of embeddings"),
    ],
)
def test_an_open_or_wrong_choice_is_refused(output, selector, words):
    with pytest.raises(EmbeddingLayerError, match=words):
        select_embedding(output, selector)
    assert select_embedding((X, X + 1), -1) is not X
