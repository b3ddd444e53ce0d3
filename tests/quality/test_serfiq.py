"""SERFIQ: images in, quality out."""

import copy
import pickle

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ
from tests.support.naive import naive_quality


@pytest.mark.parametrize(("passes", "dropout"), [(2, 0.5), (10, 0.1), (30, 0.9)])
def test_equals_the_naive_loop_and_so_does_its_gradient(net, images, passes, dropout):
    options = {"passes": passes, "dropout": dropout}
    x, y = images[:3].clone().requires_grad_(), images[:3].clone().requires_grad_()
    masks = SERFIQ(net, **options).masks.for_features(torch.Size([300]), y.device)
    expected = naive_quality(net.trunk, lambda f: net.bn(net.fc(f)), y, masks, dropout)
    slopes = torch.autograd.grad(expected.sum(), y)[0]
    for chunk_size in (None, 1, 5, 10_000):
        actual = SERFIQ(net, chunk_size=chunk_size, **options)(x)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=0)
        gradient = torch.autograd.grad(actual.sum(), x)[0]
        torch.testing.assert_close(gradient, slopes, rtol=1e-8, atol=1e-16)


@torch.no_grad()
def test_quality_does_not_depend_on_the_batch(net, images):
    serfiq = SERFIQ(net)
    together = serfiq(images)
    alone = torch.cat([serfiq(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=0)
    torch.testing.assert_close(serfiq(images.flip(0)).flip(0), together, rtol=1e-12, atol=0)


def test_same_seed_same_quality_other_seed_other_quality(net, images):
    serfiq = SERFIQ(net, seed=3)
    first = serfiq(images)
    torch.rand(11)  # whatever happened to the global state since
    for again in (SERFIQ(net, seed=3), copy.deepcopy(serfiq), pickle.loads(pickle.dumps(serfiq))):
        assert torch.equal(again(images), first)
    assert not torch.allclose(SERFIQ(net, seed=4)(images), first, rtol=1e-6)


def test_pairs_average_is_the_released_codes(net, images):
    paper, pairs = SERFIQ(net)(images), SERFIQ(net, average="pairs")(images)
    distance = -torch.logit(paper / 2)
    torch.testing.assert_close(pairs, 2 * torch.sigmoid(-distance * 100 / 99))


def test_stochastic_embeddings_have_a_gradient_only_if_asked_for(net, images):
    serfiq, x = SERFIQ(net, passes=3), images.clone().requires_grad_()
    assert serfiq.tap.layer_name is None
    for options, wanted in (({}, False), ({"differentiable": True}, True)):
        stochastic = serfiq.embeddings(x, **options)[1]
        assert bool(torch.autograd.grad(stochastic.sum(), x)[0].any()) is wanted
    assert serfiq.tap.layer_name == "fc"


def test_is_a_target_for_training(net, images):
    SERFIQ(net, passes=10)(images).sum().backward()
    assert net.fc.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_autograd(net, images, mode):
    expected, serfiq = SERFIQ(net)(images).detach(), SERFIQ(net)
    with mode():
        assert torch.equal(serfiq(images.clone()), expected)
    assert torch.equal(serfiq(images), expected)  # masks drawn in inference mode still serve
    x = images.clone().requires_grad_()
    serfiq(x).sum().backward()
    assert x.grad.any()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("passes must be an integer of at least 2", {"passes": 1}),
        ("strictly between 0 and 1", {"dropout": 1.0}),
        ("average must be", {"average": "mean"}),
        ("'sampling', 'balanced' or 'closed-form'", {"estimator": "monte carlo"}),
        ("unit-length", {"estimator": "closed-form", "normalize": False}),
        ("chunk_size", {"chunk_size": 0}),
        ("at least 3", {"passes": 2}),
    ],
)
def test_bad_parameters_are_refused(net, images, words, options):
    with pytest.raises(ValueError, match=words):
        SERFIQ(net, **options).assess(images, standard_error=True)


def test_a_traced_module_runs(net, images):
    with pytest.warns():  # torch deprecates tracing, and warns of every shape that is checked
        traced = torch.jit.trace(SERFIQ(net), images)
    for x in (images, images / 2):
        torch.testing.assert_close(traced(x), SERFIQ(net)(x))
    kinds = [node.kind() for node in traced.inlined_graph.nodes()]
    assert kinds.count("aten::_convolution") == 2  # exploring the network was not recorded


def test_scripted_and_exported_models_are_refused(net, images):
    with pytest.warns():
        traced = torch.jit.trace(net, images)
    for model in (traced, nn.Sequential(traced, nn.ReLU())):
        with pytest.raises(ValueError, match="hooks do not fire"):
            SERFIQ(model)
    program = torch.export.export(net, (images,)).module()
    with pytest.raises(ValueError, match="exported"):
        SERFIQ(program)(images)
