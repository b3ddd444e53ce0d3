"""The last spatial map and the affine map behind it, against Jacobians of heads written out."""

import pytest
import timm
import torch
from torch import nn
from torch.autograd.functional import jacobian

from captum_plq.errors import UnusableImagesError
from captum_plq.functional.local import quality_from_snr, signal_to_noise
from captum_plq.network.spatial.map import SpatialTailError
from captum_plq.network.spatial.tail import SpatialTail
from captum_plq.quality.spatial import SpatialSERFIQ
from tests.conftest import assert_untouched, in_mixed_state, snapshot
from tests.support.architectures import SIZE, AdaFace, IResNet, build, faces, trunk


class Pooled(nn.Module):
    """A ResNet's head: global average pooling in the code, a linear layer, unit length."""

    def __init__(self, head: nn.Module | None = None, channels: int = 24) -> None:
        super().__init__()
        self.trunk = trunk(channels)
        self.head = nn.Linear(channels, 16) if head is None else head

    def after(self, a):
        return self.head(a.mean((2, 3)))

    def forward(self, x):
        return nn.functional.normalize(self.after(self.trunk(x)))


class Global(Pooled):
    """A MobileFaceNet's head: global depthwise convolution, a linear one, BatchNorm."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(
                nn.Conv2d(24, 24, 4, groups=24, bias=False),
                nn.BatchNorm2d(24),
                nn.Conv2d(24, 16, 1),
                nn.Flatten(),
                nn.BatchNorm1d(16),
            )
        )

    def after(self, a):
        return self.head(a)

    def forward(self, x):
        return self.after(self.trunk(x))


class Flat(Global):
    """ArcFace's: the flattened map, a linear layer, BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24 * 16, 16), nn.BatchNorm1d(16))


class Tokens(Pooled):
    """insightface's ViT: the normalised tokens, flattened, two linear layers with BatchNorms."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(
                nn.Flatten(),
                nn.Linear(16 * 24, 32, bias=False),
                nn.BatchNorm1d(32),
                nn.Linear(32, 16, bias=False),
                nn.BatchNorm1d(16),
            )
        )
        self.norm = nn.LayerNorm(24)

    def tokens(self, x):
        return self.norm(self.trunk(x).flatten(2).transpose(1, 2))

    def forward(self, x):
        return self.head(self.tokens(x))


def test_a_square_of_tokens_is_a_map():
    net, x = build(Tokens), faces(3)
    tail = SpatialTail()
    run = tail.run(net, [x])
    tokens = net.tokens(x).detach()
    columns = jacobian(net.head, tokens[:1])[0, :, 0]  # (d, N, C)
    norms = columns.square().sum(0).T.reshape(24, 4, 4)
    torch.testing.assert_close(run.features[:, :, 1, 2], tokens[:, 6])
    torch.testing.assert_close(run.squared_norms, norms)
    assert tail.gap == 0


class ChannelsLast(Tokens):
    """A Swin's: the normalised map with the channels last, flattened here."""

    def tokens(self, x):
        return self.norm(self.trunk(x).permute(0, 2, 3, 1))


def test_a_map_with_the_channels_last_is_a_map_all_the_same():
    net, tokens, x = build(ChannelsLast), build(Tokens), faces(3)
    tokens.load_state_dict(net.state_dict())
    run, same = (SpatialTail().run(model, [x]) for model in (net, tokens))
    for ours, theirs in zip(run, same, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("make", [Pooled, Global, Flat])
def test_features_slopes_norms_and_bias_are_those_of_the_head(make):
    net, x = build(make), faces(3)
    tail = SpatialTail()
    run = tail.run(net, x[None].unbind())
    a = net.trunk(x).detach()
    columns = jacobian(lambda b: net.after(b), a[:1])[0, :, 0]  # (d, C, H, W)
    e = net.after(a).detach()
    bias = net.after(torch.zeros_like(a[:1]))[0].detach()
    torch.testing.assert_close(run.features, a)
    torch.testing.assert_close(run.embedding, e)
    torch.testing.assert_close(run.squared_norms, columns.square().sum(0))
    torch.testing.assert_close(run.slopes, torch.einsum("bd,dchw->bchw", e, columns))
    torch.testing.assert_close(run.offset, e @ bias)
    assert tail.gap == 0


@pytest.mark.parametrize("make", [Pooled, Global, Flat])
def test_quality_is_what_dropout_of_the_map_gives(make):
    net, x = build(make, channels=96) if make is Pooled else build(make), faces(2)
    found = SpatialSERFIQ(net, dropout=0.2)(x)
    generator = torch.Generator().manual_seed(0)
    for a, quality in zip(net.trunk(x).detach(), found, strict=True):
        kept = torch.rand(2000, *a.shape, generator=generator) >= 0.2
        u = nn.functional.normalize(net.after(a * kept / 0.8).detach())
        sampled = 2 * torch.sigmoid(-torch.pdist(u).mean())
        assert float(quality) == pytest.approx(float(sampled), rel=0.02)


@pytest.mark.parametrize(("make", "output"), [(IResNet, None), (AdaFace, 0)])
def test_published_heads_are_affine(make, output):
    quality = SpatialSERFIQ(build(make), output=output)
    assert quality.shares(faces(2)).noise.shape[0] == 2
    assert quality.tail.gap == 0


def test_weights_that_change_in_any_way_are_noticed():
    net, x = build(Flat), faces(2)
    kept = SpatialSERFIQ(net)
    before = kept(x)
    changes = (
        lambda: net.head[1].weight.data.normal_(),
        lambda: net.head[2].running_mean.fill_(3.0),
        lambda: net.head[1].bias.data.add_(1.0),
        lambda: setattr(net, "head", build(Flat, seed=4).head),
        lambda: net.trunk[0][0].weight.data.mul_(2.0),
    )
    for change in changes:
        with torch.no_grad():
            change()
        found = kept(x)
        torch.testing.assert_close(found, SpatialSERFIQ(net)(x))
        assert not torch.allclose(found, before)
        before = found


@pytest.mark.parametrize("change", [0.98, 1.02])
def test_weights_that_change_a_little_at_a_single_place_are_noticed(change):
    net, x = build(Flat), faces(2)
    kept = SpatialSERFIQ(net)
    before = kept.shares(x).noise
    net.head[1].weight.data.view(16, 24, 16)[:, :, 5] *= change
    noise = kept.shares(x).noise
    torch.testing.assert_close(noise, SpatialSERFIQ(net).shares(x).noise)
    torch.testing.assert_close(noise[:, 1, 1], before[:, 1, 1] * change**2)


def test_a_layer_behind_the_embedding_that_did_nothing_is_noticed_once_it_does_something():
    net, x = build(lambda: nn.Sequential(build(Flat), nn.BatchNorm1d(16))), faces(2)
    net[1].reset_parameters()
    kept = SpatialSERFIQ(net)
    before = kept(x)
    net[1].weight.data.copy_(torch.linspace(0.2, 3.0, 16))
    found = kept(x)
    torch.testing.assert_close(found, SpatialSERFIQ(net)(x))
    assert not torch.allclose(found, before)


def test_a_normalised_tail_is_linearised_and_says_how_far_it_is_off():
    net = build(lambda: Pooled(nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 16))))
    x = faces(3)
    quality = SpatialSERFIQ(net, dropout=0.1)
    found = quality(x)
    assert 0 < quality.tail.gap <= 0.25
    torch.testing.assert_close(torch.cat([quality(x[i : i + 1]) for i in range(3)]), found)
    shares = quality.shares(x)
    torch.testing.assert_close(quality_from_snr(signal_to_noise(shares)), found)


def vit(**options) -> nn.Module:
    options = {"num_classes": 16, "depth": 2, "img_size": SIZE, "patch_size": 8, **options}
    return build(lambda: timm.create_model("vit_tiny_patch16_224", **options))


@pytest.mark.parametrize(
    "tokens", [{"class_token": True}, {"class_token": False}, {"reg_tokens": 4}]
)
def test_a_vit_that_pools_the_tokens_of_places(tokens):
    net, x = vit(global_pool="avg", **tokens), faces(3)
    tail = SpatialTail()
    run = tail.run(net, [x], dropout=0.05)
    patches = net.forward_features(x)[:, -16:].detach()
    torch.testing.assert_close(run.features.flatten(2).transpose(1, 2), patches)
    shares = SpatialSERFIQ(net, dropout=0.05).shares(x)
    whole = shares.evidence.sum((1, 2)) + shares.offset
    torch.testing.assert_close(whole, net(x).square().sum(1).detach())
    assert 0 < tail.gap <= 0.25


def test_a_vit_that_pools_by_attention():
    net = vit(global_pool="map", class_token=False)
    spatial = SpatialSERFIQ(net, dropout=0.05)
    assert spatial.shares(faces(2)).noise.shape == (2, 4, 4)
    assert spatial.tail.layer_name == "attn_pool.kv"


class ChannelNorm(nn.LayerNorm):
    """timm's LayerNorm2d: over the channels of (B, C, H, W)."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NormBehindPool(Pooled):
    def __init__(self) -> None:
        super().__init__(nn.Sequential(ChannelNorm(24), nn.Flatten(), nn.Linear(24, 16)))

    def after(self, a):
        return self.head(a.mean((2, 3), keepdim=True))


def test_the_channels_of_a_pooled_map_are_no_places():
    net = build(NormBehindPool)
    spatial = SpatialSERFIQ(net, dropout=0.1)
    assert spatial.shares(faces(2)).noise.shape == (2, 4, 4)
    assert spatial.tail.gap > 0


class Bright(Pooled):
    """Affine, but for images brighter than any that were there at first."""

    def after(self, a):
        pooled = a.mean((2, 3))
        return self.head(pooled + (pooled.abs() - self.limit).relu())


def test_a_tail_that_is_affine_for_the_first_images_only_is_linearised():
    net, x = build(Bright), faces(2)
    net.limit = 3 * net.trunk(x).mean((2, 3)).abs().max().item()
    bright = 1000 * x
    spatial, alone = SpatialSERFIQ(net, dropout=0.01), SpatialSERFIQ(net, dropout=0.01)
    spatial(x)
    assert spatial.tail.gap == 0
    found = spatial(torch.cat([x, bright]))
    assert spatial.tail.gap > 0
    torch.testing.assert_close(found[2:], alone(bright), rtol=0, atol=0.02)


class Bypass(Pooled):
    def forward(self, x):
        return self.after(self.trunk(x)) + x.mean((2, 3)).repeat(1, 8)[:, :16]


class Bent(Pooled):
    def after(self, a):
        return self.head(a.mean((2, 3)).pow(5))


class Twice(Pooled):
    def forward(self, x):
        return self.after(self.trunk(x)) + self.after(self.trunk(x.flip(3)))


class Placeless(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3 * 32 * 32, 16)

    def forward(self, x):
        return self.fc(x.flatten(1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (Bypass, "another path"),
        (Bent, "off by"),
        (Twice, "runs 2 times"),
        (Placeless, "no places"),
        (vit, "class token.*none of the image's places.*global_pool='avg'"),
        (lambda: vit(global_pool="max", class_token=False), "off by"),
    ],
)
def test_networks_whose_quality_has_no_places_are_refused(make, words):
    net = build(make)
    with pytest.raises(SpatialTailError, match=words):
        SpatialSERFIQ(net)(faces(2))


def test_images_without_a_finite_embedding_are_named():
    net, x = build(Flat), faces(3)
    net.head[1].weight.data[0, 0] = torch.nan
    with pytest.raises(UnusableImagesError, match="NaN"):
        SpatialSERFIQ(net)(x)


def test_the_network_is_left_as_it_was():
    net, x = in_mixed_state(build(Flat)), faces(2)
    before, state = snapshot(net), torch.get_rng_state()
    SpatialSERFIQ(net)(x)
    assert_untouched(before, net)
    assert torch.equal(torch.get_rng_state(), state)
