"""Each score against a slow oracle, written from its equation."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq.errors import UnusableImagesError
from captum_plq.models import FaceModel, ModelSpec, iresnet
from captum_plq.models.architectures.adaface import ADAFACE_SPEC, AdaFaceIR
from captum_plq.models.architectures.crfiqa import CRFIQA_SPEC, CRFIQAIResNet
from captum_plq.models.architectures.magface import MAGFACE_SPEC, MagFaceIResNet
from captum_plq.network.spatial.map import SpatialTailError
from captum_plq.quality.scores import UnsuitableNetworkError, make_score
from captum_plq.quality.scores.embedding_norm import EmbeddingNorm
from captum_plq.quality.scores.grafiqs import GraFIQsStyle
from captum_plq.quality.scores.native import NativeQuality
from captum_plq.quality.scores.prefiqs import PreFIQsStyle, pruned_by_magnitude
from tests.conftest import assert_untouched, snapshot
from tests.quality.scores.networks import with_quality
from tests.support.architectures import BatchNormTail, TwoLinears, build, faces, head


def close(actual, expected, rtol=1e-9):
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=0)


# --- the embedding's norm


def test_the_norm_by_hand():
    net, images = build(BatchNormTail), faces()
    expected = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in net(images).detach()]
    close(EmbeddingNorm(net)(images).detach(), torch.tensor(expected, dtype=torch.float64))


def test_the_norm_is_the_sum_of_its_places():
    """A place's share: the embedding of that place's features alone, less that of none."""
    net, images = build(BatchNormTail), faces()
    score = EmbeddingNorm(net)
    places, offset = score.at_places(images)
    assert places.shape == (3, 4, 4)
    norms = score(images).detach()
    close(places.sum((1, 2)) + offset, norms, 1e-6)
    with torch.no_grad():
        features, unit = net.trunk(images), F.normalize(net(images), dim=1)
        rest = lambda x: net.bn(net.fc(x.flatten(1)))  # noqa: E731
        none = rest(torch.zeros_like(features))
        for i in range(4):
            for j in range(4):
                alone = torch.zeros_like(features)
                alone[:, :, i, j] = features[:, :, i, j]
                close(places[:, i, j], ((rest(alone) - none) * unit).sum(1), 1e-5)


def test_no_places_where_the_end_is_not_affine():
    waves = build(head(lambda net, x: (20 * net.embed(x)).sin()))
    with pytest.raises(SpatialTailError):
        EmbeddingNorm(waves).at_places(faces())


def test_an_embedding_that_becomes_zero_has_no_places():
    net = build(BatchNormTail)
    score = EmbeddingNorm(net)
    score.at_places(faces())
    net.bn.weight.data.zero_()
    net.bn.bias.data.zero_()
    with pytest.raises(UnusableImagesError, match="zeros"):
        score.at_places(faces())


# --- GraFIQs


def by_finite_differences(net, image, parameters, loss, step=1e-6):
    """Σ|∂L/∂θ|, one weight after another."""
    total = 0.0
    for p in parameters:
        flat = p.data.view(-1)
        for k in range(len(flat)):
            kept = float(flat[k])
            values = []
            for side in (1, -1):
                flat[k] = kept + side * step
                values.append(loss(image))
            flat[k] = kept
            total += abs(values[0] - values[1]) / (2 * step)
    return total


def batch_norm_loss(net, image):
    """L of one image, with the statistics of each BatchNorm of the trunk by hand."""
    x, total = image, 0.0
    with torch.no_grad():
        for stage in net.trunk:
            for layer in stage:
                if isinstance(layer, nn.BatchNorm2d):
                    channels = x[0].flatten(1)
                    for c, values in enumerate(channels):
                        mean = float(values.mean())
                        variance = float((values - mean).square().mean())
                        total += (mean - float(layer.running_mean[c])) ** 2 / len(channels)
                        total += (variance - float(layer.running_var[c])) ** 2 / len(channels)
                x = layer(x)
    return total


def test_grafiqs_by_finite_differences():
    net, images = build(BatchNormTail), faces(2)
    group = net.trunk[1][1]  # it has part in its successor's statistics, not in its own
    expected = [
        -by_finite_differences(
            net, images[i : i + 1], group.parameters(), lambda x: batch_norm_loss(net, x)
        )
        for i in range(2)
    ]
    found = GraFIQsStyle(net, group="trunk.1.1")(images)
    close(found, torch.tensor(expected, dtype=torch.float64), 1e-4)


def test_grafiqs_of_all_weights_is_the_sum_over_groups():
    net, images = build(BatchNormTail), faces(2)
    groups = [f"trunk.{i}.{k}" for i in range(3) for k in range(3)][:-1]
    groups.remove("trunk.2.1")  # behind the last statistics, as the last PReLU is
    total = sum(GraFIQsStyle(net, group=group)(images) for group in groups)
    close(GraFIQsStyle(net)(images), total, 1e-9)


def test_grafiqs_refuses_groups_without_a_part_in_the_loss():
    net = build(BatchNormTail)
    with pytest.raises(ValueError, match="no module 'stem'"):
        GraFIQsStyle(net, group="stem")
    with pytest.raises(ValueError, match="No weight of 'fc' lies in front of a BatchNorm"):
        GraFIQsStyle(net, group="fc")(faces())


# --- PreFIQs


def test_pruning_by_sorting():
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(n, generator=generator) for n in (7, 12, 3)]
    for scope in ("network", "layer"):
        for sparsity in (0.05, 0.3, 0.5, 0.9):
            found = pruned_by_magnitude(weights, sparsity, scope)
            groups = [list(range(3))] if scope == "network" else [[0], [1], [2]]
            for group in groups:
                sizes = sorted(abs(float(x)) for i in group for x in weights[i])
                gone = sizes[: int(sparsity * len(sizes))]
                for i in group:
                    for x, y in zip(weights[i].tolist(), found[i].tolist(), strict=True):
                        assert y == (0 if abs(x) in gone else x)


def test_prefiqs_with_a_network_pruned_by_hand():
    net, images = build(BatchNormTail), faces()
    pruned = build(BatchNormTail)
    layers = [m for m in pruned.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    sizes = torch.cat([m.weight.detach().abs().flatten() for m in layers]).sort().values
    limit = sizes[int(0.4 * len(sizes)) - 1]
    for layer in layers:
        layer.weight.data[layer.weight.data.abs() <= limit] = 0
    with torch.no_grad():
        a, b = net(images), pruned(images)
    expected = [
        -math.dist((x / x.norm()).tolist(), (y / y.norm()).tolist())
        for x, y in zip(a, b, strict=True)
    ]
    found = PreFIQsStyle(net, sparsity=0.4)(images).detach()
    close(found, torch.tensor(expected, dtype=torch.float64), 1e-9)


def test_prefiqs_notices_other_weights():
    net, images = build(BatchNormTail), faces()
    score = PreFIQsStyle(net)
    before = score(images).detach()
    other = build(BatchNormTail, seed=1)
    net.load_state_dict(other.state_dict())
    close(score(images).detach(), PreFIQsStyle(other)(images).detach(), 1e-12)
    assert not torch.allclose(score(images).detach(), before)


def test_prefiqs_of_what_cannot_be():
    for sparsity in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="sparsity"):
            PreFIQsStyle(build(BatchNormTail), sparsity=sparsity)
    with pytest.raises(ValueError, match="scope must be"):
        PreFIQsStyle(build(BatchNormTail), scope="all")


# --- a network's own quality


def test_crfiqas_output_magfaces_norm_and_adafaces_norm():
    images = 255 * torch.rand(2, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    layers = (1, 1, 1, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cr = FaceModel(CRFIQAIResNet(layers), CRFIQA_SPEC).eval()
        mag = FaceModel(MagFaceIResNet(layers), MAGFACE_SPEC).eval()
        ada = FaceModel(AdaFaceIR(layers), ADAFACE_SPEC).eval()
    with torch.no_grad():
        close(NativeQuality(cr)(images), cr.backbone.qs(cr(images))[:, 0], 1e-5)
        close(NativeQuality(mag)(images), mag(images).norm(dim=1), 1e-5)
        assert torch.equal(NativeQuality(mag)(images), EmbeddingNorm(mag)(images))
        norms = ada.backbone((images.flip(1) - 127.5) / 127.5)[1][:, 0]
        close(NativeQuality(ada)(images), norms, 1e-5)


def test_a_quality_that_is_none():
    net = with_quality()
    with pytest.raises(UnsuitableNetworkError, match="one number for each"):
        NativeQuality(net, quality=0)(faces())
    with pytest.raises(ValueError, match="no part 'score'"):
        NativeQuality(net, quality="score")(faces())
    plain = FaceModel(iresnet(18), ModelSpec("x", (112, 112), (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(UnsuitableNetworkError, match="pass quality="):
        make_score("native", plain)


def test_a_hooked_score_leaves_the_network_alone_after_an_error():
    net = with_quality()
    before = snapshot(net)
    with net.backbone.fc.register_forward_hook(lambda *_: 1 / 0), pytest.raises(ZeroDivisionError):
        NativeQuality(net)(faces())
    assert_untouched(before, net)


def test_a_low_rank_head_has_places_too():
    net = build(TwoLinears, between=4)
    places, offset = EmbeddingNorm(net).at_places(faces())
    close(places.sum((1, 2)) + offset, EmbeddingNorm(net)(faces()).detach(), 1e-6)
