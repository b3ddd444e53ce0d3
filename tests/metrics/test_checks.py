"""What metrics borrow is given back as it was, on success and on failure."""

from contextlib import suppress

import pytest
import torch
from torch import nn

from captum_plq.metrics.checks import evaluation_mode, untouched_rng
from tests.conftest import assert_untouched, in_mixed_state, snapshot


class OwnTrain(nn.Linear):
    """As converted networks do: ``train`` and ``eval`` are not to be called on them."""

    def train(self, mode=True):
        raise AssertionError("train was called")

    eval = train


@pytest.mark.parametrize("fails", [False, True], ids=["success", "exception"])
def test_evaluation_mode_restores_every_flag_by_itself(fails):
    parts = [OwnTrain(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(4))]
    net = in_mixed_state(nn.Sequential(*parts))
    before = snapshot(net)
    with suppress(ZeroDivisionError), evaluation_mode(net):
        with evaluation_mode(net):
            net(torch.ones(5, 4))
        assert not any(module.training for module in net.modules())
        assert 1 / (not fails)
    assert_untouched(before, net)


@pytest.mark.parametrize("fails", [False, True], ids=["success", "exception"])
@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif("not torch.cuda.is_available()"))],
)
def test_untouched_rng_goes_on_from_the_state_and_restores_it(device, fails):
    torch.manual_seed(5)
    expected = torch.rand(3, device=device)
    torch.manual_seed(5)
    with suppress(ZeroDivisionError), untouched_rng([torch.ones(1, device=device), "no tensor"]):
        assert torch.equal(torch.rand(3, device=device), expected)
        assert 1 / (not fails)
    assert torch.equal(torch.rand(3, device=device), expected)
