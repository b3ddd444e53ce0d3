"""Clean and stochastic embeddings in one forward, against a loop over images and masks."""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_plq.functional.masks import DropoutMasks
from captum_plq.network.embedding_layer import EmbeddingLayerError
from captum_plq.network.tap import EmbeddingTap
from tests.conftest import assert_untouched, living_tensors, snapshot
from tests.support import architectures as arch
from tests.support.architectures import build, faces

CPU = torch.device("cpu")
CHUNKS = [None, 1, 7, 64, 10**6]


def draw(passes=20, dropout=0.5, seed=0, shape=(30,)):
    return DropoutMasks(passes, dropout, seed).for_features(torch.Size(shape), CPU)


# --- the oracle ----------------------------------------------------------------------------


@dataclass
class Split:
    """A model taken apart by hand: ``model(x) == tail(head(trunk(x)))``."""

    make: Callable[[], nn.Module]
    name: str
    trunk: Callable[[nn.Module, Tensor], Tensor]
    head: Callable[[nn.Module, Tensor], Tensor]
    tail: Callable[[nn.Module, Tensor], Tensor]
    output: int | None = None


def flat(net, x):
    return net.trunk(x).flatten(1)


def same(net, x):
    return x


def mobile_trunk(net, x):
    return net.conv_6_dw(net.conv_6_sep(net.blocks(net.conv2_dw(net.conv1(x))))).flatten(1)


def ada_trunk(net, x):
    x = net.body(net.input_layer(x))
    for layer in net.output_layer[:3]:
        x = layer(x)
    return x


def ada_tail(net, x):
    x = net.output_layer[4](x)
    return x / x.norm(2, 1, True)


def iresnet_trunk(net, x):
    x = net.prelu(net.bn1(net.conv1(x)))
    x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
    return net.bn2(x).flatten(1)


def low_rank_trunk(net, x):
    return net.norm(net.trunk(x).mean((2, 3)))


SPLITS = {
    "linear": Split(arch.Head, "fc", flat, lambda n, x: n.fc(x), same),
    "keyword": Split(arch.KeywordCalled, "fc", flat, lambda n, x: n.fc(x), same),
    "batch norm": Split(arch.BatchNormTail, "fc", flat, lambda n, x: n.fc(x), lambda n, x: n.bn(x)),
    "unit length": Split(
        arch.UnitLength, "fc", flat, lambda n, x: n.fc(x), lambda n, x: F.normalize(x, dim=1)
    ),
    "in place": Split(arch.InplaceEnd, "fc", flat, lambda n, x: n.fc(x), lambda n, x: x.relu()),
    "functional dropout": Split(arch.FunctionalDropout, "fc", flat, lambda n, x: n.fc(x), same),
    "covering convolution": Split(
        arch.CoveringConv,
        "cover",
        lambda n, x: n.trunk(x),
        lambda n, x: n.cover(x),
        lambda n, x: n.bn(x.flatten(1)),
    ),
    "1x1 convolution": Split(
        arch.PointwiseConv,
        "conv",
        lambda n, x: n.pool(n.trunk(x)),
        lambda n, x: n.conv(x),
        lambda n, x: x.flatten(1),
    ),
    "low-rank pair": Split(
        arch.LowRankHead, "fc.0", low_rank_trunk, lambda n, x: n.fc[0](x), lambda n, x: n.fc[1](x)
    ),
    "iresnet": Split(
        arch.IResNet, "fc", iresnet_trunk, lambda n, x: n.fc(x), lambda n, x: n.features(x)
    ),
    "mobilefacenet": Split(
        arch.MobileFaceNet, "linear", mobile_trunk, lambda n, x: n.linear(x), lambda n, x: n.bn(x)
    ),
    "adaface": Split(
        arch.AdaFace, "output_layer.3", ada_trunk, lambda n, x: n.output_layer[3](x), ada_tail, 0
    ),
    "first of two": Split(
        arch.TwoLinears, "fc1", flat, lambda n, x: n.fc1(x), lambda n, x: n.fc2(x)
    ),
}
UNNAMED = [name for name in SPLITS if name != "first of two"]
"""Those whose layer need not be named."""

every_split = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)


def oracle(split: Split, net: nn.Module, images: Tensor, masks: Tensor, p: float) -> Tensor:
    """One image, one mask at a time, through the head and the tail alone: (B, m, d)."""
    rows = []
    for i in range(images.shape[0]):
        features = split.trunk(net, images[i : i + 1])
        for mask in masks:
            masked = features * mask.to(features.dtype) / (1 - p)
            rows.append(split.tail(net, split.head(net, masked)))
    return torch.cat(rows).unflatten(0, (images.shape[0], masks.shape[0]))


def masks_for(split: Split, net: nn.Module, images: Tensor, masks: DropoutMasks) -> Tensor:
    with torch.no_grad():
        shape = split.trunk(net, images[:1]).shape[1:]
    return masks.for_features(shape, CPU)


def close(actual, expected, rtol=1e-6):
    torch.testing.assert_close(
        actual, expected, rtol=rtol, atol=rtol * float(expected.detach().abs().max())
    )


# --- masks ---------------------------------------------------------------------------------


def test_same_seed_same_masks_in_a_fresh_object():
    assert torch.equal(draw(seed=4), draw(seed=4))
    masks = DropoutMasks(20, 0.5, 4)
    assert torch.equal(masks.for_features(torch.Size([30]), CPU), draw(seed=4))
    assert torch.equal(masks.for_features(torch.Size([30]), CPU), draw(seed=4))


def test_different_seeds_give_different_masks():
    drawn = [draw(seed=seed) for seed in range(5)]
    assert not any(torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_the_m_masks_differ_from_one_another():
    masks = draw(passes=50)
    assert len({tuple(row.tolist()) for row in masks}) == 50


@pytest.mark.parametrize("shape", [(1,), (30,), (4, 3, 3)])
def test_masks_are_boolean_with_one_pattern_per_pass(shape):
    masks = draw(passes=9, shape=shape)
    assert masks.dtype == torch.bool
    assert masks.shape == (9, *shape)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_features_are_kept_with_probability_1_minus_p(p):
    kept = draw(passes=200, dropout=p, shape=(500,)).double().mean()
    assert abs(float(kept) - (1 - p)) < 4 * (p * (1 - p) / 100_000) ** 0.5


def test_each_feature_and_each_pass_is_kept_equally_often():
    kept = draw(passes=1000, dropout=0.3, shape=(1000,)).double()
    for axis in (0, 1):
        z = (kept.mean(axis) - 0.7) / (0.21 / 1000) ** 0.5
        assert z.abs().max() < 5
        assert 0.8 < z.std() < 1.2


@pytest.mark.parametrize("passes", [1, 0, -5, True, False, 2.0, 100.5, "2", None])
def test_passes_below_two_or_not_whole_are_refused(passes):
    with pytest.raises(ValueError, match="passes must be an integer of at least 2"):
        DropoutMasks(passes)


@pytest.mark.parametrize("p", [0, 0.0, 1, 1.0, -0.1, 1.5, float("nan"), float("inf")])
def test_dropout_outside_the_open_interval_is_refused(p):
    with pytest.raises(ValueError, match="dropout must lie strictly between 0 and 1"):
        DropoutMasks(dropout=p)


def test_drawing_does_not_move_the_global_random_state():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    draw()
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_do_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    first = draw()
    torch.manual_seed(2)
    assert torch.equal(draw(), first)


def test_masks_do_not_depend_on_the_default_dtype():
    expected = draw()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(draw(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_masks_do_not_depend_on_the_default_device():
    expected = draw()
    with torch.device("meta"):
        drawn = draw()
    assert torch.equal(drawn, expected)


def test_masks_drawn_in_inference_mode_are_ordinary_tensors():
    with torch.inference_mode():
        assert not draw().is_inference()


def test_a_second_draw_comes_from_the_cache():
    masks = DropoutMasks()
    shape = torch.Size([30])
    assert masks.for_features(shape, CPU) is masks.for_features(shape, CPU)


def test_the_cache_stays_bounded_when_shapes_vary():
    masks = DropoutMasks(10)
    before = living_tensors()
    for width in range(1, 200):
        masks.for_features(torch.Size([width]), CPU)
    assert living_tensors() <= before + 1
    assert torch.equal(masks.for_features(torch.Size([30]), CPU), draw(10))


# --- equals the loop -----------------------------------------------------------------------


@every_split
@pytest.mark.parametrize(("passes", "p"), [(2, 0.5), (5, 0.2)])
def test_equals_the_loop_over_images_and_masks(split, passes, p):
    net, images, masks = build(split.make), faces(4), DropoutMasks(passes, p, seed=9)
    clean, stochastic = EmbeddingTap(split.name, split.output).run(net, (images,), masks)
    with torch.no_grad():
        expected = oracle(split, net, images, masks_for(split, net, images, masks), p)
        plain = net(images)
    close(stochastic, expected)
    close(clean, plain if split.output is None else plain[split.output], rtol=1e-12)


@pytest.mark.parametrize("name", UNNAMED)
def test_finds_the_layer_it_would_be_told(name):
    split = SPLITS[name]
    net, images = build(split.make), faces(2)
    assert EmbeddingTap(output=split.output).locate(net, (images,)) == split.name


def test_the_mean_over_many_masks_is_the_clean_embedding_of_a_linear_head():
    net, images = build(arch.Head), faces(2)
    clean, stochastic = EmbeddingTap().run(net, (images,), DropoutMasks(4000, 0.3))
    error = (stochastic.mean(1) - clean) / (stochastic.std(1) / 4000**0.5)
    assert error.abs().max() < 5


def test_float32_equals_float64():
    split = SPLITS["iresnet"]
    net, images, masks = build(split.make), faces(4), DropoutMasks(10)
    double = EmbeddingTap().run(net, (images,), masks)
    single = EmbeddingTap().run(net.float(), (images.float(),), masks)
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        close(a.double(), b, rtol=1e-5)


def test_bfloat16_is_finite_and_near():
    split = SPLITS["batch norm"]
    net, images, masks = build(split.make), faces(4), DropoutMasks(10)
    double = EmbeddingTap().run(net, (images,), masks)
    half = EmbeddingTap().run(net.bfloat16(), (images.bfloat16(),), masks)
    for a, b in zip(half, double, strict=True):
        assert a.dtype == torch.bfloat16
        assert a.isfinite().all()
        close(a.double(), b, rtol=5e-2)


def test_autocast_is_finite_and_near():
    split = SPLITS["batch norm"]
    net, images, masks = build(split.make).float(), faces(4).float(), DropoutMasks(10)
    plain = EmbeddingTap().run(net, (images,), masks)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = EmbeddingTap().run(net, (images,), masks)
    for a, b in zip(mixed, plain, strict=True):
        assert a.isfinite().all()
        close(a.float(), b, rtol=5e-2)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("first", [False, True])
def test_the_same_without_autograd(mode, first):
    net, images, masks = build(arch.IResNet), faces(), DropoutMasks(5)
    expected = EmbeddingTap().run(net, (images,), masks)
    tap = EmbeddingTap()
    if not first:
        tap.locate(net, (images,))
    with mode():
        actual = tap.run(net, (images.clone(),), masks)
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


def test_a_module_of_several_layers_can_be_tapped():
    net = nn.Sequential(arch.trunk(), nn.Flatten(), nn.Sequential(nn.Linear(128, 8), nn.Tanh()))
    net = net.double().eval()
    images, masks = faces(2), DropoutMasks(3)
    split = Split(None, "2", lambda n, x: n[1](n[0](x)), lambda n, x: n[2](x), same)
    _, stochastic = EmbeddingTap("2").run(net, (images,), masks)
    with torch.no_grad():
        expected = oracle(split, net, images, masks_for(split, net, images, masks), 0.5)
    close(stochastic, expected)


class Activated(nn.Module):
    """A skip connection ends in an activation, where dropout may be put by name."""

    def __init__(self, act, inplace):
        super().__init__()
        self.trunk = arch.trunk()
        self.act = act(inplace=inplace)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x):
        y = self.trunk(x)
        return self.pool(self.act(y + y.sin())).flatten(1)


@pytest.mark.parametrize("act", [nn.ReLU, nn.SiLU, nn.Hardswish])
def test_a_named_in_place_activation_gives_what_the_other_gives_or_is_refused(act):
    images, masks = faces(2), DropoutMasks(4)
    expected = EmbeddingTap("act").run(build(Activated, act, False), (images,), masks)
    try:
        actual = EmbeddingTap("act").run(build(Activated, act, True), (images,), masks)
    except EmbeddingLayerError:
        return
    close(actual[0], expected[0])
    close(actual[1], expected[1])


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(128, 8)

    def forward(self, scale, features):
        return scale * self.linear(features)


class FeaturesSecond(nn.Module):
    """A head of the user's own, whose features are not the first argument."""

    def __init__(self, by_keyword):
        super().__init__()
        self.trunk = arch.trunk()
        self.head = Scaled()
        self.by_keyword = by_keyword

    def forward(self, x):
        features = self.trunk(x).flatten(1)
        if self.by_keyword:
            return self.head(scale=2.0, features=features)
        return self.head(2.0, features)


@pytest.mark.parametrize("by_keyword", [False, True])
def test_features_that_are_not_the_first_argument_serve_or_are_refused(by_keyword):
    net, images, masks = build(FeaturesSecond, by_keyword), faces(2), DropoutMasks(4)
    split = Split(None, "head", flat, lambda n, x: n.head(2.0, x), same)
    try:
        _, stochastic = EmbeddingTap("head").run(net, (images,), masks)
    except EmbeddingLayerError:
        return
    with torch.no_grad():
        close(stochastic, oracle(split, net, images, masks_for(split, net, images, masks), 0.5))


# --- independence of the batch and of the chunks -------------------------------------------


@pytest.mark.parametrize("name", ["batch norm", "covering convolution", "adaface"])
def test_an_image_does_not_feel_its_batch(name):
    split = SPLITS[name]
    net, images, masks = build(split.make), faces(7), DropoutMasks(6)
    tap = EmbeddingTap(output=split.output)
    together = tap.run(net, (images,), masks)
    alone = [tap.run(net, (image[None],), masks) for image in images]
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    reordered = tap.run(net, (images[order],), masks)
    for i in (0, 1):
        close(torch.cat([pair[i] for pair in alone]), together[i], rtol=1e-12)
        close(reordered[i], together[i][order], rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "covering convolution", "low-rank pair"])
@pytest.mark.parametrize("chunk_size", CHUNKS[1:])
@pytest.mark.parametrize("differentiable", [False, True])
def test_chunks_do_not_change_the_result(name, chunk_size, differentiable):
    split = SPLITS[name]
    net, images, masks = build(split.make), faces(5), DropoutMasks(30)
    options = {"differentiable": differentiable}
    expected = EmbeddingTap().run(net, (images,), masks, **options)
    actual = EmbeddingTap().run(net, (images,), masks, chunk_size=chunk_size, **options)
    close(actual[0], expected[0], rtol=1e-12)
    close(actual[1], expected[1], rtol=1e-12)


@pytest.mark.parametrize("chunk_size", CHUNKS[1:])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("differentiable", [False, True])
def test_chunks_bound_the_rows_that_go_through_the_layer(
    monkeypatch, chunk_size, count, differentiable
):
    net, images, masks = build(arch.Head), faces(count).requires_grad_(), DropoutMasks(30)
    tap = EmbeddingTap()
    rows, forward = [], net.fc.forward

    def counted(x):
        rows.append(x.shape[0])
        return forward(x)

    monkeypatch.setattr(net.fc, "forward", counted)
    tap.locate(net, (images,))
    rows.clear()
    _, stochastic = tap.run(
        net, (images,), masks, chunk_size=chunk_size, differentiable=differentiable
    )
    assert rows[0] == count  # the clean ones, by the model itself
    assert sum(rows[1:]) == count * 30
    if chunk_size >= count * 30:
        assert len(rows) == 2
    stochastic.sum().backward()
    assert max(rows[1:]) <= chunk_size


def test_chunks_bound_what_is_kept_for_backward():
    net, images, masks = build(arch.Head), faces(5), DropoutMasks(30)
    tap = EmbeddingTap()
    tap.locate(net, (images,))

    def kept(chunk_size):
        storages = {}

        def keep(x):
            storage = x.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes() // x.element_size()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            x = images.clone().requires_grad_()
            rows = tap.run(net, (x,), masks, differentiable=True, chunk_size=chunk_size)
        return sum(storages.values()), rows

    masked_features = 5 * 30 * 128
    assert kept(None)[0] - kept(7)[0] > 0.9 * masked_features
    assert kept(7)[0] == kept(1)[0]


# --- gradients -----------------------------------------------------------------------------


def gradients_of(rows: Tensor, x: Tensor, net: nn.Module) -> list[Tensor]:
    weights = torch.randn(rows.shape, generator=torch.Generator().manual_seed(1)).to(rows)
    parameters = [p for p in net.parameters() if p.requires_grad]
    grads = torch.autograd.grad(
        (weights * rows).sum(), [x, *parameters], allow_unused=True, materialize_grads=True
    )
    return list(grads)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk_size", CHUNKS)
@pytest.mark.parametrize(
    "name", ["batch norm", "covering convolution", "low-rank pair", "keyword", "in place"]
)
def test_gradients_equal_those_of_the_loop(name, chunk_size, frozen):
    split = SPLITS[name]
    net, masks = build(split.make).requires_grad_(not frozen), DropoutMasks(12)
    x, y = faces(3).requires_grad_(), faces(3).requires_grad_()
    loop = oracle(split, net, y, masks_for(split, net, y, masks), 0.5)
    expected = gradients_of(torch.cat([net(y).unsqueeze(1), loop], 1), y, net)
    clean, stochastic = EmbeddingTap().run(
        net, (x,), masks, differentiable=True, chunk_size=chunk_size
    )
    actual = gradients_of(torch.cat([clean.unsqueeze(1), stochastic], 1), x, net)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        close(a, b, rtol=1e-9)


def test_the_clean_rows_have_the_model_s_own_gradient():
    net, masks = build(arch.IResNet), DropoutMasks(12)
    x, y = faces(3).requires_grad_(), faces(3).requires_grad_()
    clean, _ = EmbeddingTap().run(net, (x,), masks)
    for a, b in zip(gradients_of(clean, x, net), gradients_of(net(y), y, net), strict=True):
        close(a, b, rtol=1e-12)


@pytest.mark.parametrize("chunk_size", [None, 7])
def test_no_gradient_reaches_the_pixels_from_stochastic_rows_unless_asked(chunk_size):
    net, masks = build(arch.BatchNormTail), DropoutMasks(12)
    for differentiable in (False, True):
        x = faces(3).requires_grad_()
        _, stochastic = EmbeddingTap().run(
            net, (x,), masks, differentiable=differentiable, chunk_size=chunk_size
        )
        slope, weight = torch.autograd.grad(
            stochastic.square().sum(), [x, net.fc.weight],
            allow_unused=True, materialize_grads=True,
        )  # fmt: skip
        assert bool((slope != 0).any()) is differentiable
        assert bool((weight != 0).any()) is differentiable


def test_no_autograd_means_no_gradient_even_if_asked():
    net, images = build(arch.Head), faces(2)
    with torch.no_grad():
        clean, stochastic = EmbeddingTap().run(net, (images,), DropoutMasks(3), differentiable=True)
    assert not clean.requires_grad
    assert not stochastic.requires_grad


class BlockHead(nn.Module):
    """A head with BatchNorm and dropout of its own, tapped as a whole."""

    def __init__(self):
        super().__init__()
        self.trunk = arch.trunk()
        self.head = nn.Sequential(nn.Linear(128, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))

    def forward(self, x):
        return self.head(self.trunk(x).flatten(1))


@pytest.mark.parametrize("chunk_size", [None, 5])
@pytest.mark.parametrize("training", [False, True])
def test_backward_after_the_call_still_sees_evaluation_mode(chunk_size, training):
    net, masks = build(BlockHead), DropoutMasks(8)
    split = Split(BlockHead, "head", flat, lambda n, x: n.head(x), same)
    y = faces(3).requires_grad_()
    loop = oracle(split, net, y, masks_for(split, net, y, masks), 0.5)
    expected = torch.autograd.grad(loop.square().sum(), y)[0]
    net.train(training)
    before = snapshot(net)
    x = faces(3).requires_grad_()
    _, stochastic = EmbeddingTap("head").run(
        net, (x,), masks, differentiable=True, chunk_size=chunk_size
    )
    close(torch.autograd.grad(stochastic.square().sum(), x)[0], expected, rtol=1e-9)
    assert_untouched(before, net)


# --- the model runs once and is left alone -------------------------------------------------


def first_conv(net):
    return next(m for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("name", ["iresnet", "low-rank pair", "covering convolution"])
def test_the_trunk_runs_once_per_call_on_the_images_alone(name):
    split = SPLITS[name]
    net, images, rows = build(split.make), faces(3), []
    tap, masks = EmbeddingTap(), DropoutMasks(5)
    tap.locate(net, (images,))
    first_conv(net).register_forward_hook(lambda _, args, __: rows.append(args[0].shape[0]))
    for chunk_size in (None, 1):
        for differentiable in (False, True):
            rows.clear()
            tap.run(net, (images,), masks, chunk_size=chunk_size, differentiable=differentiable)
            assert rows == [3]


@every_split
def test_leaves_the_model_and_the_images_as_they_were(split):
    net, images = build(split.make).train(), faces(3)
    for i, module in enumerate(net.modules()):
        module.training = i % 3 != 0
    tap, before, pixels = EmbeddingTap(split.name, split.output), snapshot(net), images.clone()
    for differentiable in (False, True):
        tap.run(net, (images,), DropoutMasks(5), differentiable=differentiable, chunk_size=4)
        assert_untouched(before, net)
    assert torch.equal(images, pixels)
    assert not images.requires_grad


@pytest.mark.parametrize("name", ["batch norm", "functional dropout", "iresnet", "adaface"])
def test_a_model_in_training_mode_gives_what_it_gives_in_evaluation_mode(name):
    split = SPLITS[name]
    net, images, masks = build(split.make), faces(4), DropoutMasks(5)
    expected = EmbeddingTap(output=split.output).run(net, (images,), masks)
    net.train()
    before = snapshot(net)  # BatchNorm's running statistics and counters among it
    actual = EmbeddingTap(output=split.output).run(net, (images,), masks)
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)
    assert_untouched(before, net)


def test_dropout_of_the_model_s_own_is_ignored():
    images, masks = faces(4), DropoutMasks(5)
    net = build(arch.BatchNormTail)
    expected = EmbeddingTap().run(net, (images,), masks)
    net.dropout = nn.Identity()
    for a, b in zip(EmbeddingTap().run(net, (images,), masks), expected, strict=True):
        assert torch.equal(a, b)


def test_a_user_s_hook_fires_once_and_survives():
    net, images, seen = build(arch.BatchNormTail), faces(3), []
    net.fc.register_forward_hook(lambda _, args, y: seen.append((args[0].shape[0], y.shape[0])))
    tap = EmbeddingTap()
    tap.locate(net, (images,))
    for chunk_size in (None, 4):
        for differentiable in (False, True):
            seen.clear()
            tap.run(
                net, (images,), DropoutMasks(5),
                chunk_size=chunk_size, differentiable=differentiable,
            )  # fmt: skip
            assert seen == [(3, 3)]
    seen.clear()
    net(images)
    assert seen == [(3, 3)]


def test_a_user_s_pre_hook_acts_on_clean_and_stochastic_rows_alike():
    net, images, masks = build(arch.Head), faces(3), DropoutMasks(5)
    net.fc.register_forward_pre_hook(lambda _, args: (3 * args[0],))
    _, stochastic = EmbeddingTap().run(net, (images,), masks)
    with torch.no_grad():
        features = 3 * flat(net, images)
        drawn = masks.for_features(features.shape[1:], CPU)
        expected = torch.stack([net.fc.forward(features * mask / 0.5) for mask in drawn], 1)
    close(stochastic, expected)


def test_a_user_s_hook_that_changes_the_output_acts_on_all_rows_or_is_refused():
    split, images, masks = SPLITS["linear"], faces(3), DropoutMasks(5)
    net = build(split.make)
    net.fc.register_forward_hook(lambda _, __, y: 2 * y)
    try:
        clean, stochastic = EmbeddingTap().run(net, (images,), masks)
    except EmbeddingLayerError:
        return
    with torch.no_grad():
        expected = oracle(split, net, images, masks_for(split, net, images, masks), 0.5)
        close(clean, net(images))
    close(stochastic, expected)


@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm", "parametrized"])
def test_reparametrised_layers_serve(wrap):
    net, images, masks = build(arch.Head), faces(2), DropoutMasks(4)
    if wrap == "parametrized":
        nn.utils.parametrizations.weight_norm(net.fc)
    elif wrap == "spectral_norm":
        nn.utils.parametrizations.spectral_norm(net.fc)
    else:
        with pytest.warns(FutureWarning):
            nn.utils.weight_norm(net.fc)
    net.eval()
    split = SPLITS["linear"]
    clean, stochastic = EmbeddingTap().run(net, (images,), masks)
    with torch.no_grad():
        expected = oracle(split, net, images, masks_for(split, net, images, masks), 0.5)
        close(clean, net(images))
    close(stochastic, expected)


# --- wrapped and compiled ------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it does more than forward")
def test_data_parallel_on_the_cpu_changes_nothing():
    net, images, masks = build(arch.IResNet), faces(3), DropoutMasks(5)
    expected = EmbeddingTap().run(net, (images,), masks)
    tap = EmbeddingTap()
    actual = tap.run(nn.DataParallel(net), (images,), masks)
    assert tap.layer_name == "module.fc"
    assert tap.locate(net, (images,)) == "fc"  # another network: found anew
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


@pytest.fixture
def fresh_compiler():
    import torch._dynamo

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch.compiler.set_stance("default")


def compiled_in_place(net, backend):
    net.compile(backend=backend)
    return net


COMPILED = {
    "wrapped": lambda net, backend: torch.compile(net, backend=backend),
    "in place": compiled_in_place,
}


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("how", COMPILED)
@pytest.mark.parametrize("differentiable", [False, True])
def test_a_compiled_model_called_before_gives_the_same(how, backend, differentiable):
    net, images, masks = build(arch.BatchNormTail), faces(3), DropoutMasks(5)
    expected = EmbeddingTap().run(net, (images,), masks)
    compiled = COMPILED[how](copy.deepcopy(net), backend)
    close(compiled(images), net(images), rtol=1e-12)
    before = snapshot(compiled)
    actual = EmbeddingTap().run(
        compiled, (images,), masks, differentiable=differentiable, chunk_size=4
    )
    for a, b in zip(actual, expected, strict=True):
        close(a, b, rtol=1e-12)
    assert_untouched(before, compiled)
    close(compiled(images), net(images), rtol=1e-12)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("part", ["trunk", "fc", "fc in place"])
def test_a_compiled_submodule_gives_the_same(part, backend):
    net, masks = build(arch.BatchNormTail), DropoutMasks(5)
    x, y = faces(3).requires_grad_(), faces(3).requires_grad_()
    expected = EmbeddingTap().run(net, (y,), masks, differentiable=True)
    compiled = copy.deepcopy(net)
    if part == "fc in place":
        compiled.fc.compile(backend=backend)
    else:
        setattr(compiled, part, torch.compile(getattr(compiled, part), backend=backend))
    compiled(x)
    actual = EmbeddingTap().run(compiled, (x,), masks, differentiable=True, chunk_size=4)
    for a, b in zip(actual, expected, strict=True):
        close(a, b, rtol=1e-12)
    slope, want = (
        torch.autograd.grad(rows[1].square().sum(), z)[0]
        for rows, z in ((actual, x), (expected, y))
    )
    close(slope, want, rtol=1e-9)


@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_embedding_layer_named_by_its_wrapper_gives_the_same():
    net, masks = build(arch.BatchNormTail), DropoutMasks(5)
    x, y = faces(3).requires_grad_(), faces(3).requires_grad_()
    expected = EmbeddingTap().run(net, (y,), masks, differentiable=True)
    net.fc = torch.compile(net.fc, backend="aot_eager")
    net(x)
    actual = EmbeddingTap("fc").run(net, (x,), masks, differentiable=True, chunk_size=4)
    close(actual[1], expected[1], rtol=1e-12)
    slope, want = (
        torch.autograd.grad(rows[1].square().sum(), z)[0]
        for rows, z in ((actual, x), (expected, y))
    )
    close(slope, want, rtol=1e-9)


# --- refused, and what is left after -------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (arch.FlipTwice, "ran 2 times"),
        (arch.FlipInBatch, "saw 4 rows for 2 images"),
        (arch.MixesRows, "mixes the rows"),
        (lambda: arch.AveragesFrames(2), "other images of its batch"),
        (arch.AlwaysRandom, "random in evaluation mode"),
    ],
    ids=["twice", "twice in one batch", "mixes rows", "frames", "random"],
)
@pytest.mark.parametrize("layer", [None, "fc"])
def test_models_that_would_be_silently_wrong_are_refused(make, words, layer):
    net = build(make)
    before = snapshot(net)
    with pytest.raises(EmbeddingLayerError, match=words):
        EmbeddingTap(layer).run(net, (faces(4),), DropoutMasks(3))
    assert_untouched(before, net)


def test_a_model_that_embeds_fewer_rows_than_images_is_refused():
    """Frames are averaged before the layer: no image has a quality of its own."""
    with pytest.raises(EmbeddingLayerError):
        EmbeddingTap().run(build(arch.AveragesFeatures, 2), (faces(4),), DropoutMasks(3))


def test_a_model_that_mixes_rows_is_refused_with_one_image_too():
    with pytest.raises(EmbeddingLayerError, match="mixes the rows"):
        EmbeddingTap().run(build(arch.MixesRows), (faces(1),), DropoutMasks(3))


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, ValueError, IndexError])
def test_a_tail_that_insists_on_the_number_of_rows_gets_a_full_pass_for_each(error):
    class Insists(arch.Head):
        def forward(self, x):
            embedding = super().forward(x)
            if embedding.shape[0] != x.shape[0]:
                raise error("rows")
            return embedding

    net, masks, images = build(Insists), DropoutMasks(3), faces(3).requires_grad_()
    expected = EmbeddingTap().run(build(arch.Head), (images,), masks, differentiable=True)
    before = snapshot(net)
    tap = EmbeddingTap()
    with pytest.warns(UserWarning, match="one row per image"):
        actual = tap.run(net, (images,), masks, differentiable=True)
    tap.run(net, (images[:1],), masks)  # said once: a second warning would be an error here
    assert_untouched(before, net)
    for a, b in zip(actual, expected, strict=True):
        close(a, b, rtol=1e-9)
    slopes = [torch.autograd.grad(x[1].square().sum(), images)[0] for x in (actual, expected)]
    close(*slopes, rtol=1e-9)


def test_a_layer_that_comes_to_run_twice_is_refused():
    class Grows(arch.Head):
        twice = False

        def forward(self, x):
            y = super().forward(x)
            return y + super().forward(x.flip(3)) if self.twice else y

    net, tap = build(Grows), EmbeddingTap()
    tap.run(net, (faces(3),), DropoutMasks(3))
    net.twice = True
    with pytest.raises(EmbeddingLayerError, match="ran 2 times"):
        tap.run(net, (faces(3),), DropoutMasks(3))


def test_a_layer_that_comes_not_to_run_is_refused():
    net, tap = build(arch.Head), EmbeddingTap()
    tap.run(net, (faces(3),), DropoutMasks(3))
    net.forward = lambda x: F.linear(net.flat(x), net.fc.weight)
    with pytest.raises(EmbeddingLayerError, match="functional call"):
        tap.run(net, (faces(3),), DropoutMasks(3))


class FailingLinear(nn.Linear):
    fails = False

    def forward(self, x):
        if self.fails:
            raise KeyError("own")
        return super().forward(x)


class Fragile(arch.BatchNormTail):
    """Fails on demand, in its embedding layer or behind it."""

    def __init__(self):
        super().__init__()
        self.fc = FailingLinear(128, 8)
        self.bn = nn.BatchNorm1d(8)
        self.fails = False

    def forward(self, x):
        y = super().forward(x)
        if self.fails:
            raise KeyError("own")
        return y


@pytest.mark.parametrize("located", [False, True])
@pytest.mark.parametrize("where", ["tail", "layer"])
def test_an_exception_of_the_model_s_own_passes_and_leaves_nothing_behind(where, located):
    net, tap, images = build(Fragile).train(), EmbeddingTap(), faces(3)
    if located:
        tap.locate(net, (images,))
    before = snapshot(net)
    part = net.fc if where == "layer" else net
    part.fails = True
    with pytest.raises(KeyError, match="own"):
        tap.run(net, (images,), DropoutMasks(3))
    part.fails = False
    assert_untouched(before, net)
    tap.run(net, (images,), DropoutMasks(3))


def test_an_exception_on_stochastic_rows_alone_leaves_nothing_behind():
    net, tap, images = build(arch.BatchNormTail), EmbeddingTap(), faces(3)
    real, fails = net.fc.forward, []
    net.fc.forward = lambda x: net.nowhere if fails and x.shape[0] != 3 else real(x)
    tap.locate(net, (images,))
    fails.append(True)
    before = snapshot(net)
    with pytest.raises(AttributeError):
        tap.run(net, (images,), DropoutMasks(5))
    assert_untouched(before, net)


# --- leaks and threads ---------------------------------------------------------------------


@pytest.mark.parametrize("differentiable", [False, True])
def test_no_tensor_stays_alive_over_200_calls(differentiable):
    net, images, masks = build(arch.BatchNormTail), faces(2), DropoutMasks(4)
    tap = EmbeddingTap()

    def call():
        x = images.clone().requires_grad_()
        clean, stochastic = tap.run(net, (x,), masks, differentiable=differentiable, chunk_size=3)
        torch.autograd.grad(clean.sum() + stochastic.sum(), x)

    call()
    before = living_tensors()
    for _ in range(200):
        call()
    assert living_tensors() <= before


def test_no_tensor_stays_alive_over_200_refusals():
    net, images = build(arch.MixesRows), faces(2)

    def call():
        with pytest.raises(EmbeddingLayerError):
            EmbeddingTap().run(net, (images,), DropoutMasks(2))

    call()
    before = living_tensors()
    for _ in range(200):
        call()
    assert living_tensors() <= before


def test_copies_and_pickles():
    import pickle

    net, images, masks = build(arch.Head), faces(2), DropoutMasks(4)
    tap = EmbeddingTap()
    expected = tap.run(net, (images,), masks)
    for again in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        actual = again(tap).run(net, (images,), again(masks))
        assert torch.equal(actual[1], expected[1])


@pytest.mark.usefixtures("fresh_compiler")
def test_separate_models_in_separate_threads():
    nets = [build(arch.BatchNormTail, seed=seed) for seed in range(3)]
    images, results = faces(3), {}
    expected = [EmbeddingTap().run(net, (images,), DropoutMasks(5))[1] for net in nets]

    def work(i):
        tap, masks = EmbeddingTap(), DropoutMasks(5)
        results[i] = [tap.run(nets[i], (images,), masks)[1] for _ in range(10)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, want in enumerate(expected):
        assert all(torch.equal(got, want) for got in results[i])
