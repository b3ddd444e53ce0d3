"""Weights that cannot be those of a trained network are refused by name; all others load."""

import pytest
import torch
from torch import nn

from captum_plq.models import Architecture, ModelSpec, load_weights, read_weights
from captum_plq.models.weight_files.sound import refuse_unsound_network


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.blur = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 16)
        self.quality = nn.Linear(64, 1)
        self.scale = nn.Parameter(torch.zeros(16))
        self.register_buffer("mask", torch.zeros(2, 2))


ARCHITECTURE = Architecture(
    ModelSpec("small", (8, 8), mean=(0.0,) * 3, std=(1.0,) * 3), Network, weights="small.pth"
)


def with_value(key, value, where=0):
    state = {name: tensor.clone() for name, tensor in Network().state_dict().items()}
    if where is None:
        state[key] = torch.full_like(state[key], value)
    else:
        state[key] = state[key].double() if abs(value) == 1e300 else state[key]
        state[key].view(-1)[where] = value
    return state


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("key", "value", "where", "words"),
    [
        ("fc.weight", NAN, 5, "NaN or infinite"),
        ("conv.bias", -INF, 3, "NaN or infinite"),
        ("bn.running_mean", INF, 0, "NaN or infinite"),
        ("bn.running_var", -1e-3, 7, "negative, but variances"),
        ("fc.weight", 1e300, 2, "too large for the network's precision"),
        ("conv.weight", 0.0, None, "zero throughout"),
        ("blur.weight", 0.0, None, "zero throughout"),
        ("fc.weight", 0.25, None, "the same number throughout"),
        ("mask", -INF, None, "NaN or infinite"),
    ],
)
def test_broken_weights_are_refused_by_name(key, value, where, words):
    network = Network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=rf"^w\.pth .*{words}.* \(1: '{key}'\)"):
        load_weights(network, with_value(key, value, where), ARCHITECTURE, source="w.pth")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("conv.bias", 0.0, None),
        ("scale", 0.0, None),
        ("bn.running_var", 0.0, None),
        ("blur.weight", 1 / 9, None),  # the mean of each channel
        ("quality.weight", 1 / 64, None),  # the mean of all
        ("conv.weight", 0.0, slice(27)),  # one dead filter
        ("mask", -INF, 1),
    ],
)
def test_what_a_network_may_hold_is_loaded(key, value, where):
    state = with_value(key, value, where)
    network = Network()
    assert load_weights(network, state, ARCHITECTURE) == ()
    torch.testing.assert_close(network.state_dict(), state)


@pytest.mark.parametrize(
    ("state", "key"),
    [
        ({"state_dict": with_value("fc.weight", NAN)}, "fc.weight"),
        (with_value("bn.running_var", -1.0), "bn.running_var"),
        ({"a": torch.tensor([1.0, NAN]).to(torch.float8_e4m3fn)}, "a"),
    ],
)
def test_a_file_is_refused_when_it_is_read(tmp_path, state, key):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"w\.pth holds weights that are .* \(1: '{key}'\)"):
        read_weights(tmp_path / "w.pth")


def test_a_network_at_hand():
    network = Network()
    refuse_unsound_network("it", network)
    nn.init.zeros_(network.fc.weight)
    nn.init.zeros_(network.conv.weight)
    with pytest.raises(ValueError, match=r"it holds .* zero throughout \(2: 'conv\.w.*', 'fc\.w"):
        refuse_unsound_network("it", network)
