import pytest
import torch
from torch import nn

from benchmarks.harness.cost import OperatorCost, counted_passes, peak_bytes
from benchmarks.subjects.attributions import METHODS

CPU = torch.device("cpu")


def test_flops_of_a_forward_and_of_a_gradient_with_respect_to_a_leaf():
    """For the second torch's own counter raises; the weights' gradients cost no product."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))
    once = 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3) + 2 * 2 * 256 * 5  # two per product
    leaf = torch.rand(2, 3, 8, 8, requires_grad=True)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), OperatorCost() as cost:
            net(leaf)
        assert cost.flops == once
    with OperatorCost() as cost:
        torch.autograd.grad(net(leaf).sum(), leaf)
    assert cost.flops == 2 * once


def test_flops_of_plq_are_one_pass_and_the_head(subject, images):
    method = METHODS["plq"].build(subject)
    method(images)
    conv, head = 2 * (8 * 14 * 14 * 3 * 9 + 12 * 7 * 7 * 8 * 9), 2 * 588 * 16
    with OperatorCost() as cost:
        method(images)
    gram = 2 * 20 * 20 * 16
    assert cost.flops == 3 * (2 * (conv + head) + 20 * head + gram)


@pytest.mark.parametrize(
    ("call", "numbers"),
    [
        (lambda a, b: (a @ b).view(5, 2).t(), 6 + 15 + 10),  # views cost nothing
        (lambda a, b: a.mul_(2), 6),
        (lambda a, b: a[:1, :1].expand(10, 100).relu(), 6 + 1000),  # expanded: no more than a holds
    ],
)
def test_traffic_is_what_is_read_and_written(call, numbers):
    with OperatorCost() as cost:
        call(torch.ones(2, 3), torch.ones(3, 5))
    assert cost.traffic - 4 * (6 + 15) == 4 * numbers, "making both is 21 numbers"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("plq", 1, 1),
        ("naive-plq", 2, 1),
        ("official-serfiq", 20, 0),
        ("integrated-gradients", 50, 50),
        ("feature-ablation", 50, 0),
        ("layer-gradcam", 1, 0),
    ],
)
def test_passes(name, forward, backward, subject, images):
    method = METHODS[name].build(subject)
    method(images[:1])
    subject.node(images)
    with torch.random.fork_rng(devices=[]), counted_passes(subject.model, images) as passes:
        method(images)
    assert (passes.forward, passes.backward) == pytest.approx((forward, backward))
    assert not any(m._forward_hooks for m in subject.model.modules())
    with pytest.raises(ValueError, match="no Linear"), counted_passes(nn.ReLU(), torch.ones(1, 1)):
        pass


def test_peak_memory_of_known_allocations_and_of_what_autograd_keeps():
    leaf = torch.ones(1000, 250, requires_grad=True)  # 1 MB, there before

    def allocate():
        a = torch.empty(1000, 1000)  # 4 MB
        b = torch.zeros(500, 1000)  # 6 MB alive
        del a
        return b, torch.ones(250, 1000)  # 3 MB alive

    def gradient():
        y = leaf.sigmoid().sigmoid().sigmoid()  # 3 MB kept for the backward
        return torch.autograd.grad(y.sum(), leaf)

    assert peak_bytes(allocate, CPU) == 6_000_000
    assert 4_000_000 <= peak_bytes(gradient, CPU) <= 5_001_000
