"""One network in many threads: every result is what it is in one, and nothing is changed."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from captum_plq import (
    SERFIQ,
    LayerPixelQuality,
    LocalQuality,
    PixelQualityAttribution,
    QualityModel,
)
from tests.conftest import snapshot


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.bn, self.drop = nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Dropout(0.2)
        self.fc = nn.Linear(8 * 81, 16)

    def forward(self, x):
        return self.fc(self.drop(self.bn(self.conv(x)).relu()).flatten(1))


def same(a, b):
    return len(a) == len(b) and all(
        torch.allclose(x, y, rtol=1e-4, atol=1e-8) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("calls", [24, pytest.param(200, marks=pytest.mark.slow)])
@pytest.mark.parametrize("training", [False, True])
def test_eight_threads(training, calls):
    net, other, plain = Net().train(training), Net(1).train(), Net().eval()
    images = [torch.rand(1 + i % 3, 3, 20, 20) for i in range(6)]
    shared, closed = PixelQualityAttribution(net), SERFIQ(net, estimator="closed-form")
    local = LocalQuality(net, reference=1.0)
    kinds = {
        "local": lambda x: (local.attribute(x),),
        "attribute": lambda x: shared.attribute(x, return_quality=True),
        "own attribute": lambda x: PixelQualityAttribution(net).attribute(x, return_quality=True),
        "layer": lambda x: (LayerPixelQuality(net, net.bn).attribute(x),),
        "serfiq": lambda x: (SERFIQ(net)(x),),
        "closed form": lambda x: (closed(x),),
        "node": lambda x: (QualityModel(net).node(x),),
        "plain forward": lambda x: ((net if not training else plain)(x),),
        "training forward": lambda x: (other(x).new_zeros(1),),
    }
    want = {k: [f(x) for x in images] for k, f in kinds.items()}
    before, weights, wrong = snapshot(net), copy.deepcopy(net.state_dict()), []
    trained = other.bn.num_batches_tracked.item()

    def work(thread):
        for call in range(calls):
            kind, i = list(kinds)[(thread + call) % len(kinds)], (3 * thread + call) % len(images)
            try:
                if not same(kinds[kind](images[i]), want[kind][i]):
                    wrong.append(kind)
            except Exception as error:
                wrong.append(f"{kind}: {type(error).__name__} {error}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert wrong == []
    for key in ("hooks", "training", "requires_grad", "grad"):
        assert snapshot(net)[key] == before[key]
    torch.testing.assert_close(net.state_dict(), weights, rtol=0, atol=0)
    assert other.bn.num_batches_tracked > trained  # it did train beside us


@pytest.mark.parametrize("site", ["conv", "fc"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_method_called_from_a_hook_of_the_network_it_explains(site, shared):
    net, x = Net().eval(), torch.rand(2, 3, 20, 20)
    outer = PixelQualityAttribution(net)
    inner = outer if shared else PixelQualityAttribution(net)
    expected, found = outer.attribute(x), []

    def hook(*_):
        if not found:
            found.append(None)
            found[0] = inner.attribute(x)

    getattr(net, site).register_forward_hook(hook)
    assert torch.equal(outer.attribute(x), expected)
    assert torch.equal(found[0], expected)
