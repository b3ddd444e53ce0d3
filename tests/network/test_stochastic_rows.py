"""Clean and stochastic embeddings in one forward, against a loop over images and masks."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq import SERFIQ
from captum_plq.network.embedding_layer import EmbeddingLayerError
from tests.conftest import assert_untouched, in_mixed_state, living_tensors, snapshot
from tests.support import architectures as arch
from tests.support.architectures import build, faces
from tests.support.splits import SPLITS, InplaceActivation, Insists, Split


def close(actual, expected, rtol=1e-9):
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=rtol * float(expected.detach().abs().max())
    )


def oracle(split: Split, net: nn.Module, images: Tensor, masks: Tensor, p: float) -> Tensor:
    """One image, one mask at a time, through the head and the tail alone: (B, m, d)."""
    rows = []
    for i in range(images.shape[0]):
        features = split.trunk(net, images[i : i + 1])
        for mask in masks:
            masked = features * mask.to(features.dtype) / (1 - p)
            rows.append(split.tail(net, split.head(net, masked)))
    return torch.cat(rows).unflatten(0, (images.shape[0], masks.shape[0]))


def gradients_of(rows: Tensor, x: Tensor, net: nn.Module) -> list[Tensor]:
    weights = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1)).to(rows)
    parameters = [p for p in net.parameters() if p.requires_grad]
    return list(
        torch.autograd.grad(
            (weights * rows).sum(), [x, *parameters], allow_unused=True, materialize_grads=True
        )
    )


@pytest.mark.filterwarnings("ignore:What follows the layer")
@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize("name", SPLITS)
def test_rows_and_gradients_are_those_of_a_loop(name, chunk_size):
    """Of a network in a state of all sorts, which is left in it; also by a later backward."""
    split, p = SPLITS[name], 0.2
    net, x, y = build(split.make), faces(3).requires_grad_(), faces(3).requires_grad_()
    serfiq = SERFIQ(
        in_mixed_state(net), passes=5, dropout=p, seed=9, output=split.output,
        embedding_layer=None if split.is_found else split.name, chunk_size=chunk_size,
    )  # fmt: skip
    before = snapshot(net)
    assert serfiq.prepare(x) == split.name
    clean, stochastic = serfiq.embeddings(x, differentiable=True)
    actual = gradients_of(torch.cat([clean.unsqueeze(1), stochastic], 1), x, net)
    assert_untouched(before, net)
    assert x.grad is None

    net.eval()
    shape = split.trunk(net, y[:1]).shape[1:]
    masks = serfiq.masks.for_features(shape, y.device)
    loop, plain = oracle(split, net, y, masks, p), net(y)
    plain = plain if split.output is None else plain[split.output]
    close(stochastic, loop)
    close(clean, plain, rtol=1e-12)
    expected = gradients_of(torch.cat([plain.unsqueeze(1), loop], 1), y, net)
    for a, b in zip(actual, expected, strict=True):
        close(a, b)


def test_an_activation_in_place_that_changes_what_it_is_given_again_is_refused():
    net = build(InplaceActivation, nn.SiLU)
    with pytest.raises(EmbeddingLayerError, match="changes its input in place"):
        SERFIQ(net, embedding_layer="act").prepare(faces())


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_no_gradient_reaches_the_pixels_from_stochastic_rows_unless_asked(chunk_size):
    net = build(arch.BatchNormTail)
    serfiq = SERFIQ(net, passes=12, chunk_size=chunk_size)
    for differentiable in (False, True):
        x = faces(3).requires_grad_()
        clean, stochastic = serfiq.embeddings(x, differentiable=differentiable)
        slopes = torch.autograd.grad(
            clean.sum() * 0 + stochastic.square().sum(), [x, net.fc.weight], allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
        assert [bool((slope != 0).any()) for slope in slopes] == [differentiable] * 2


@pytest.mark.parametrize(("count", "chunk_size"), [(5, 1), (5, 7), (1, 7), (5, 10**6)])
@pytest.mark.parametrize("differentiable", [False, True])
def test_one_forward_of_the_trunk_and_chunks_of_rows_through_the_layer(
    monkeypatch, count, chunk_size, differentiable
):
    net, images = build(arch.Head), faces(count).requires_grad_()
    rows, hooked, forward = [], [], net.fc.forward
    monkeypatch.setattr(net.fc, "forward", lambda x: rows.append(len(x)) or forward(x))
    net.trunk.register_forward_hook(lambda _, args, __: hooked.append(len(args[0])))
    net.fc.register_forward_hook(lambda _, args, y: hooked.extend([len(args[0]), len(y)]))
    serfiq = SERFIQ(net, passes=30, chunk_size=chunk_size)
    serfiq.prepare(images)
    expected = SERFIQ(net, passes=30).embeddings(images)[1]
    hooked.clear()
    rows.clear()
    stochastic = serfiq.embeddings(images, differentiable=differentiable)[1]
    assert hooked == [count] * 3  # the user's hooks see the images' own rows, once
    close(stochastic, expected, rtol=1e-12)
    assert rows[0] == count  # the clean ones, by the model itself
    assert sum(rows[1:]) == count * 30
    assert chunk_size < count * 30 or len(rows) == 2
    stochastic.sum().backward()
    assert max(rows[1:]) <= chunk_size


def test_chunks_bound_what_is_kept_for_backward():
    net, images, storages = build(arch.Head), faces(5), {}

    def keep(x):
        storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // x.element_size()
        return x

    def kept(chunk_size):
        serfiq, x = SERFIQ(net, passes=30, chunk_size=chunk_size), images.clone().requires_grad_()
        serfiq.prepare(images)
        storages.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            rows = serfiq.embeddings(x, differentiable=True)
        return rows and sum(storages.values())

    masked_features = 5 * 30 * 128
    assert kept(None) - kept(7) > 0.9 * masked_features
    assert kept(7) == kept(1)


def test_a_tail_that_insists_on_its_rows_is_told_of_once():
    net, images = build(Insists), faces(3)
    serfiq = SERFIQ(net, passes=3)
    with pytest.warns(UserWarning, match="one row per image"):
        serfiq.prepare(images)
    serfiq.embeddings(images[:1])  # a second warning would be an error here


CHANGES = {
    "ran 2 times": lambda n, x: n.fc(n.flat(x)) + n.fc(n.flat(x)),
    "was not run": lambda n, x: F.linear(n.flat(x), n.fc.weight),
    "12": lambda n, x: {3: (y := n.fc(n.flat(x)))}[len(y)],  # a KeyError of its own
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_network_that_comes_to_fail_is_left_as_it_was(words):
    """Runs its layer twice, or not at all, or fails on rows that are not its images'."""
    net, images = build(arch.Changed, lambda n, x: n.fc(n.flat(x))), faces(3)
    serfiq, plain = SERFIQ(net, passes=3), net.run
    expected, living = serfiq(images), None
    net.run, before = CHANGES[words], snapshot(in_mixed_state(net))
    for _ in range(20):
        with pytest.raises((EmbeddingLayerError, KeyError), match=words):
            serfiq.embeddings(images)
        living = living or living_tensors()
    assert living_tensors() <= living
    assert_untouched(before, net)
    net.run = plain
    assert torch.equal(serfiq(images), expected)
