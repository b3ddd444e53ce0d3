"""What every attribution method promises, as scikit-learn's ``check_estimator`` asks of estimators.

A new class is put on trial by one line in methods.py. Captum's Saliency stands beside
ours: what it promises too is no invention of this package.
"""

import copy
import itertools
import pickle
import warnings

import pytest
import torch
from captum.attr import Attribution, GradientAttribution, NoiseTunnel, Saliency
from torch import nn

from captum_plq import SERFIQ
from tests.conftest import assert_untouched, in_mixed_state, living_tensors, snapshot
from tests.support.architectures import BatchNormTail, build, faces

CHECKS = []


def check_attribution(method):
    """The whole contract at once."""
    for check in CHECKS:
        check(method)


def promised(check):
    CHECKS.append(check)


def promised_by_ours(check):
    CHECKS.append(lambda method: check(method) if method.ours else None)
    CHECKS[-1].__name__ = check.__name__


def network():
    return build(BatchNormTail)


def pixels(count=4):
    return faces(count).requires_grad_()  # as Saliency wants them


def close(actual, expected, rtol=1e-7):
    atol = rtol * float(expected.abs().max())
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@promised
def gives_attributions_as_captum_does(method):
    x, attribution = pixels(), method.make(network())
    assert isinstance(attribution, Attribution if method.sums else GradientAttribution)
    assert attribution.get_name()
    assert attribution.has_convergence_delta() is method.sums
    assert getattr(attribution, "multiplies_by_inputs", False) is method.sums
    found = attribution.attribute(x, additional_forward_args=None)
    assert found.shape == x.shape if method.of_pixels else len(found) == len(x)
    assert found.dtype == x.dtype
    assert found.isfinite().all()
    assert found.flatten(1).any(1).all()
    assert not found.requires_grad
    in_tuple = attribution.attribute((x,))
    assert isinstance(in_tuple, tuple) is method.of_pixels
    assert torch.equal(in_tuple[0] if method.of_pixels else in_tuple, found)
    channels_last = x.detach().contiguous(memory_format=torch.channels_last)
    again = attribution.attribute(channels_last.requires_grad_())
    close(again, found)
    assert again.is_contiguous() or not method.ours


class Brightened(BatchNormTail):
    def forward(self, x, gain=None, offset=0.0):
        return super().forward(x if gain is None else x * gain.view(-1, 1, 1, 1) + offset)


@promised
def explains_each_image_by_itself(method):
    attribution, x = method.make(build(Brightened)), pixels(5)
    gains = torch.linspace(0.5, 1.5, 5, dtype=x.dtype)

    def found(rows):
        images = x[rows].detach().requires_grad_()
        if not method.ours:  # QualityModel's second argument is the node
            return attribution.attribute(images)
        return attribution.attribute(images, additional_forward_args=(gains[rows], 0.2))

    together = found(slice(None))
    for i in range(5):
        close(found(slice(i, i + 1))[0], together[i])
    order = torch.tensor([3, 0, 4, 2, 1])
    close(found(order), together[order])


@promised
def takes_targets_or_says_no(method):
    x, net = pixels(), network()
    attribution = method.make(net)
    if not method.by_feature or not method.ours:
        with pytest.raises((AssertionError, ValueError)):
            attribution.attribute(x, target=0)
        return
    close(sum(attribution.attribute(x, target=k) for k in range(16)), attribution.attribute(x))
    each = attribution.attribute(x, target=[3, 0, 15, 3])
    close(attribution.attribute(x, target=torch.tensor([3, 0, 15, 3])), each)
    close(each[2], attribution.attribute(x, target=15)[2])
    for target in (99, (0, 0, 0), [0, 1], torch.tensor([0, 1])):
        with pytest.raises((AssertionError, IndexError)) as captums:
            Saliency(net).attribute(x, target=target)
        with pytest.raises(captums.type):
            attribution.attribute(x, target=target)


@promised
def leaves_everything_as_it_was(method):
    net, images = in_mixed_state(network()), faces()
    x = images.clone().requires_grad_()
    x.grad = torch.full_like(x, 7.0)
    net.fc.bias.grad = torch.full_like(net.fc.bias, 3.0)
    before = snapshot(net)
    method.make(net).attribute(x)
    assert_untouched(before, net)
    assert x.grad.unique().tolist() == [7.0]
    assert net.fc.bias.grad.unique().tolist() == [3.0]
    assert torch.equal(x, images)
    assert x.requires_grad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum's, of the gradients it sets
        method.make(net).attribute(images)
    assert not images.requires_grad
    assert images.grad is None


@promised
def can_be_smoothed_by_a_noise_tunnel(method):
    attribution, x = method.make(SERFIQ(network(), passes=10)), pixels()
    still = NoiseTunnel(attribution).attribute(x, nt_samples=3, stdevs=0.0)
    close(still, attribution.attribute(x))
    options = {"nt_samples": 4, "nt_samples_batch_size": 2, "stdevs": 0.1}
    for nt_type in ("smoothgrad_sq", "vargrad"):
        noisy = NoiseTunnel(attribution).attribute(x, nt_type=nt_type, **options)
        assert noisy.shape == still.shape
        assert ((noisy >= 0) & noisy.isfinite()).all()
        assert noisy.any()


@promised
def repeats_itself(method):
    """Fixed by the seed: on another day, in a copy, in another process."""
    attribution, x = method.make(SERFIQ(network(), seed=3)), pixels()
    found = attribution.attribute(x)
    torch.rand(5)
    assert torch.equal(attribution.attribute(x), found)
    assert torch.equal(method.make(SERFIQ(network(), seed=3)).attribute(x), found)
    assert torch.equal(copy.deepcopy(attribution).attribute(x), found)
    assert torch.equal(pickle.loads(pickle.dumps(attribution)).attribute(x), found)
    other = method.make(SERFIQ(network(), seed=4)).attribute(x)
    assert torch.allclose(other, found, rtol=1e-6, atol=0) is method.sums


@promised
def costs_one_forward_of_the_network(method):
    net, forwards, backwards = network(), [], []
    net.trunk[0][0].register_forward_hook(lambda _, args, __: forwards.append(len(args[0])))
    net.trunk[1].register_full_backward_hook(lambda _, __, grads: backwards.append(len(grads[0])))
    attribution = method.make(net)
    attribution.attribute(pixels())
    for images, size in ((pixels(4), 4), (pixels(1), 1)):
        forwards.clear()
        backwards.clear()
        attribution.attribute(images)
        assert forwards == [size]
        assert backwards == [size] * method.backwards


@promised
def does_not_change_with_chunks_or_wrappers(method):
    x = pixels()
    expected = method.make(network()).attribute(x)
    for chunk_size in (1, 7):
        close(method.make(SERFIQ(network(), chunk_size=chunk_size)).attribute(x), expected)
    if not torch.cuda.is_available():
        close(method.make(nn.DataParallel(network())).attribute(x), expected)


@promised_by_ours
def works_whatever_the_state_of_autograd_and_network(method):
    images, net = faces(), network()
    expected = method.make(net).attribute(images)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(method.make(net).attribute(images.clone()), expected)
    for changed in (net.train(), net.requires_grad_(False)):
        assert torch.equal(method.make(changed).attribute(images), expected)


@promised_by_ours
def works_in_every_precision(method):
    net, images = network(), faces()
    exact = method.make(net).attribute(images).flatten(1)
    for dtype, near in ((torch.float32, 1 - 1e-6), (torch.bfloat16, 0.97), (torch.float16, 0.99)):
        attribution = method.make(network().to(dtype))
        found, quality = attribution.attribute(images.to(dtype), return_quality=True)
        assert (found.dtype, quality.dtype) == (dtype, torch.float32)
        assert torch.cosine_similarity(found.flatten(1).double(), exact).min() > near, dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = method.make(net.float()).attribute(images.float())
    assert torch.cosine_similarity(mixed.flatten(1).double(), exact).min() > 0.97


@promised_by_ours
def tells_quality_and_standard_error_and_clips(method):
    serfiq, images = SERFIQ(network()), faces()
    attribution = method.make(serfiq)
    alone = attribution.attribute(images)
    if method.sums:
        asked = {"return_quality": True, "return_convergence_delta": True}
        _, quality, delta = attribution.attribute(images, **asked)
        torch.testing.assert_close(quality, attribution.forward_func(images))
        assert delta.abs().max() < 1e-12
        return
    both = attribution.attribute(images, return_quality=True, return_standard_error=True)
    error_alone = attribution.attribute(images, return_standard_error=True)
    _, quality, error = serfiq.assess(images, standard_error=True)
    for got, want in zip((*both, error_alone[1]), (alone, quality, error, error), strict=True):
        torch.testing.assert_close(got, want)
        assert not got.requires_grad
    norms = alone.flatten(1).norm(dim=1)
    limit = float(norms.sort().values[1])
    clipped = attribution.attribute(images, max_gradient_norm=limit)
    torch.testing.assert_close(clipped.flatten(1).norm(dim=1), norms.clamp_max(limit))
    with pytest.raises(ValueError, match="max_norm must be positive"):
        attribution.attribute(images, max_gradient_norm=0.0)


@promised_by_ours
def refuses_what_cannot_be_explained(method):
    attribution, images = method.make(network()), faces()
    expected = attribution.attribute(images)
    for wrong, error, words in (
        (images.to(torch.uint8), TypeError, "floating point"),
        (images / 0, ValueError, "NaN"),
        (images[:0], ValueError, "batch"),
        (images[:, :2], RuntimeError, "channels"),
    ):
        with pytest.raises(error, match=words):
            attribution.attribute(wrong)
    assert torch.equal(attribution.attribute(images), expected)


@promised_by_ours
def leaves_nothing_behind_after_an_exception(method):
    for where, warm in itertools.product(("trunk", "fc", "bn"), (False, True)):
        net, x = in_mixed_state(network()), pixels()
        attribution, before = method.make(net), snapshot(net)
        if warm:
            attribution.attribute(x)
        handle = getattr(net, where).register_forward_hook(lambda *_: 1 / 0)
        with handle, pytest.raises(ZeroDivisionError):
            attribution.attribute(x)
        assert_untouched(before, net)
        assert x.grad is None
        assert attribution.attribute(x).isfinite().all()
    if method.sums:
        return
    handle = net.trunk[2].register_full_backward_hook(lambda *_: 1 / 0)
    with handle, pytest.raises(ZeroDivisionError):
        attribution.attribute(x)
    assert_untouched(before, net)


@promised_by_ours
def keeps_nothing_that_is_not_needed(method):
    images, kept = faces(2), []
    for net in (network(), network().requires_grad_(False)):
        attribution, sizes = method.make(SERFIQ(net, passes=5)), []
        attribution.attribute(images)
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x
        ):
            attribution.attribute(images)
        kept.append(sum(sizes))
        before = living_tensors()
        for _ in range(10):
            attribution.attribute(images)
        assert living_tensors() <= before
    if method.sums:  # weights behind the map are the network's own: what enters them is kept
        assert kept[0] < 1.2 * kept[1]
    else:
        assert kept[0] == kept[1]  # nothing for gradients of weights


@promised_by_ours
def works_on_a_compiled_network_and_compiled_itself(method):
    torch._dynamo.reset()
    net, parts, images = network(), network(), faces()
    expected = method.make(net).attribute(images)
    parts.fc = torch.compile(parts.fc, backend="eager")
    parts.bn.compile(backend="eager")
    whole = torch.compile(network(), backend="aot_eager")
    for compiled in (parts, whole):
        compiled(images)
        before = snapshot(compiled)
        close(method.make(compiled).attribute(images), expected)
        assert_untouched(before, compiled)
    close(torch.compile(method.make(net).attribute, backend="eager")(images), expected)
    torch._dynamo.reset()
    torch.compiler.set_stance("default")
