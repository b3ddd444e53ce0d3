"""What every quality score promises. A new score is put on trial by its line in ``SCORES``."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from captum_plq.errors import UnusableImagesError
from captum_plq.quality.scores import QualityScore, make_score
from tests.conftest import assert_untouched, in_mixed_state, living_tensors, snapshot
from tests.quality.scores.networks import LACKING, network_for
from tests.support.architectures import build, faces

CHECKS = []


def promised(check):
    CHECKS.append(check)
    return check


def near(actual, expected, rtol=1e-6):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol * expected.abs().max().item())


@promised
def gives_one_number_per_image(name, make):
    score = make(network_for(name))
    assert isinstance(score, QualityScore)
    assert isinstance(score, nn.Module)
    assert isinstance(score.needs, str)
    assert score.needs
    found = score(faces(4))
    assert found.shape == (4,)
    assert found.dtype == torch.float64
    assert found.isfinite().all()
    assert len(found.unique()) == 4


@promised
def scores_each_image_by_itself(name, make):
    score, images = make(network_for(name)), faces(5)
    together = score(images)
    for i in range(5):
        near(score(images[i : i + 1]), together[i : i + 1])
    order = torch.tensor([3, 0, 4, 2, 1])
    near(score(images[order]), together[order])


@promised
def repeats_itself(name, make):
    net, images = network_for(name), faces()
    score = make(net)
    found = score(images).detach()
    torch.rand(3)
    assert torch.equal(score(images), found)
    assert torch.equal(make(net)(images), found)
    assert torch.equal(copy.deepcopy(score)(images), found)
    assert torch.equal(pickle.loads(pickle.dumps(score))(images), found)


@promised
def leaves_everything_as_it_was(name, make):
    net, images = in_mixed_state(network_for(name)), faces().requires_grad_()
    images.grad = torch.full_like(images, 7.0)
    before, pixels = snapshot(net), images.detach().clone()
    score = make(net)
    for _ in range(2):
        score(images)
        assert_untouched(before, net)
    assert images.grad.unique().tolist() == [7.0]
    assert torch.equal(images, pixels)


@promised
def does_not_depend_on_modes(name, make):
    net, images = network_for(name), faces()
    expected = make(net)(images).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            near(make(net)(images.clone()), expected)
    for changed in (net.train(), net.requires_grad_(False), nn.DataParallel(net)):
        if isinstance(changed, nn.DataParallel) and (name == "native" or torch.cuda.is_available()):
            continue
        near(make(changed)(images).detach(), expected)


@promised
def has_gradients_if_it_says_so(name, make):
    score, images = make(network_for(name)), faces(2).requires_grad_()
    found = score(images)
    assert found.requires_grad is score.differentiable
    if not score.differentiable:
        return
    (slopes,) = torch.autograd.grad(found.sum(), images)
    step = torch.randn(slopes.shape, generator=torch.Generator().manual_seed(0)).double()
    step *= 1e-6
    with torch.no_grad():
        moved = (score(images + step) - score(images - step)) / 2
    near(moved, (slopes * step).flatten(1).sum(1), 1e-3)


@promised
def works_in_every_precision(name, make):
    images = faces()
    exact = make(network_for(name))(images).detach()
    for dtype, rtol in ((torch.float32, 1e-3), (torch.bfloat16, 0.2)):
        found = make(network_for(name).to(dtype))(images.to(dtype))
        assert found.dtype == torch.float32
        near(found.detach().double(), exact, rtol)


@promised
def moves_with_its_network(name, make):
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    expected = make(network_for(name))(faces()).detach()
    for device in devices:
        score = make(network_for(name)).to(device)
        found = score(faces().to(device))
        assert found.device.type == device
        near(found.detach().cpu(), expected)


@promised
def refuses_what_it_cannot_score(name, make):
    score, images = make(network_for(name)), faces()
    expected = score(images).detach()
    damaged = images.clone()
    damaged[1, 0, 0, 0] = torch.nan
    with pytest.raises(UnusableImagesError) as refused:
        score(damaged)
    assert refused.value.indices == (1,)
    with pytest.raises(TypeError, match="floating point"):
        score(images.to(torch.uint8))
    with pytest.raises(ValueError, match="batch"):
        score(images[:0])
    assert torch.equal(score(images), expected)


@promised
def blank_images_have_a_number_or_an_error(name, make):
    score, images = make(network_for(name)), faces()
    images[2] = 0
    assert score(images).isfinite().all()

    class Gated(nn.Module):
        """Gives zeros for a blank image."""

        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            seen = x.abs().amax((1, 2, 3))[:, None].sign()
            given = self.net(x)
            return tuple(y * seen for y in given) if isinstance(given, tuple) else given * seen

    net = network_for(name)
    if name == "native":
        net.backbone = Gated(net.backbone)
    else:
        net = Gated(net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a closed form that the gate rules out
        with pytest.raises(ValueError, match=r"zeros|NaN|applies|path"):
            make(net)(images)


@promised
def says_what_a_network_lacks(name, make):
    lacking = LACKING.get(name)
    if lacking is None:
        return
    with pytest.raises(ValueError, match=r"network|model") as refused:
        make(build(lacking))(faces())
    assert len(str(refused.value)) > 40


@promised
def keeps_no_tensors(name, make):
    score, images = make(network_for(name)), faces(2)
    for _ in range(2):
        score(images)
    before = living_tensors()
    for _ in range(5):
        score(images)
    assert living_tensors() <= before


def makers():
    """Score → what makes it of a network."""
    from captum_plq.quality.scores import SCORES

    return {name: lambda net, name=name: make_score(name, net) for name in SCORES}
