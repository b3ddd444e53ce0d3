"""Random weights: what changes, what must not, and statistics reckoned anew by hand."""

import math

import pytest
import torch
from torch import nn

from captum_plq.metrics import randomised, with_random_weights
from tests.conftest import small_face_net
from tests.support.draws import normal


class Uses(nn.Module):
    """Takes the weights of a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return x @ self.layer.weight.T


class Odd(nn.Module):
    """A parameter that no ``reset_parameters`` knows; layers made in another order than run."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.first = Uses()
        self.scale = nn.Parameter(torch.arange(1.0, 9.0))

    def forward(self, x):
        return self.last(self.first(x) * self.scale[:4])


def same(one, other):
    return {n: torch.equal(v, other.state_dict()[n]) for n, v in one.state_dict().items()}


def test_every_layer_is_another_and_the_model_is_not(net, images):
    weights = {n: v.clone() for n, v in net.state_dict().items()}
    null = with_random_weights(net, 1, images=images)
    assert all(torch.equal(weights[n], v) for n, v in net.state_dict().items())
    assert not any(module.training for module in null.modules())
    assert next(null.parameters()).dtype == torch.float64
    equal = same(net, null)
    kept = {n for n, was in equal.items() if was and "num_batches" not in n}
    # All slopes of a PReLU are a quarter, before and after; nothing else stays.
    assert kept == {"trunk.2.weight", "trunk.5.weight"}
    assert torch.equal(null.trunk[1].weight, torch.ones(8, dtype=torch.float64))
    assert not same(null, with_random_weights(net, 2, images=images))["fc.weight"]
    bound = 1 / math.sqrt(300)  # how PyTorch fills a Linear of 300 inputs
    assert float(null.fc.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(null.fc.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("count", [4, 60])
def test_statistics_are_the_mean_over_parts_of_at_most_50_images(count):
    images = normal(count, 1) ** 2
    null = with_random_weights(nn.BatchNorm1d(1).double(), images=images)
    parts = images.split(30)
    mean, variance = (
        sum(part) / len(parts) for part in zip(*((p.mean(), p.var()) for p in parts), strict=True)
    )
    assert float(null.running_mean) == pytest.approx(float(mean))
    assert float(null.running_var) == pytest.approx(float(variance))
    assert null.momentum == 0.1
    alone = with_random_weights(nn.BatchNorm1d(1))
    assert (float(alone.running_mean), float(alone.running_var)) == (0, 1)


@pytest.mark.parametrize("order", ["bottom-up", "top-down"])
def test_a_cascade_alters_one_layer_more_each_time(net, images, order):
    layers = ["trunk.0", "trunk.1", "trunk.2", "trunk.3", "trunk.4", "trunk.5", "fc", "bn"]
    steps = list(randomised(net, 5, images=images, order=order))
    assert [name for name, _ in steps] == (layers if order == "bottom-up" else layers[::-1])
    done = set()
    for name, altered in steps:
        done.add(name)
        for key, equal in same(net, altered).items():
            layer, _, kind = key.rpartition(".")
            if layer not in done:
                assert equal, (name, key)
            elif kind in ("weight", "bias", "running_mean") and layer[-1] not in "25":
                assert not equal, (name, key)
    assert all(same(steps[-1][1], with_random_weights(net, 5, images=images)).values())


@pytest.mark.parametrize(("stages", "places"), [(1, [7]), (3, [2, 5, 7]), (99, range(8))])
def test_stages_are_copies_of_the_whole_cascade(net, images, stages, places):
    """Of eight layers: after ceil(8/3) = 3, ceil(16/3) = 6 and 8 of them, for three stages."""
    every = list(randomised(net, 5, images=images))
    some = list(randomised(net, 5, images=images, stages=stages))
    assert [name for name, _ in some] == [every[i][0] for i in places]
    for i, (_, altered) in zip(places, some, strict=True):
        assert all(same(altered, every[i][1]).values())


def test_copies_are_the_callers_own_and_no_hook_is_set_on_the_network(net, images):
    steps = randomised(net, 5, images=images)
    hooks = []
    net.trunk.register_forward_pre_hook(
        lambda module, _: hooks.append((module.training, len(net.fc._forward_pre_hooks)))
    )
    _, first = next(steps)
    assert set(hooks) == {(False, 0)}  # while the order of layers is found
    kept = first.trunk[0].weight.clone()
    torch.nn.init.zeros_(first.trunk[0].weight)
    assert torch.equal(next(steps)[1].trunk[0].weight, kept)


def test_layers_go_in_the_order_in_which_they_run_and_what_has_no_reset_is_shuffled():
    model = Odd()
    scale = with_random_weights(model, 1).scale
    assert sorted(scale.tolist()) == model.scale.tolist() != scale.tolist()
    assert [n for n, _ in randomised(model)] == ["", "last", "first.layer"]
    images = torch.randn(2, 3)
    assert [n for n, _ in randomised(model, images=images)] == ["", "first.layer", "last"]
    assert next(n for n, _ in randomised(model, images=images, order="top-down")) == "last"


def test_dropout_sleeps_while_statistics_are_taken(images):
    net = small_face_net()
    expected = with_random_weights(net, 1, images=images)
    net.train()
    for _ in range(2):
        assert all(same(expected, with_random_weights(net, 1, images=images)).values())
