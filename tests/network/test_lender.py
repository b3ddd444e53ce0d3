"""Copies kept between calls: the same as new ones, after whatever may happen to a network."""

import copy
import functools
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from captum_plq.network.borrowed import borrowed, hookable
from captum_plq.network.lender import Lender

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.layers[1].running_mean.add_(0.3)
        self.head, self.scale, self.act = nn.Linear(144, 5), 2.0, torch.tanh
        self.shift, self.options, self.calls = torch.zeros(5), {"power": 1}, 0

    def forward(self, x):
        y = self.head(self.layers(x)) * self.scale + self.shift
        return self.act(y) ** self.options["power"]


class Writes(Net):
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class ListOfModules(Net):
    def __init__(self):
        super().__init__()
        self.steps = [self.head]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def lent(lender, model):
    with lender.lend(model) as (network, _):
        return network, network(X)


def test_a_copy_is_lent_again(net):
    lender = Lender()
    first, before = lent(lender, net)
    net.head.weight.data.mul_(3)
    net.layers[1].running_mean += 1
    again, after = lent(lender, net)
    assert again is first
    assert not torch.equal(before, after)
    assert torch.equal(after, net(X))


def swap(net):
    net.head = nn.Linear(144, 5)


CHANGES = {
    "module": swap,
    "option of a module": lambda net: setattr(net.layers[1], "eps", 0.5),
    "order": lambda net: net.layers._modules.update({k: net.layers._modules.pop(k) for k in "213"}),
    "another module": lambda net: net.layers.append(nn.Softplus()),
    "attribute": lambda net: setattr(net, "scale", 5.0),
    "tensor": lambda net: setattr(net, "shift", torch.ones(5)),
    "function": lambda net: setattr(net, "act", torch.exp),
    "forward": lambda net: setattr(net.layers[2], "forward", torch.neg),
    "class": lambda net: setattr(net.layers[2], "__class__", nn.Tanh),
    "hook": lambda net: net.head.register_forward_hook(lambda _, __, y: y + 1),
    "hook on the input": lambda net: net.head.register_forward_pre_hook(lambda _, x: (x[0] + 1,)),
    "within a container": lambda net: net.options.__setitem__("power", 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_shows(net, change):
    lender = Lender()
    _, before = lent(lender, net)
    CHANGES[change](net)
    for _ in range(2):
        _, after = lent(lender, net)
        assert torch.equal(after, net(X))
        assert not torch.equal(after, before)


@pytest.mark.parametrize("make", [Writes, ListOfModules])
def test_what_cannot_be_kept_is_copied_anew(make):
    model, lender = make().eval(), Lender()
    first, before = lent(lender, model)
    again, after = lent(lender, model)
    assert again is not first
    assert torch.equal(before, after)
    assert model.calls == 0


def test_a_container_that_comes_to_hold_modules(net):
    lender = Lender()
    first, _ = lent(lender, net)
    net.options["more"] = functools.partial(net.head)
    assert lent(lender, net)[0] is not first


@dataclass(frozen=True)
class Options:
    name: str
    sizes: tuple[int, ...]
    more: list[object]


def test_what_a_settled_value_holds_may_come_to_hold_modules(net):
    lender = Lender()
    net.shape = Options("small", (3, 3), [])
    first, _ = lent(lender, net)
    assert lent(lender, net)[0] is first
    net.shape.more.append(functools.partial(net.head))
    assert lent(lender, net)[0] is not first


def test_two_calls_at_once_have_two_copies_and_a_failed_one_gives_none_back(net):
    lender = Lender()
    with lender.lend(net) as one, lender.lend(net) as other:
        assert one.network is not other.network
    kept, _ = lent(lender, net)
    with pytest.raises(ZeroDivisionError), lender.lend(net) as failed:
        raise ZeroDivisionError
    assert failed.network is kept
    assert lent(lender, net)[0] is not kept


def test_a_hook_left_behind_is_met_by_no_other_call(net):
    lender = Lender()
    with lender.lend(net) as (network, _):
        hookable(network).register_forward_hook(lambda *_: torch.zeros(()))
        hookable(network.head).register_forward_pre_hook(lambda *_: (torch.zeros(2, 144),))
    again, found = lent(lender, net)
    assert again is network
    assert torch.equal(found, net(X))


def test_copies_of_a_holder_hold_no_copies(net):
    lender = Lender()
    lent(lender, net)
    holder = nn.Module()
    holder.net, holder.lender = net, lender
    assert borrowed(holder).lender is lender
    for other in (copy.deepcopy(lender), pickle.loads(pickle.dumps(lender))):
        assert other._kept == []
        assert lender._kept != []
