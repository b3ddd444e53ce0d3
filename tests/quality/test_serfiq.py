"""SERFIQ: images in, quality out."""

import copy

import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import nn

from captum_plq import SERFIQ
from tests.conftest import assert_untouched, living_tensors, small_face_net, snapshot
from tests.support.naive import naive_quality


def head_of(net):
    return lambda features: net.bn(net.fc(features))


def masks_of(serfiq, features):
    return serfiq.masks.for_features(torch.Size(features), torch.device("cpu"))


@pytest.mark.parametrize(("passes", "dropout"), [(2, 0.5), (10, 0.1), (30, 0.9)])
def test_equals_the_naive_loop(net, images, passes, dropout):
    serfiq = SERFIQ(net, passes=passes, dropout=dropout)
    expected = naive_quality(net.trunk, head_of(net), images, masks_of(serfiq, [300]), dropout)
    torch.testing.assert_close(serfiq(images), expected, rtol=1e-9, atol=0)


def test_equals_the_naive_loop_on_the_dlib_network(dlib_net, dlib_chips):
    serfiq = SERFIQ(dlib_net, passes=20)
    backbone = dlib_net.backbone
    features = []
    handle = backbone.fc.register_forward_pre_hook(lambda _, args: features.append(args[0]))
    with torch.no_grad():
        dlib_net(dlib_chips)
        handle.remove()
        masks = masks_of(serfiq, features[0].shape[1:])
        expected = naive_quality(lambda _: features[0], backbone.fc, dlib_chips, masks, 0.5)
        torch.testing.assert_close(serfiq(dlib_chips), expected, rtol=1e-5, atol=0)


def test_quality_does_not_depend_on_the_batch(net, images):
    serfiq = SERFIQ(net)
    together = serfiq(images)
    alone = torch.cat([serfiq(image[None]) for image in images])
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=0)
    torch.testing.assert_close(serfiq(images[order]), together[order], rtol=1e-12, atol=0)


def test_quality_does_not_depend_on_the_batch_in_float32(dlib_net, dlib_chips):
    serfiq = SERFIQ(dlib_net)
    with torch.no_grad():
        together = serfiq(dlib_chips)
        alone = torch.cat([serfiq(chip[None]) for chip in dlib_chips])
        reordered = serfiq(dlib_chips.flip(0)).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=0)
    torch.testing.assert_close(reordered, together, rtol=1e-6, atol=0)


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 64, 10_000])
def test_quality_does_not_depend_on_the_chunk_size(net, images, chunk_size):
    torch.testing.assert_close(
        SERFIQ(net, chunk_size=chunk_size)(images), SERFIQ(net)(images), rtol=1e-12, atol=0
    )


def test_same_seed_same_quality_other_seed_other_quality(net, images):
    first = SERFIQ(net, seed=3)(images)
    torch.rand(11)  # whatever happened to the global state since
    assert torch.equal(SERFIQ(copy.deepcopy(net), seed=3)(images), first)
    assert not torch.allclose(SERFIQ(net, seed=4)(images), first, rtol=1e-6)


def test_seed_0_keeps_its_value_from_release_to_release():
    """The same number on another day: a change here changes every user's qualities."""
    masks = SERFIQ(small_face_net(), passes=3).masks
    kept = masks.for_features(torch.Size([12]), torch.device("cpu"))
    drawn = ["".join("01"[int(k)] for k in row) for row in kept]
    assert drawn == ["010001010100", "000111001101", "011000010000"]


def test_more_dropout_means_lower_quality(net, images):
    low, middle, high = (SERFIQ(net, dropout=p)(images) for p in (0.05, 0.3, 0.8))
    assert (low > middle).all()
    assert (middle > high).all()
    assert ((high > 0) & (low <= 1)).all()


def test_pairs_average_is_the_released_codes(net, images):
    paper, pairs = SERFIQ(net)(images), SERFIQ(net, average="pairs")(images)
    distance = -torch.logit(paper / 2)
    torch.testing.assert_close(pairs, 2 * torch.sigmoid(-distance * 100 / 99))


def test_gradient_equals_the_naive_one(net, images):
    serfiq = SERFIQ(net, passes=8)
    x, y = images.clone().requires_grad_(), images.clone().requires_grad_()
    masks = masks_of(serfiq, [300])
    naive = naive_quality(net.trunk, head_of(net), y, masks, 0.5)
    expected = torch.autograd.grad(naive.sum(), y)[0]
    for chunk_size in (None, 5):
        serfiq = SERFIQ(net, passes=8, chunk_size=chunk_size)
        actual = torch.autograd.grad(serfiq(x).sum(), x)[0]
        torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-16)


def test_is_differentiable_in_the_parameters(net, images):
    SERFIQ(net, passes=4)(images).sum().backward()
    assert net.fc.weight.grad.abs().sum() > 0


def test_is_a_target_for_captum(net, images):
    serfiq = SERFIQ(net, passes=10)
    assert Saliency(serfiq).attribute(images.requires_grad_()).abs().sum() > 0
    _, delta = IntegratedGradients(serfiq).attribute(
        images[:2], baselines=255 * torch.ones_like(images[:2]), n_steps=80,
        return_convergence_delta=True,
    )  # fmt: skip
    change = serfiq(images[:2]) - serfiq(255 * torch.ones_like(images[:2]))
    assert (delta.abs() < 0.05 * change.abs() + 1e-3).all()


def test_a_model_in_training_mode_is_run_as_in_evaluation(net, images):
    expected = SERFIQ(net)(images)
    net.train()
    before = snapshot(net)
    assert torch.equal(SERFIQ(net)(images), expected)
    assert_untouched(before, net)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_without_autograd(net, images, mode):
    expected = SERFIQ(net)(images).detach()
    serfiq = SERFIQ(net)
    with mode():
        assert torch.equal(serfiq(images.clone()), expected)
    assert torch.equal(serfiq(images), expected)  # masks drawn in inference mode still serve
    x = images.clone().requires_grad_()
    serfiq(x).sum().backward()


@pytest.mark.parametrize("passes", [-1, 0, 1, 2.0, True, "100"])
def test_passes_below_two_are_refused(net, passes):
    with pytest.raises(ValueError, match="passes must be an integer of at least 2"):
        SERFIQ(net, passes=passes)


@pytest.mark.parametrize("dropout", [0, 0.0, 1.0, -0.1, 1.5, float("nan")])
def test_dropout_outside_the_open_interval_is_refused(net, dropout):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        SERFIQ(net, dropout=dropout)


def test_other_bad_parameters_are_refused(net):
    with pytest.raises(ValueError, match="average must be"):
        SERFIQ(net, average="mean")
    with pytest.raises(ValueError, match="chunk_size"):
        SERFIQ(net, chunk_size=0)
    with pytest.raises(TypeError, match=r"nn\.Module"):
        SERFIQ(lambda x: x)


def test_bad_images_are_refused(net, images):
    serfiq = SERFIQ(net)
    with pytest.raises(TypeError, match=r"torch\.uint8.*\.float\(\)"):
        serfiq(images.to(torch.uint8))
    with pytest.raises(ValueError, match="NaN"):
        serfiq(images.where(torch.rand(images.shape) > 0.01, torch.nan))
    with pytest.raises(ValueError, match="batch"):
        serfiq(images[:0])
    with pytest.raises(RuntimeError, match="channels"):
        serfiq(images[:, :1])
    assert serfiq(images).isfinite().all()


def test_a_traced_module_runs(net, images):
    expected = SERFIQ(net)(images)
    with pytest.warns():  # torch deprecates tracing, and warns of every shape that is checked
        traced = torch.jit.trace(SERFIQ(net), images)
    torch.testing.assert_close(traced(images), expected)
    torch.testing.assert_close(traced(images / 2), SERFIQ(net)(images / 2))


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_module_runs(net, images, backend):
    expected = SERFIQ(net)(images)
    compiled = torch.compile(SERFIQ(net), backend=backend)
    for _ in range(2):
        torch.testing.assert_close(compiled(images), expected)


def test_a_scripted_model_is_refused(net, images):
    with pytest.warns():
        traced = torch.jit.trace(net, images)
    with pytest.raises(ValueError, match="hooks do not fire"):
        SERFIQ(traced)
    with pytest.raises(ValueError, match="hooks do not fire"):
        SERFIQ(nn.Sequential(traced, nn.ReLU()))


def test_memory_does_not_grow_over_200_calls(net, images):
    serfiq = SERFIQ(net, passes=5)

    serfiq(images)
    before = living_tensors()
    for _ in range(200):
        serfiq(images)
    assert living_tensors() <= before


def test_shows_its_parameters(net):
    assert "passes=7, dropout=0.25, seed=1" in repr(SERFIQ(net, passes=7, dropout=0.25, seed=1))
