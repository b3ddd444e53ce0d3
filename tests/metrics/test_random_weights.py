"""Random weights: what changes, what must not, and statistics reckoned anew by hand."""

import math

import pytest
import torch
from torch import nn

from captum_plq.metrics import randomised, with_random_weights
from tests.conftest import assert_untouched, small_face_net, snapshot


class Uses(nn.Module):
    """Takes the weights of a layer that it never calls."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x):
        return x @ self.layer.weight.T


class Odd(nn.Module):
    """Parameters that no ``reset_parameters`` knows, and layers made in another order than run."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.first = Uses()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]))

    def forward(self, x):
        return self.last(self.first(x.flatten(1)) * self.scale[:4])


class WithStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1, affine=False)

    def forward(self, x):
        return self.norm(x)


def same(one, other):
    return {n: torch.equal(v, other.state_dict()[n]) for n, v in one.state_dict().items()}


def test_every_layer_is_another_and_the_model_is_not(net, images):
    before, weights = snapshot(net), {n: v.clone() for n, v in net.state_dict().items()}
    null = with_random_weights(net, 1, images=images)
    assert_untouched(before, net)
    assert all(torch.equal(weights[n], v) for n, v in net.state_dict().items())
    assert not any(module.training for module in null.modules())
    assert next(null.parameters()).dtype == torch.float64
    equal = same(net, null)
    kept = {n for n, was in equal.items() if was and "num_batches" not in n}
    # All slopes of a PReLU are a quarter, before and after; nothing else stays.
    assert kept == {"trunk.2.weight", "trunk.5.weight"}
    assert torch.equal(null.trunk[1].weight, torch.ones(8, dtype=torch.float64))
    bound = 1 / math.sqrt(300)  # how PyTorch fills a Linear of 300 inputs
    assert float(null.fc.weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert float(null.fc.weight.detach().std()) == pytest.approx(bound / 3**0.5, rel=0.05)


def test_weights_follow_the_seed_not_the_global_state(net, images):
    one = with_random_weights(net, 1, images=images)
    torch.manual_seed(12345)
    assert all(same(one, with_random_weights(net, 1, images=images)).values())
    assert not same(one, with_random_weights(net, 2, images=images))["fc.weight"]


def test_statistics_of_the_first_norm_by_hand():
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1))
    images = torch.tensor([1.0, 2.0, 3.0, 6.0]).view(4, 1, 1, 1)
    null = with_random_weights(model, 0, images=images)
    w = float(null[0].weight.detach())
    assert float(null[1].running_mean) == pytest.approx(3 * w)
    assert float(null[1].running_var) == pytest.approx(w * w * (4 + 1 + 0 + 9) / 3)
    alone = with_random_weights(model, 0)
    assert float(alone[0].weight.detach()) == w
    assert (float(alone[1].running_mean), float(alone[1].running_var)) == (0, 1)


def test_statistics_of_many_images_are_the_mean_of_parts():
    """60 images come as 30 and 30, so no more than 50 are in memory at a time."""
    images = torch.randn(60, 1, generator=torch.Generator().manual_seed(0)) ** 2
    null = with_random_weights(WithStatistics(), images=images)
    means = [images[:30].mean(), images[30:].mean()]
    variances = [images[:30].var(), images[30:].var()]
    assert float(null.norm.running_mean) == pytest.approx(float(sum(means) / 2))
    assert float(null.norm.running_var) == pytest.approx(float(sum(variances) / 2))
    assert null.norm.momentum == 0.1


def test_parameters_without_a_reset_are_shuffled():
    model = Odd()
    null = with_random_weights(model, 1)
    assert sorted(null.scale.tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert null.scale.tolist() != model.scale.tolist()
    assert not same(model, null)["first.layer.weight"]


@pytest.mark.parametrize("order", ["bottom-up", "top-down"])
def test_a_cascade_alters_one_layer_more_each_time(net, images, order):
    before = snapshot(net)
    layers = ["trunk.0", "trunk.1", "trunk.2", "trunk.3", "trunk.4", "trunk.5", "fc", "bn"]
    steps = list(randomised(net, 5, images=images, order=order))
    assert_untouched(before, net)
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


def test_layers_go_in_the_order_in_which_they_run():
    model = Odd()
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


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (ValueError, "at least two images", {"images": torch.ones(1, 3, 20, 20).double()}),
        (TypeError, "floating point", {"images": torch.ones(2, 3, 20, 20).long()}),
        (ValueError, "nothing to randomise", {"model": nn.ReLU()}),
        (ValueError, "'bottom-up' or 'top-down'", {"order": "upwards"}),
        (ValueError, "stages must be at least 1, but got 0", {"stages": 0}),
    ],
)
def test_bad_input_is_refused_at_once(net, error, message, options):
    with pytest.raises(error, match=message):
        randomised(**{"model": net} | options)
