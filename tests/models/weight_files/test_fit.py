"""Fitting weights to a network: nothing is dropped silently, and errors name the right network."""

import re

import pytest
import timm
import torch
from torch import nn

from captum_plq.models import Architecture, ModelSpec, load_weights
from captum_plq.models.registry import ARCHITECTURES
from captum_plq.models.weight_files.fit import fit_weights, known_fits
from captum_plq.models.weight_files.layout_guess import guess_layout
from tests.models.architectures.test_inception_resnet import CLASSIFIER, published_shapes
from tests.models.architectures.test_iresnet import on_meta, shapes_in
from tests.support import published


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


def filled(value=1.0, width=4):
    return {
        key: torch.full_like(tensor, value) for key, tensor in Small(width).state_dict().items()
    }


def under(prefix, state):
    return {f"{prefix}{key}": value for key, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "backbone.", "net.", "module.backbone.", "_orig_mod.model."]
)
def test_prefixes_of_wrappers_are_taken_off(prefix):
    network = Small()
    state = under(prefix, filled(3.0))
    assert load_weights(network, state, architecture()) == ()
    assert all((value == 3).all() for value in network.state_dict().values())
    assert next(iter(state)).startswith(prefix)  # the caller's dictionary is left alone


def test_marks_of_torch_anywhere_in_a_name_and_counts_of_an_average_are_left_out():
    network = Small()
    marked = {re.sub(r"^(\w+)\.", r"\1._orig_mod.", k): v for k, v in filled(3.0).items()}
    assert "bn._orig_mod.running_var" in marked
    state = {"n_averaged": torch.tensor(5), **under("_orig_mod.module.", marked)}
    assert load_weights(network, state, architecture()) == ("n_averaged",)
    assert all((value == 3).all() for value in network.state_dict().values())
    with pytest.raises(ValueError, match=r"1 not expected \('n_averaged'\)"):
        load_weights(network, {**state, "n_averaged": torch.ones(2)}, architecture())


def test_what_torch_averages():
    network = Small()
    state = torch.optim.swa_utils.AveragedModel(torch.compile(network)).state_dict()
    other = Small()
    assert load_weights(other, state, architecture()) == ("n_averaged",)
    torch.testing.assert_close(other.state_dict(), network.state_dict())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (nn.utils.parametrizations.weight_norm, "remove_parametrizations"),
        (nn.utils.parametrizations.spectral_norm, "remove_parametrizations"),
        (nn.utils.weight_norm, "remove_weight_norm"),
        (nn.utils.spectral_norm, "remove_spectral_norm"),
    ],
)
def test_weights_that_are_computed_from_others(wrap, words):
    network = Small()
    wrap(network.features)
    with pytest.raises(ValueError, match=rf"'features\.weight'.* call .*{words}"):
        load_weights(Small(), network.state_dict(), architecture())


@pytest.mark.parametrize("prefix", ["features.", "features.module.", "encoder.", "conv."])
def test_other_prefixes_are_not(prefix):
    with pytest.raises(ValueError, match="8 missing"):
        load_weights(Small(), under(prefix, filled()), architecture())


def test_a_wrapper_of_one_architecture():
    network = Small()
    wrapped = architecture(wrappers=("features",))
    load_weights(network, under("features.module.", filled(3.0)), wrapped)
    assert (network.features.weight == 3).all()
    load_weights(network, filled(4.0), wrapped)  # a real layer is called `features` as well
    assert (network.features.weight == 4).all()


def test_what_only_training_needs_is_told_and_nothing_else_is_left_out():
    head = {"head.kernel": torch.ones(2, 9), "head.t": torch.ones(1)}
    known = architecture(training_only=("head.",))
    for prefix in ("", "model."):
        state = {**under(prefix, filled()), **head}
        assert load_weights(Small(), state, known) == ("head.kernel", "head.t")
    assert load_weights(Small(), under("module.", {**filled(), **head}), known) == (
        "module.head.kernel",
        "module.head.t",
    )
    with pytest.raises(ValueError, match=r"2 not expected \('head.kernel', 'head.t'\)"):
        load_weights(Small(), {**filled(), **head}, architecture())
    with pytest.raises(ValueError, match=r"1 not expected \('header.kernel'\)"):
        load_weights(Small(), {**filled(), "header.kernel": torch.ones(1)}, known)


def test_an_exact_name_of_training_only_is_no_prefix():
    known = architecture(training_only=("fc.weight",))
    assert load_weights(Small(), {**filled(), "fc.weight": torch.ones(1)}, known) == ("fc.weight",)
    with pytest.raises(ValueError, match=r"'fc.weight_v'"):
        load_weights(Small(), {**filled(), "fc.weight_v": torch.ones(1)}, known)


def test_weights_beside_the_wrapped_network_are_unexpected():
    state = {**under("backbone.", filled()), "decoder.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"1 not expected \('decoder.weight'\)"):
        load_weights(Small(), state, architecture())


def test_two_networks_in_one_file_are_unexpected():
    state = {**under("model.", filled()), **under("backbone.", filled())}
    with pytest.raises(ValueError, match="9 not expected"):
        load_weights(Small(), state, architecture())


def test_a_failing_load_names_what_differs_and_changes_nothing():
    network = Small()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = filled(5.0)
    del state["conv.bias"], state["bn.running_var"]
    state |= {"features.weight": torch.ones(3, 4), "extra": torch.ones(1)}
    state["bn.weight"] = torch.ones(4, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"small\.pth does not fit 'small'") as raised:
        load_weights(network, state, architecture(), source="small.pth")
    message = str(raised.value)
    assert "2 missing ('conv.bias', 'bn.running_var')" in message
    assert "1 not expected ('extra')" in message
    assert "bn.weight is of type torch.int32, not torch.float32" in message
    assert "features.weight is (3, 4), not (2, 4)" in message
    assert "resembles no network" in message
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_only_the_first_three_are_named():
    with pytest.raises(ValueError, match=r"8 missing \('conv.weight', 'conv.bias', 'bn.weight', …"):
        load_weights(Small(), {}, architecture())


def test_old_files_lack_the_number_of_batches():
    state = {key: value for key, value in filled().items() if "tracked" not in key}
    network = Small()
    network.bn.num_batches_tracked.fill_(9)
    assert load_weights(network, state, architecture()) == ()
    assert network.bn.num_batches_tracked == 0


def test_weights_take_the_precision_of_the_network():
    network = Small()
    half = {k: v.half() if v.is_floating_point() else v for k, v in filled().items()}
    load_weights(network, half, architecture())
    assert network.conv.weight.dtype == torch.float32
    state = filled(2.0)
    load_weights(network, state, architecture())
    state["conv.weight"].zero_()  # the file's tensors are copied, not shared
    assert (network.conv.weight == 2).all()


def test_the_fitting_architectures_are_found_and_named():
    def absent():
        raise ImportError("an extra")

    known = [
        architecture("four"),
        architecture("six", lambda: Small(6)),
        architecture("other six", lambda: Small(6)),
        architecture("needs an extra", absent),
    ]
    assert known_fits(under("module.", filled(width=6)), known) == ["six", "other six"]
    with pytest.raises(ValueError, match=r"does not fit 'four': 7 unlike .*It fits 'six' and 'oth"):
        load_weights(Small(), filled(width=6), known[0], known)


def test_an_empty_state_dict_fits_nothing():
    assert not fit_weights(Small().state_dict(), {}).exact
    assert fit_weights(Small().state_dict(), filled()).exact


# --- what weights look like that fit nothing

IRESNET_LIKE = {**published.iresnet_shapes(50), "fc.weight": (256, 25088)}
IR_SE = {**published.adaface_shapes(50), "body.0.res_layer.5.fc1.weight": (4, 64, 1, 1)}


@pytest.mark.parametrize(
    ("shapes", "guess"),
    [
        *((published.iresnet_shapes(d), rf"\(iresnet{d}\)") for d in (18, 34, 50, 100, 200)),
        (IRESNET_LIKE, r"3, 4, 14 and 3 blocks \(iresnet50\), and 256 features"),
        ({"layer1.0.prelu.weight": (64,)}, "1, 0, 0 and 0 blocks .no iresnet of a published depth"),
        (published.crfiqa_shapes(50), "quality head of CR-FIQA"),
        (published.adaface_shapes(18), r"8 blocks \(IR-18\)"),
        (published.adaface_shapes(50), r"24 blocks \(IR-50\)"),
        (published.adaface_shapes(100), r"49 blocks \(IR-101\)"),
        (IR_SE, "IR-SE network"),
        ({**published_shapes(), **CLASSIFIER}, "InceptionResnetV1"),
        ({"conv_6_dw.conv.weight": (512, 1, 7, 7)}, "MobileFaceNet.*InsightFace_Pytorch"),
        ({"conv_sep.layers.0.weight": (512, 128, 1, 1)}, "MobileFaceNet.*arcface_torch"),
        ({"dw_conv1.conv.weight": (64, 1, 3, 3)}, "MobileFaceNet.*MobileFaceNet_Pytorch"),
        ({"weight": (85742, 512)}, "class centres"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "features.module."])
def test_layouts_are_recognised_by_their_names(shapes, guess, prefix):
    assert re.search(guess, guess_layout(under(prefix, shapes)))


@pytest.mark.parametrize(
    ("name", "classes", "guess"),
    [
        ("resnet18", 1000, "ResNet of torchvision, a classifier into 1000 classes, not an embed"),
        ("resnet50", 1000, "ResNet of torchvision, a classifier into 1000 classes, not an embed"),
        ("resnet18", 0, "ResNet of torchvision without its last layer"),
        ("vit_tiny_patch16_224", 1000, "vision transformer of timm, a classifier into 1000"),
        ("vit_tiny_patch16_224", 512, "vision transformer of timm$"),
        ("convnext_atto", 1000, "ConvNeXt of timm, a classifier into 1000"),
        ("convnext_atto", 512, "ConvNeXt of timm$"),
        ("edgenext_xx_small", 512, "EdgeNeXt, as in EdgeFace$"),
    ],
)
def test_networks_of_timm_and_torchvision_are_recognised(name, classes, guess):
    network = on_meta(lambda: timm.create_model(name, num_classes=classes))
    assert re.search(guess, guess_layout(shapes_in(network)))


def test_a_classifier_is_called_one_in_the_error():
    network = on_meta(lambda: timm.create_model("resnet50"))
    state = published.weightless(shapes_in(network))
    with pytest.raises(ValueError, match=r"It looks like .*a classifier into 1000 classes"):
        load_weights(Small(), state, architecture(), ARCHITECTURES[:1])


def test_a_strange_file_resembles_nothing():
    assert guess_layout({"encoder.0.weight": (3, 3)}) is None
    assert guess_layout({}) is None
