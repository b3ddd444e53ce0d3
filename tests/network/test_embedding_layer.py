"""The embedding layer is found in the networks people use, and refused where there is none."""

import functools
import importlib.util
import warnings
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.errors import UnusableImagesError
from captum_plq.functional.masks import DropoutMasks
from captum_plq.models import FaceModel, ModelSpec
from captum_plq.network.embedding_layer import (
    EmbeddingLayerError,
    find_embedding_layer,
    select_embedding,
)
from captum_plq.network.tap import EmbeddingTap
from tests.conftest import SHARED_DATA, assert_untouched, snapshot
from tests.support import architectures as arch
from tests.support.architectures import DIM, build, faces

REFERENCE_NETS = SHARED_DATA / "weights" / "reference_nets.py"


def locate(model, images, *more, layer=None, output=None):
    return EmbeddingTap(layer, output).locate(model, (images, *more))


def count_hooks(model):
    kinds = (
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
        "_backward_hooks",
        "_backward_pre_hooks",
    )
    return [len(getattr(m, kind)) for m in model.modules() for kind in kinds]


# --- found ---------------------------------------------------------------------------------

PUBLISHED = [
    (arch.IResNet, None, "fc"),
    (arch.InceptionResnetV1, None, "last_linear"),
    (arch.AdaFace, 0, "output_layer.3"),
    (arch.MobileFaceNet, None, "linear"),
    (arch.LowRankHead, None, "fc.0"),
    (arch.QualityHead, 0, "fc"),
]
OTHERS = [
    (arch.CoveringConv, None, "cover"),
    (arch.PointwiseConv, None, "conv"),
    (arch.Head, None, "fc"),
    (arch.BatchNormTail, None, "fc"),
    (arch.UnitLength, None, "fc"),
    (arch.FunctionalDropout, None, "fc"),
    (arch.KeywordCalled, None, "fc"),
    (arch.InplaceEnd, None, "fc"),
]


def named(cases):
    return [pytest.param(*case, id=case[0].__name__) for case in cases]


@pytest.mark.parametrize(("make", "output", "name"), named(PUBLISHED + OTHERS))
@pytest.mark.parametrize("count", [1, 4])
def test_finds_the_last_linear_map(make, output, name, count):
    assert locate(build(make), faces(count), output=output) == name


@pytest.mark.parametrize(("make", "output", "name"), named(PUBLISHED))
def test_finds_the_same_layer_in_training_mode_and_frozen(make, output, name):
    net = build(make).train()
    assert locate(net, faces(), output=output) == name
    assert locate(net.requires_grad_(False), faces(), output=output) == name


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_finds_the_layer_without_autograd(mode):
    net = build(arch.IResNet)
    with mode():
        assert locate(net, faces().clone()) == "fc"


TIMM = [
    ("resnet18", 32, {}, "fc"),
    ("mobilenetv3_small_100", 32, {}, "classifier"),
    ("efficientnet_b0", 32, {}, "classifier"),
    ("convnext_atto", 32, {}, "head.fc"),
    ("vit_tiny_patch16_224", 32, {"img_size": 32}, "head"),
    ("swin_tiny_patch4_window7_224", 32, {"img_size": 32}, "head.fc"),
    ("edgenext_xx_small", 32, {}, "head.fc"),
]


@pytest.mark.parametrize(("name", "size", "options", "layer"), TIMM, ids=[t[0] for t in TIMM])
def test_finds_the_head_of_a_timm_model(name, size, options, layer):
    net = timm.create_model(name, pretrained=False, num_classes=128, **options).eval()
    assert locate(net, faces(2, size).float()) == layer


@functools.cache
def reference(name):
    if not REFERENCE_NETS.exists():
        pytest.skip(f"{REFERENCE_NETS} is not there: real networks are not part of the project")
    spec = importlib.util.spec_from_file_location("reference_nets", REFERENCE_NETS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name)


@pytest.mark.parametrize("name", ["mobilefacenet_y1", "mobilefacenet_foamliu", "edgeface_xs"])
def test_finds_the_head_of_a_real_face_network(name):
    net = reference(name)
    images = 255 * torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    assert locate(net, images) == "head.fc"


def test_finds_a_layer_in_a_plain_sequential():
    net = nn.Sequential(arch.trunk(), nn.Flatten(), nn.Linear(128, 8), nn.BatchNorm1d(8))
    assert locate(net.double().eval(), faces()) == "2"


def test_finds_a_bare_linear_layer():
    net = nn.Linear(12, 5).double()
    assert locate(net, torch.ones(3, 12, dtype=torch.float64)) == ""


@pytest.mark.parametrize(
    ("between", "name"),
    [(128, "fc2"), (200, "fc2"), (64, "fc2"), (DIM, "fc2"), (DIM - 1, "fc1"), (2, "fc1")],
)
def test_of_two_linears_the_first_only_if_low_rank(between, name):
    assert locate(build(arch.TwoLinears, between), faces()) == name


def test_an_in_place_activation_breaks_a_low_rank_pair():
    assert locate(build(arch.BottleneckMLP), faces()) == "fc.1"


def test_a_quality_head_behind_the_embedding_is_not_chosen():
    net = build(arch.QualityHead)
    assert locate(net, faces(), output=0) == "fc"
    assert locate(net, faces(), output=1) == "qs"  # unless it is what was asked for


@pytest.mark.parametrize(("pack", "selector"), arch.PACKINGS.values(), ids=arch.PACKINGS)
def test_finds_the_layer_whatever_the_model_returns(pack, selector):
    assert locate(build(arch.Packed, pack), faces(), output=selector) == "fc"


@pytest.mark.parametrize("pack", arch.LONE.values(), ids=arch.LONE)
def test_finds_the_layer_if_the_model_returns_one_tensor(pack):
    assert locate(build(arch.Packed, pack), faces()) == "fc"


def test_further_inputs_are_passed_on_and_cut_with_the_images():
    class Conditioned(arch.Head):
        def forward(self, x, scale, shift):
            return self.fc(self.flat(x) * scale) + shift

    images = faces(5)
    scale = torch.ones(5, 1, dtype=images.dtype)
    assert locate(build(Conditioned), images, scale, 2.0) == "fc"


def test_integer_inputs_made_in_inference_mode_serve():
    class WithIds(arch.Head):
        def __init__(self):
            super().__init__()
            self.camera = nn.Embedding(4, 128)

        def forward(self, x, ids):
            return self.fc(self.flat(x) + self.camera(ids))

    net = build(WithIds)
    with torch.inference_mode():
        assert locate(net, faces().clone(), torch.tensor([0, 1, 2])) == "fc"


def test_a_named_layer_is_taken_as_it_is():
    net = build(arch.TwoLinears)
    assert locate(net, faces(), layer="fc1") == "fc1"
    assert locate(net, faces(), layer="trunk") == "trunk"


def test_is_located_once_and_for_all():
    tap, net = EmbeddingTap(), build(arch.IResNet)
    runs = []
    net.register_forward_hook(lambda *_: runs.append(1))
    assert tap.locate(net, (faces(),)) == "fc"
    first = len(runs)
    assert first <= 6
    assert tap.locate(net, (faces(),)) == "fc"
    assert len(runs) == first


def test_locating_looks_at_no_more_than_two_images():
    seen = []
    net = build(arch.IResNet)
    net.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    locate(net, faces(6))
    assert set(seen) == {2}


def test_find_embedding_layer_by_itself():
    net = build(arch.AdaFace)
    assert find_embedding_layer(net, (faces().requires_grad_(),), 0) == "output_layer.3"


# --- refused -------------------------------------------------------------------------------


def refused(model, *inputs, layer=None, output=None):
    with pytest.raises(EmbeddingLayerError) as caught:
        EmbeddingTap(layer, output).locate(model, inputs or (faces(),))
    return str(caught.value)


def test_the_error_is_a_value_error():
    assert issubclass(EmbeddingLayerError, ValueError)


HEADLESS = [
    pytest.param(
        lambda: timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).eval(),
        ["norm", "fc_norm"],
        id="ViT without a head",
    ),
    pytest.param(lambda: build(arch.ResidualEnd).float(), ["pool", "flatten"], id="residual end"),
]


@pytest.mark.parametrize(("make", "candidates"), HEADLESS)
def test_names_candidates_if_a_skip_leads_around_the_last_layer(make, candidates):
    net, images = make(), faces().float()
    message = refused(net, images)
    assert "Another path leads around" in message
    assert "embedding_layer=NAME" in message
    for name in candidates:
        assert f" {name}: " in message
        tap = EmbeddingTap(name)
        clean, stochastic = tap.run(net, (images,), DropoutMasks(6))
        torch.testing.assert_close(clean, net(images), rtol=1e-5, atol=1e-5)
        assert stochastic.shape == (3, 6, clean.shape[1])
        assert (stochastic.std(1) > 0).any()


def test_no_linear_module():
    message = refused(build(arch.FunctionalLinear))
    assert "ran no Linear or convolution module" in message
    assert "F.linear" in message


def test_a_scripted_module():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(build(arch.IResNet))
        traced = torch.jit.trace(build(arch.IResNet), faces())
    assert "scripted" in refused(scripted)
    assert "scripted" in refused(traced)


def test_a_layer_that_runs_twice():
    assert "'fc' (Linear) ran 2 times" in refused(build(arch.FlipTwice))
    assert "'fc' (Linear) ran 2 times" in refused(build(arch.FlipTwice), layer="fc")


@pytest.mark.parametrize("layer", [None, "fc"])
def test_a_model_that_is_always_random(layer):
    assert "random in evaluation mode" in refused(build(arch.AlwaysRandom), layer=layer)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("where", ["output", "input", "no_grad"])
def test_a_model_that_cuts_the_gradient(where, frozen):
    net = build(arch.Cut, where).requires_grad_(not frozen)
    assert "cuts the gradient" in refused(net)


def test_an_embedding_that_is_not_a_number():
    class NotANumber(arch.Head):
        def forward(self, x):
            embedding = super().forward(x)
            return embedding / embedding.norm(dim=1, keepdim=True).sub(1e9).sqrt()

    with pytest.raises(UnusableImagesError) as raised:
        EmbeddingTap().locate(build(NotANumber), (faces(),))
    assert raised.value.indices == (0, 1)


def test_a_selected_output_that_bypasses_all_layers():
    class Raw(arch.Head):
        def forward(self, x):
            return super().forward(x), x.flatten(1)

    assert "depends on none of the linear layers" in refused(build(Raw), output=1)


@pytest.mark.parametrize("pack", [p for p, _ in arch.PACKINGS.values()][:5])
def test_an_output_of_two_tensors_needs_a_selector(pack):
    message = refused(build(arch.Packed, pack))
    assert "2 tensors" in message
    assert "output=" in message


@pytest.mark.parametrize("selector", [3, "embedding", lambda out: None, lambda out: out[0].sum()])
def test_a_wrong_selector(selector):
    refused(build(arch.Packed, lambda x: (x, arch.norm_of(x))), output=selector)


def test_a_selector_for_a_plain_tensor():
    assert "has no part 0" in refused(build(arch.Head), output=0)


@pytest.mark.parametrize("name", ["head", "fc.weight", "trunk.7", "."])
def test_an_unknown_layer_name_lists_the_known_ones(name):
    message = refused(build(arch.Head), layer=name)
    assert repr(name) in message
    assert "'fc'" in message


def test_a_named_layer_that_does_not_run():
    net = build(arch.Head)
    net.auxiliary = nn.Linear(3, 3).double()
    assert "'auxiliary' (Linear) ran 0 times" in refused(net, layer="auxiliary")


def test_a_named_layer_that_a_skip_leads_around():
    message = refused(build(arch.ResidualEnd), layer="block.0.0")
    assert "Another path leads around 'block.0.0'" in message


def test_a_named_layer_that_returns_no_tensor():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    net = build(arch.Head)
    net.trunk = nn.Sequential(net.trunk, Pair())
    net.flat = lambda x: net.trunk(x)[0].flatten(1)
    assert "returns a tuple, not a tensor" in refused(net, layer="trunk.1")


# --- select_embedding ----------------------------------------------------------------------

X = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(("pack", "selector"), arch.PACKINGS.values(), ids=arch.PACKINGS)
def test_selects_from(pack, selector):
    assert torch.equal(select_embedding(pack(X), selector), X)


@pytest.mark.parametrize("pack", arch.LONE.values(), ids=arch.LONE)
def test_selects_the_only_tensor_of(pack):
    assert select_embedding(pack(X)) is X


def test_selects_a_tensor_as_it_is():
    assert select_embedding(X) is X


@pytest.mark.parametrize(
    ("output", "keys"),
    [
        ((X, X + 1), "[0, 1]"),
        ({"a": X, "b": X + 1}, "['a', 'b']"),
        (OrderedDict(a=X, n=1, b=X + 1), "['a', 'b']"),
        (arch.NamedOutput(X, X + 1), "['feature', 'norm']"),
        (arch.Output(X, norm=X + 1), "['feature', 'norm']"),
    ],
)
def test_an_open_choice_names_the_choices(output, keys):
    with pytest.raises(EmbeddingLayerError) as caught:
        select_embedding(output)
    assert keys in str(caught.value)
    assert type(output).__name__ in str(caught.value)


@pytest.mark.parametrize("output", [(), {}, [1, "a"], None, "text", SimpleNamespace(a=X)])
def test_an_output_without_a_tensor_in_sight(output):
    with pytest.raises(EmbeddingLayerError, match="without a tensor in it"):
        select_embedding(output)


@pytest.mark.parametrize(
    ("output", "selector"),
    [
        ((X, X + 1), 2),
        ((X, X + 1), "feature"),
        ({"a": X}, "b"),
        (arch.Output(X), "embedding"),
        (SimpleNamespace(a=X), "a"),
        (X, 0),
    ],
)
def test_an_unknown_part_is_refused(output, selector):
    with pytest.raises(EmbeddingLayerError, match="has no part"):
        select_embedding(output, selector)


@pytest.mark.parametrize(
    ("output", "selector"),
    [
        (("a", X), 0),
        (arch.Output(X), "norm"),
        ({"a": torch.tensor(1.0)}, None),
        (torch.tensor(1.0), None),
        (X, lambda x: x.sum()),
        (X, lambda x: x.tolist()),
    ],
)
def test_what_is_no_batch_of_embeddings_is_refused(output, selector):
    with pytest.raises(EmbeddingLayerError, match="not a batch of embeddings"):
        select_embedding(output, selector)


# --- nothing stays behind ------------------------------------------------------------------


def mixed_flags(net):
    """Some modules training, some parameters frozen: what must come back is not uniform."""
    net.train()
    for i, module in enumerate(net.modules()):
        module.training = i % 3 != 0
    for i, parameter in enumerate(net.parameters()):
        parameter.requires_grad = i % 2 == 0
    return net


@pytest.mark.parametrize(("make", "output", "_"), named(PUBLISHED + OTHERS))
def test_leaves_the_model_as_it_was(make, output, _):
    net, images = mixed_flags(build(make)), faces()
    before, hooks, pixels = snapshot(net), count_hooks(net), images.clone()
    locate(net, images, output=output)
    assert_untouched(before, net)
    assert count_hooks(net) == hooks
    assert torch.equal(images, pixels)
    assert not images.requires_grad
    assert images.grad is None


FAILING = [
    (arch.AlwaysRandom, {}),
    (arch.FlipTwice, {}),
    (arch.ResidualEnd, {}),
    (arch.FunctionalLinear, {}),
    (arch.MixesRows, {}),
    (arch.AveragesFrames, {}),
    (arch.QualityHead, {}),
    (arch.QualityHead, {"output": 7}),
    (arch.Head, {"layer": "nowhere"}),
    (arch.ResidualEnd, {"layer": "block.0.0"}),
    (arch.AlwaysRandom, {"layer": "fc"}),
]


@pytest.mark.parametrize(
    ("make", "options"), FAILING, ids=[f"{m.__name__}-{o}" for m, o in FAILING]
)
def test_leaves_the_model_as_it_was_when_it_fails(make, options):
    net, images = mixed_flags(build(make)), faces()
    before, hooks = snapshot(net), count_hooks(net)
    refused(net, images, **options)
    assert_untouched(before, net)
    assert count_hooks(net) == hooks
    assert not images.requires_grad
    assert images.grad is None


@pytest.mark.parametrize("make", [lambda: arch.Cut("output"), lambda: arch.Cut("no_grad")])
def test_leaves_no_gradient_on_a_caller_s_leaf(make):
    net, images = build(make), faces().requires_grad_()
    refused(net, images)
    assert images.requires_grad
    assert images.is_leaf
    assert images.grad is None


def test_an_exception_of_the_model_s_own_leaves_nothing_behind():
    class Fails(arch.Head):
        def forward(self, x):
            super().forward(x)
            raise KeyError("own")

    net = mixed_flags(build(Fails))
    before, hooks = snapshot(net), count_hooks(net)
    with pytest.raises(KeyError, match="own"):
        locate(net, faces())
    assert_untouched(before, net)
    assert count_hooks(net) == hooks


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.conv(x))


def test_a_face_model_states_its_layer_and_all_heed_it():
    """A network that ends in a residual block and an average has no linear map that all passes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    images = 255 * torch.rand(2, 3, 32, 32)
    specs = [
        ModelSpec("net", (32, 32), (0.0,) * 3, (255.0,) * 3, embedding_layer=layer)
        for layer in (None, "2")
    ]
    silent, stating = (FaceModel(net, spec).eval() for spec in specs)
    with pytest.raises(EmbeddingLayerError):
        PixelQualityAttribution(silent).attribute(images)
    stated = PixelQualityAttribution(stating).attribute(images)
    named = SERFIQ(silent, embedding_layer="backbone.2")
    assert torch.equal(stated, PixelQualityAttribution(named).attribute(images))
    other = SERFIQ(stating, embedding_layer="backbone.0")
    assert other.tap.locate(stating, (images,)) == "backbone.0"
