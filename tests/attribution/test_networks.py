"""Networks as people write them, where Captum's Saliency works: so must ours."""

import pytest
import timm
import torch
import torch.nn.functional as F
from captum.attr import Saliency
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_plq import SERFIQ, LayerPixelQuality, PixelQualityAttribution, QualityModel
from tests.conftest import assert_untouched, in_mixed_state, snapshot


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.bn = nn.Conv2d(3, 8, 3, 4), nn.Linear(512, 16), nn.BatchNorm1d(16)

    def features(self, x):
        return self.conv(x).relu().flatten(1)

    def forward(self, x):
        return self.bn(self.fc(self.features(x)))


class Checkpointed(Parts):
    def forward(self, x):
        return checkpoint(lambda x: Parts.forward(self, x), x, use_reentrant=False)


class ByBatchSize(Parts):
    def forward(self, x):
        return self.bn(self.fc(self.features(x).view(x.size(0), -1)).view(x.size(0), -1))


class FixedBatch(Parts):
    def forward(self, x):
        return self.bn(self.fc(self.features(x)).view(3, -1))


class Squeezed(Parts):
    def forward(self, x):
        return super().forward(x).squeeze()


class Shifted(Parts):
    """Takes something for each image behind its embedding layer."""

    def forward(self, x, shift=None):
        return super().forward(x) + (torch.zeros(3, 16) if shift is None else shift)


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:What follows the layer")
@pytest.mark.parametrize("estimator", ["sampling", "balanced", "closed-form"])
@pytest.mark.parametrize("target", ["node", "serfiq"])
@pytest.mark.parametrize("kind", [Checkpointed, ByBatchSize, FixedBatch, Squeezed, Shifted])
def test_it_is_what_the_same_network_gives_written_plainly(images, kind, target, estimator):
    results = []
    for net in (in_mixed_state(kind()), Parts().eval()):
        before = snapshot(net)
        plq = PixelQualityAttribution(SERFIQ(net, estimator=estimator), target_scalar=target)
        results.append(plq.attribute(images, return_quality=True))
        assert_untouched(before, net)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)


@pytest.mark.filterwarnings("ignore:What follows the layer")
def test_batches_of_one(images):
    net, shifted, shift = Squeezed().eval(), Shifted().eval(), torch.randn(3, 16)
    serfiq = SERFIQ(net)
    alone = [serfiq(x[None]) for x in images]  # located on one image
    torch.testing.assert_close(torch.cat(alone), SERFIQ(net)(images))
    node = QualityModel(net).node(images)
    torch.testing.assert_close(QualityModel(net).node(images[:1]), node[:1])
    alone = [SERFIQ(shifted)(images[i : i + 1], shift[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), SERFIQ(shifted)(images, shift))


def test_layers_inside_a_checkpointed_block():
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=16, depth=2).eval()
    nn.init.normal_(vit.head.weight, std=0.1)
    x = torch.rand(2, 3, 32, 32)
    for target in ("node", "serfiq"):
        results = []
        for on in (True, False):
            vit.set_grad_checkpointing(on)
            method = LayerPixelQuality(vit, vit.blocks[0].norm1, target_scalar=target)
            results.append(method.attribute(x))
        torch.testing.assert_close(*results)
        assert results[0].shape == (2, 5, 192)  # a value for each token


@pytest.mark.filterwarnings("ignore:No closed form")
@pytest.mark.parametrize("estimator", ["sampling", "closed-form"])
def test_lazy_modules_are_to_be_run_first(images, estimator):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Flatten(), nn.LazyLinear(16)).eval()
    serfiq = SERFIQ(net, estimator=estimator)
    with pytest.raises(ValueError, match=r"[Ll]azy"):
        serfiq(images)
    net(images)
    assert ((serfiq(images) > 0) & (serfiq(images) < 1)).all()


def test_functions_in_place_of_networks(images):
    net = Parts().eval()
    function = lambda x: F.normalize(net(x))  # noqa: E731
    assert Saliency(function).attribute(images.clone().requires_grad_(), target=0).any()
    expected = PixelQualityAttribution(net).attribute(images)
    torch.testing.assert_close(PixelQualityAttribution(function).attribute(images), expected)
    layer = LayerPixelQuality(net.forward, net.conv, device_ids=[0]).attribute(images)
    torch.testing.assert_close(layer, LayerPixelQuality(net, net.conv).attribute(images))


def test_an_error_of_the_network_is_about_the_images_that_were_given(images):
    with pytest.raises(RuntimeError, match="8x64") as raised:
        PixelQualityAttribution(Parts().eval()).attribute(images[0])
    assert all("(3, 32, 32)" in note for note in getattr(raised.value, "__notes__", []))
