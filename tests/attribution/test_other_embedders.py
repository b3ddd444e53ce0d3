"""Networks that embed other things than faces, from timm, with nothing of the face API."""

import re

import pytest
import timm
import torch

from captum_plq import SERFIQ, LayerPixelQuality, PixelQualityAttribution, quality_map
from captum_plq.network.embedding_layer import EmbeddingLayerError
from tests.conftest import assert_untouched, snapshot


def network(name, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model(name, pretrained=False, **options).double().eval()


def vit(name, num_classes):
    """A tower of that family, two blocks deep, with scales that are not those of the start."""
    net = network(name, img_size=56, depth=2, embed_dim=48, num_heads=3, num_classes=num_classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for module in net.modules():
            if type(module).__name__ == "LayerScale":
                module.gamma.data.uniform_(0.3, 1.0)
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.data.uniform_(0.5, 1.5)
    return net


MADE = {
    "dinov2": lambda n: vit("vit_small_patch14_dinov2", n),
    "clip": lambda n: vit("vit_large_patch14_clip_224", n),
    "re-identification": lambda n: network("resnet18", num_classes=n),
}
BLOCKS = {"dinov2": "blocks.1", "clip": "blocks.1", "re-identification": "layer4.1"}
PROJECTIONS = {"dinov2": "head", "clip": "head", "re-identification": "fc"}


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(3, 3, 56, 56, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", MADE)
def test_a_projection_is_found(kind, pictures):
    net = MADE[kind](24)
    plq = PixelQualityAttribution(net)
    attributions, quality = plq.attribute(pictures, return_quality=True)
    assert plq.quality_model.serfiq.tap.layer_name == PROJECTIONS[kind]
    maps = quality_map(attributions, gamma=4.0)
    assert maps.shape == (3, 56, 56)
    assert maps.std() > 0
    assert ((quality > 0) & (quality < 1)).all()


@pytest.mark.parametrize("kind", MADE)
def test_without_one_the_error_names_a_block_that_serves(kind, pictures):
    net = MADE[kind](0)
    before = snapshot(net)
    with pytest.raises(EmbeddingLayerError, match="Another path leads around") as info:
        PixelQualityAttribution(net).attribute(pictures)
    assert_untouched(before, net)
    message = str(info.value)
    assert "embedding_layer=NAME" in message
    (block,) = re.findall(r"smallest block around it [^']* '([^']+)'", message)
    assert block == BLOCKS[kind]
    serfiq = SERFIQ(net, embedding_layer=block, passes=20)
    attributions, quality = PixelQualityAttribution(serfiq).attribute(pictures, return_quality=True)
    assert attributions.abs().amax(dim=(1, 2, 3)).min() > 1e-9
    assert ((quality > 0) & (quality < 1)).all()
    assert len(quality.unique()) == 3
    alone = PixelQualityAttribution(serfiq).attribute(pictures[1:2])
    torch.testing.assert_close(alone[0], attributions[1], rtol=1e-6, atol=1e-15)


def test_dropping_before_a_block_is_running_it_on_features_dropped_by_hand(pictures):
    net = MADE["re-identification"](0)
    serfiq = SERFIQ(net, embedding_layer="layer4.1", passes=3)
    _, rows = serfiq.embeddings(pictures)
    with torch.no_grad():
        features = net.layer4[0](net.layer3(net.layer2(net.layer1(_stem(net, pictures)))))
        kept = serfiq.masks.for_features(features.shape[1:], features.device)
        for i, mask in enumerate(kept):
            expected = net.global_pool(net.layer4[1](features * mask * 2.0))
            torch.testing.assert_close(rows[:, i], expected)


def _stem(net, x):
    return net.maxpool(net.act1(net.bn1(net.conv1(x))))


@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_tokens_of_a_transformer(kind, pictures):
    """A layer of a ViT gives a value for each token: drop the class token, lay out the rest."""
    net = MADE[kind](24)
    tokens = LayerPixelQuality(net, net.blocks[0]).attribute(pictures)
    assert tokens.shape == (3, 17, 48)
    grid = tokens[:, 1:].abs().sum(2).view(3, 1, 4, 4)
    assert LayerPixelQuality.interpolate(grid, (56, 56)).shape == (3, 1, 56, 56)


@pytest.mark.filterwarnings("ignore::captum_plq.errors.UninformativeWarning")
def test_a_layer_norm_at_the_end_leaves_a_plain_sum_nothing_to_say(pictures):
    """The paper's node is the embedding's sum, and an untrained LayerNorm makes that 0."""
    net = MADE["dinov2"](0)
    for module in net.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
    serfiq = SERFIQ(net, embedding_layer="blocks.1", passes=20)
    sizes = {
        weights: PixelQualityAttribution(serfiq, weights=weights).attribute(pictures).abs().max()
        for weights in ("l1", "signed")
    }
    assert sizes["l1"] < 1e-10 * sizes["signed"]
