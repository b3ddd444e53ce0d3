"""Weights that cannot be those of a trained network are refused by name; all others load."""

import pytest
import torch
from torch import nn

from captum_plq.models import Architecture, ModelSpec, load_weights, read_weights

NAN, INF = float("nan"), float("inf")
SPEC = ModelSpec("small", (8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.blur = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.residual = nn.Linear(8, 8)
        self.fc = nn.Linear(8, 16)
        self.quality = nn.Linear(64, 1)
        self.scale = nn.Parameter(torch.zeros(16))
        self.register_buffer("mask", torch.zeros(2, 2))

    def forward(self, x):
        x = self.bn(self.blur(self.conv(x))).mean((2, 3))
        return self.fc(x + self.residual(x))


def load(values):
    """Load a network with (value, where) for some of its entries; ``None``: everywhere."""
    state = {name: tensor.clone() for name, tensor in Network().state_dict().items()}
    for key, (value, where) in values.items():
        state[key] = state[key].double() if value == 1e300 else state[key]
        state[key].view(-1)[slice(None) if where is None else where] = value
    network = Network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        assert load_weights(network, state, Architecture(SPEC, Network, ""), source="w.pth") == ()
    except ValueError:
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
        raise
    torch.testing.assert_close(network.state_dict(), state)


@pytest.mark.parametrize(
    ("key", "value", "where", "words"),
    [
        ("fc.weight", NAN, 5, "NaN or infinite"),
        ("conv.bias", -INF, 3, "NaN or infinite"),
        ("bn.running_mean", INF, 0, "NaN or infinite"),
        ("bn.running_var", -1e-3, 7, "negative, but variances"),
        ("fc.weight", 1e300, 2, "too large for the network's precision"),
        ("conv.weight", 0.0, None, "zero throughout"),  # no image is told from another
        ("blur.weight", 0.0, None, "zero throughout"),
        ("fc.weight", 0.25, None, "the same number throughout"),
        ("mask", -INF, None, "NaN or infinite"),
    ],
)
def test_broken_weights_are_refused_by_name(key, value, where, words):
    with pytest.raises(ValueError, match=rf"^w\.pth .*{words}.* \(1: '{key}'\)"):
        load({key: (value, where)})


def test_a_layer_that_training_wore_out_is_warned_of_and_one_that_was_never_written_refused():
    worn = {"residual.weight": (0.0, None)}
    with pytest.warns(UserWarning, match=r"w\.pth .*zero throughout \(1: 'residual\.weight'\)"):
        load(worn)
    with pytest.raises(ValueError, match=r"zero throughout \(1: 'residual\.weight'\)"):
        load(worn | {"residual.bias": (0.0, None)})


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
    load({key: (value, where)})


@pytest.mark.parametrize(
    ("state", "key"),
    [
        ({"state_dict": {"fc.weight": torch.tensor([1.0, NAN])}}, "fc.weight"),
        ({"bn.running_var": torch.tensor([-1.0, 1.0])}, "bn.running_var"),
        ({"a": torch.tensor([1.0, NAN]).to(torch.float8_e4m3fn)}, "a"),
    ],
)
def test_a_file_is_refused_when_it_is_read(tmp_path, state, key):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=rf"w\.pth holds weights that are .* \(1: '{key}'\)"):
        read_weights(tmp_path / "w.pth")
