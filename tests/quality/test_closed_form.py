"""The closed-form estimate of SER-FIQ, against the limit of sampling."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution

CLOSED = {"estimator": "closed-form", "average": "pairs"}


class WideFaceNet(nn.Module):
    """Many features and a BatchNorm behind the linear layer, as face networks have."""

    def __init__(self, tail=lambda e: e, batch_norm=True):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 24, 5, 3), nn.PReLU(), nn.Flatten())
        self.fc = nn.Linear(24 * 36, 64)
        self.bn = nn.BatchNorm1d(64) if batch_norm else nn.Identity()
        self.tail = tail

    def forward(self, x):
        return self.tail(self.bn(self.fc(self.trunk(x / 128 - 1))))


def made(net):
    """The network with BatchNorm statistics that are not the trivial ones, float64, eval."""
    generator = torch.Generator().manual_seed(4)
    for module in net.double().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.05, generator=generator)
            module.running_var.uniform_(0.02, 0.06, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.05, generator=generator)
    return net.eval()


def wide_net(*tail):
    torch.manual_seed(3)
    return made(WideFaceNet(*tail))


def unit_length(e):
    return F.normalize(e, dim=1)


def distance(quality):
    return -torch.logit(quality.detach() / 2)


@torch.no_grad()
def limit(net, images, draws=30, **options):
    """Mean pairwise distance over many seeds, without the pairs' bias; and those of each seed."""
    seeds = [SERFIQ(net, seed=s, average="pairs", **options)(images) for s in range(draws)]
    each = distance(torch.stack(seeds))
    return each.mean(0), each


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_is_nearer_to_the_limit_than_a_hundred_passes(images, p):
    net = wide_net()
    truth, draws = limit(net, images, 60, dropout=p)
    closed = SERFIQ(net, dropout=p, **CLOSED)
    one = (draws / truth - 1).abs().mean()
    assert (distance(closed(images)) / truth - 1).abs().mean() < 0.5 * one
    assert closed.fallback_reason is None


def writes_into_what_it_gets(y):
    y /= y.detach().norm(dim=1, keepdim=True)
    return y


HEADS = {
    "unit length": lambda: WideFaceNet(unit_length),
    "written into": lambda: WideFaceNet(writes_into_what_it_gets, False),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(1200, 64)),
    "no bias, BatchNorm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(1200, 64, bias=False), nn.BatchNorm1d(64, affine=False)
    ),
    "two linears": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(1200, 64), nn.Dropout(0.2), nn.Linear(64, 200)
    ),
    "grouped convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 63, 20, groups=3), nn.BatchNorm2d(63), nn.Flatten()
    ),
    "1x1 convolution": lambda: nn.Sequential(
        nn.Conv2d(3, 900, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(900, 64, 1),
        nn.Identity(), nn.Flatten(),
    ),
    "wider than the columns that are sampled": lambda: nn.Sequential(
        nn.Conv2d(3, 12, 5), nn.PReLU(), nn.Flatten(), nn.Linear(3072, 64), nn.BatchNorm1d(64)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADS)
def test_heads_that_fold(images, kind):
    torch.manual_seed(0)
    net = made(HEADS[kind]())
    name = {"two linears": "1"}.get(kind)  # the first, not the one that is found
    closed = SERFIQ(net, embedding_layer=name, **CLOSED)
    ours, (truth, _) = distance(closed(images)), limit(net, images, embedding_layer=name)
    assert closed.fallback_reason is None
    torch.testing.assert_close(ours, truth, rtol=1.5e-2, atol=0)


def test_another_head_beside_the_embedding_is_left_out(images):
    """As CR-FIQA has one, for quality: it runs after the embedding, which does not depend on it."""

    class TwoHeads(WideFaceNet):
        def __init__(self):
            super().__init__()
            self.quality = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

        def forward(self, x):
            e = super().forward(x)
            return e, self.quality(e)

    torch.manual_seed(3)
    serfiq = SERFIQ(made(TwoHeads()), output=0, **CLOSED)
    torch.testing.assert_close(serfiq(images), SERFIQ(wide_net(), **CLOSED)(images))
    assert serfiq.fallback_reason is None


def test_on_the_dlib_network(dlib_net, dlib_chips):
    closed = SERFIQ(dlib_net, **CLOSED)
    ours, (truth, _) = distance(closed(dlib_chips)), limit(dlib_net, dlib_chips, 12)
    assert closed.fallback_reason is None
    torch.testing.assert_close(ours, truth, rtol=3e-3, atol=0)


def test_expects_what_m_passes_give_without_sampling_error(images):
    """With Eq. 1's average, (m - 1)/m of the limit: α and r measured on samples still hold."""
    net = wide_net()
    pairs = SERFIQ(net, **CLOSED)(images)
    paper = SERFIQ(net, passes=20, estimator="closed-form", seed=9)
    embedding, quality, error = paper.assess(images, standard_error=True)
    torch.testing.assert_close(distance(quality), distance(pairs) * 19 / 20)
    assert error.tolist() == [0.0] * 7
    assert paper.assess(images).standard_error is None
    torch.testing.assert_close(embedding, net(images))


def test_is_differentiable_and_does_not_depend_on_the_batch(images):
    serfiq = SERFIQ(wide_net(), **CLOSED)
    x = images.clone().requires_grad_()
    quality = serfiq(x)
    gradient = torch.autograd.grad(quality.sum(), x)[0]
    step = torch.randn(images.shape, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        slope = (serfiq(images + 1e-3 * step) - serfiq(images - 1e-3 * step)).sum() / 2e-3
        alone = torch.cat([serfiq(image[None]) for image in images])
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(alone, quality.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tail", [[], [unit_length]])
def test_an_attribution_costs_one_forward_and_no_passes(images, tail):
    net = wide_net(*tail)
    plq, rows = PixelQualityAttribution(SERFIQ(net, **CLOSED)), []
    plq.attribute(images[:2])
    for module in (net.trunk[0], net.bn):
        module.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    plq.attribute(images)
    assert rows == [7, 7]


REFUSED = {
    "bent": (lambda: WideFaceNet(torch.tanh), "Something that is not affine"),
    "a module": (lambda: nn.Sequential(WideFaceNet(), nn.PReLU()), "A PReLU follows"),
    "sliding to the end": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 9), nn.Flatten()), "convolution that slides"
    ),
    "a block": (lambda: nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(1200, 64))), "a Seq"),
    "a computed weight": (
        lambda: nn.utils.weight_norm(nn.Linear(20, 64)), r"computed by a hook \(torch.nn.utils"
    ),
    "few directions": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(1200, 1), nn.Linear(1, 8, bias=False)),
        "disagree by",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_where_there_is_none_sampling_takes_over_and_says_so_once(images, kind):
    torch.manual_seed(0)
    make, reason = REFUSED[kind]
    net, options = make().double().eval(), {"embedding_layer": "0" if kind == "a block" else None}
    if kind == "a computed weight":
        images = images.mean((1, 2))
    serfiq = SERFIQ(net, estimator="closed-form", **options)
    with pytest.warns(UserWarning, match=f"sampling instead: .*{reason}"):
        quality = serfiq(images)
    assert reason.split("\\")[0] in serfiq.fallback_reason
    assert torch.equal(quality, SERFIQ(net, **options)(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        serfiq(images)


@pytest.mark.filterwarnings("ignore:No closed form")
@pytest.mark.parametrize("change", ["eps", "hook", "forward"])
def test_ends_with_what_is_no_tensor_too(images, change):
    torch.manual_seed(0)
    net = made(nn.Sequential(nn.Flatten(), nn.Linear(1200, 64), nn.BatchNorm1d(64)))
    net[2].running_var = torch.linspace(0.1, 2, 64, dtype=torch.float64)
    serfiq = SERFIQ(net, estimator="closed-form")
    before = serfiq(images)
    if change == "eps":
        net[2].eps = 5.0
    elif change == "hook":
        net[2].register_forward_hook(lambda m, i, o: o.clamp(min=0))
    else:
        net[2].forward = lambda x: x.relu()
    after = serfiq(images)
    assert torch.equal(after, SERFIQ(net, estimator="closed-form")(images))
    assert ((after / before - 1).abs() > 0.02).any()
