import pytest
import torch
from torch import nn

from benchmarks.harness.cost import OperatorCost, counted_passes, peak_bytes
from benchmarks.subjects.attributions import METHODS

CONV = 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)  # two per product: outputs times inputs of each
LINEAR = 2 * 2 * 256 * 5


@pytest.fixture
def net():
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.Linear(256, 5))


def test_flops_of_a_forward_and_of_a_gradient_with_respect_to_a_leaf(net):
    """For the second torch's own counter raises; the weights' gradients cost no product."""
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode(), OperatorCost() as cost:
            net(torch.rand(2, 3, 8, 8))
        assert cost.flops == CONV + LINEAR
    leaf = torch.rand(2, 3, 8, 8, requires_grad=True)
    with OperatorCost() as cost:
        torch.autograd.grad(net(leaf).sum(), leaf)
    assert cost.flops == 2 * (CONV + LINEAR)


def test_flops_of_plq_are_one_pass_and_the_head(subject, images):
    method = METHODS["plq"].build(subject)
    method(images)
    conv, head = 2 * (8 * 14 * 14 * 3 * 9 + 12 * 7 * 7 * 8 * 9), 2 * 588 * 16
    with OperatorCost() as cost:
        method(images)
    gram = 2 * 20 * 20 * 16
    assert cost.flops == 3 * (2 * (conv + head) + 20 * head + gram)


def test_traffic_is_what_is_read_and_written():
    a, b = torch.ones(2, 3), torch.ones(3, 5)
    with OperatorCost() as cost:
        (a @ b).view(5, 2).t()  # views cost nothing
    assert cost.traffic == 4 * (6 + 15 + 10)
    with OperatorCost() as cost:
        a.mul_(2)
    assert cost.traffic == 4 * 6
    with OperatorCost() as cost:
        torch.ones(1).expand(1000).relu()  # the expanded thousand are one number
    assert cost.traffic == 4 * 1 + 4 * (1 + 1000)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("plq", 1, 1),
        ("plq-serfiq-target", 1, 1),
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


def allocate():
    a = torch.empty(1000, 1000)  # 4 MB
    b = torch.zeros(500, 1000)  # 6 MB alive
    del a
    c = torch.ones(250, 1000)  # 3 MB alive
    return b.numel() + c.numel()


def test_peak_memory_of_known_allocations_and_of_what_autograd_keeps():
    leaf = torch.ones(1000, 250, requires_grad=True)  # 1 MB, there before

    def gradient():
        y = leaf.sigmoid().sigmoid().sigmoid()  # 3 MB kept for the backward
        return torch.autograd.grad(y.sum(), leaf)

    assert peak_bytes(allocate, torch.device("cpu")) == 6_000_000
    assert 4_000_000 <= peak_bytes(gradient, torch.device("cpu")) <= 5_001_000
