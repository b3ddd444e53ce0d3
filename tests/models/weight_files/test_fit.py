"""Fitting weights to a network: nothing is dropped silently, and errors name the right network."""

import re

import pytest
import timm
import torch
from torch import nn

from captum_plq.models import Architecture, ModelSpec, load_model, load_weights
from captum_plq.models.architecture import known_fits
from captum_plq.models.weight_files.fit import fit_weights, foreign_network
from tests.support import published
from tests.support.checkpoints import on_meta, shapes_in, under, weightless


class Small(nn.Module):
    """With a layer that is called as wrappers are."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 1)
        self.bn = nn.BatchNorm2d(width)
        self.features = nn.Linear(width, 2)


def architecture(name="small", build=Small, **options):
    spec = ModelSpec(name, (8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    return Architecture(spec, build, weights="small.pth", **options)


def filled(value=3.0, width=4):
    return {key: torch.full_like(t, value) for key, t in Small(width).state_dict().items()}


def load(state, **options):
    """Load into a new network, which must not differ from the expected value 3."""
    network = Small()
    unused = load_weights(network, state, architecture(**options))
    assert all((value == 3).all() for value in network.state_dict().values())
    return unused


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "net.", "_orig_mod.module.backbone."])
def test_prefixes_of_wrappers_are_taken_off(prefix):
    state = under(prefix, filled())
    assert load(state) == ()
    assert next(iter(state)).startswith(prefix)  # the caller's dictionary is left alone


@pytest.mark.parametrize("prefix", ["features.", "features.module.", "encoder.", "conv."])
def test_other_prefixes_are_not(prefix):
    with pytest.raises(ValueError, match="8 missing"):
        load(under(prefix, filled()))


def test_a_wrapper_of_one_architecture():
    load(under("features.module.", filled()), wrappers=("features",))
    load(filled(), wrappers=("features",))  # a real layer is called `features` as well


def test_marks_of_torch_anywhere_in_a_name_and_counts_of_an_average_are_left_out():
    marked = {re.sub(r"^(\w+)\.", r"\1._orig_mod.", k): v for k, v in filled().items()}
    state = {"n_averaged": torch.tensor(5), **under("_orig_mod.module.", marked)}
    assert load(state) == ("n_averaged",)
    with pytest.raises(ValueError, match=r"1 not expected \('n_averaged'\)"):
        load({**state, "n_averaged": torch.ones(2)})
    average = torch.optim.swa_utils.AveragedModel(torch.compile(Small()))
    assert load_weights(Small(), average.state_dict(), architecture()) == ("n_averaged",)


@pytest.mark.parametrize(("inside", "outside"), [("", ""), ("model.", ""), ("module.", "module.")])
def test_what_only_training_needs_is_told_and_nothing_else_is_left_out(inside, outside):
    weights = under(inside, filled())
    head = under(outside, {"head.kernel": torch.ones(2, 9), "head.t": torch.ones(1)})
    known = {"training_only": ("head.", "fc.weight")}
    state = {**weights, **head, "fc.weight": torch.ones(1)}
    assert load(state, **known) == ("fc.weight", *head)
    with pytest.raises(ValueError, match=r"2 not expected \('.*head.kernel', '.*head.t'\)"):
        load({**weights, **head})
    for other in ("header.kernel", "fc.weight_v"):  # names that only begin so
        with pytest.raises(ValueError, match=rf"1 not expected \('{other}'\)"):
            load({**weights, other: torch.ones(1)}, **known)


@pytest.mark.parametrize(
    ("beside", "problem"),
    [
        ({"decoder.weight": torch.ones(1)}, r"1 not expected \('decoder.weight'\)"),
        (under("model.", filled()), "9 not expected"),
    ],
)
def test_weights_beside_the_wrapped_network_are_unexpected(beside, problem):
    with pytest.raises(ValueError, match=problem):
        load({**under("backbone.", filled()), **beside})


def test_a_failing_load_names_what_differs_and_changes_nothing():
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = filled(5.0)
    del state["conv.bias"], state["bn.running_var"]
    state |= {"features.weight": torch.ones(3, 4), "extra": torch.ones(1)}
    state["bn.weight"] = torch.ones(4, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"small\.pth does not fit 'small'") as raised:
        load_weights(network, state, architecture(), source="small.pth")
    for told in (
        "2 missing ('conv.bias', 'bn.running_var')",
        "1 not expected ('extra')",
        "bn.weight is of type torch.int32, not torch.float32",
        "features.weight is (3, 4), not (2, 4)",
        "resembles no network",
    ):
        assert told in str(raised.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"8 missing \('conv.weight', 'conv.bias', 'bn.weight', …"):
        load({})


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (nn.utils.parametrizations.weight_norm, "remove_parametrizations"),
        (nn.utils.weight_norm, "remove_weight_norm"),
        (nn.utils.spectral_norm, "remove_spectral_norm"),
    ],
)
def test_weights_that_are_computed_from_others(wrap, words):
    network = Small()
    wrap(network.features)
    with pytest.raises(ValueError, match=rf"'features\.weight'.* call .*{words}"):
        load_weights(Small(), network.state_dict(), architecture())


def test_old_files_lack_the_number_of_batches():
    state = {key: value for key, value in filled().items() if "tracked" not in key}
    network = Small()
    network.bn.num_batches_tracked.fill_(9)
    assert load_weights(network, state, architecture()) == ()
    assert network.bn.num_batches_tracked == 0


def test_weights_take_the_precision_of_the_network_and_are_copied():
    network = Small()
    half = {k: v.half() if v.is_floating_point() else v for k, v in filled().items()}
    load_weights(network, half, architecture())
    assert network.conv.weight.dtype == torch.float32
    load_weights(network, state := filled(2.0), architecture())
    state["conv.weight"].zero_()
    assert (network.conv.weight == 2).all()
    assert not fit_weights(network.state_dict(), {}).exact


def test_the_fitting_architectures_are_found_and_named():
    known = [
        architecture("four"),
        architecture("six", lambda: Small(6)),
        architecture("other six", lambda: Small(6)),
        architecture("of another reader", lambda: Small(6), read=lambda path, network: {}),
    ]
    assert known_fits(under("module.", filled(width=6)), known) == ["six", "other six"]
    with pytest.raises(ValueError, match=r"does not fit 'four': 7 unlike .*It fits 'six' and 'oth"):
        load_weights(Small(), filled(width=6), known[0], known)
    near = {**filled(width=6), "features.bias": torch.ones(3)}
    with pytest.raises(ValueError, match=r"It comes nearest to 'six': 1 unlike \(features\.b"):
        load_weights(Small(), near, known[0], known)


IR_SE = {**published.adaface_shapes(50), "body.0.res_layer.5.fc1.weight": (4, 64, 1, 1)}


def test_weights_of_another_named_network_are_named(monkeypatch):
    state = weightless(published.iresnet_shapes(100))
    monkeypatch.setattr("captum_plq.models.architecture.read_weights", lambda _: state)
    told = r"^weights.pth does not fit 'iresnet50': .*It fits 'iresnet100' and 'magface-iresnet100'"
    with pytest.raises(ValueError, match=told):
        load_model("iresnet50", "weights.pth")


def of_timm(name, classes):
    return shapes_in(on_meta(lambda: timm.create_model(name, num_classes=classes)))


@pytest.mark.parametrize("prefix", ["", "features.module.", "_orig_mod.model."])
@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (IR_SE, "a network with squeeze-and-excitation, not built here"),
        ({"weight": (85742, 512)}, "the class centres of a training, without the network"),
        (of_timm("resnet18", 0), "a ResNet of torchvision, not a face network"),
        (of_timm("vit_tiny_patch16_224", 512), "a vision transformer of timm"),
        (of_timm("convnext_atto", 1000), "a ConvNeXt of timm, a classifier into 1000 classes"),
        (of_timm("edgenext_xx_small", 512), "an EdgeNeXt of timm, the trunk of EdgeFace"),
        ({"encoder.0.weight": (3, 3)}, ""),
        (published.iresnet_shapes(18), ""),
        ({}, ""),
    ],
)
def test_networks_that_are_not_built_here_are_recognised_by_their_names(shapes, words, prefix):
    state = under(prefix, weightless(shapes))
    assert foreign_network(state) == words
    if words:
        with pytest.raises(ValueError, match=f"It looks like {words}"):
            load_weights(Small(), state, architecture())
