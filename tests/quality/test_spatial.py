"""One forward for SER-FIQ and its division over places: the same numbers as one for each."""

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from captum_plq.quality import SpatialSERFIQ
from tests.conftest import assert_untouched, in_mixed_state, snapshot


class CountedNet(nn.Module):
    """Counts its forwards."""

    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, []

    def forward(self, x):
        self.calls.append(len(x))
        return self.net(x)


@pytest.mark.parametrize("estimator", ["sampling", "balanced", "closed-form"])
@pytest.mark.parametrize("count", [7, 1])
@pytest.mark.filterwarnings("ignore:No closed form on this network")
def test_together_they_give_what_they_give_apart(net, images, estimator, count):
    serfiq = SERFIQ(net, passes=20, estimator=estimator)
    spatial = SpatialSERFIQ.of(serfiq)
    apart = serfiq.assess(images[:count], standard_error=True), spatial.shares(images[:count])
    together = spatial.assess_with(serfiq, images[:count], standard_error=True)
    for a, b in zip(apart, together, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x.detach(), y, rtol=1e-9, atol=1e-12)
    assert not together[0].embedding.requires_grad


def test_it_takes_one_forward_and_leaves_the_network_as_it_was(net, images):
    counted = in_mixed_state(CountedNet(net))
    serfiq = SERFIQ(counted, passes=20)
    spatial = SpatialSERFIQ.of(serfiq)
    spatial.assess_with(serfiq, images)
    counted.calls.clear()
    before = snapshot(counted)
    _, first = spatial.assess_with(serfiq, images)
    assert counted.calls == [7]
    assert_untouched(before, counted)
    counted.net.fc.weight.data.mul_(2)  # they follow the weights
    _, second = spatial.assess_with(serfiq, images)
    assert not torch.allclose(first.noise, second.noise)


def test_a_head_that_is_normalised_has_the_same_shares(net, images):
    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return nn.functional.normalize(self.net(x))

    serfiq = SERFIQ(Unit(), passes=20)
    spatial = SpatialSERFIQ.of(serfiq)
    apart = spatial.shares(images)
    (_, quality, _), together = spatial.assess_with(serfiq, images)
    torch.testing.assert_close(quality, serfiq.assess(images).quality)
    for x, y in zip(apart, together, strict=True):
        torch.testing.assert_close(x, y)


def test_where_the_rows_are_put_in_before_the_map_it_refuses(images):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(1200, 64), nn.Unflatten(1, (4, 4, 4)), nn.Conv2d(4, 4, 1),
        nn.Flatten(),
    ).double()  # fmt: skip
    serfiq = SERFIQ(net, passes=10, embedding_layer="1")
    spatial = SpatialSERFIQ.of(serfiq)
    assert len(spatial.shares(images).noise) == len(images)
    with pytest.raises(ValueError, match="rows"):
        spatial.assess_with(serfiq, images)
