"""QualityModel: the node of Eq. 3 as the target scalar of every Captum method."""

import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    Deconvolution,
    FeatureAblation,
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerGradCam,
    NoiseTunnel,
    Occlusion,
    ShapleyValueSampling,
)

from captum_plq import SERFIQ, QualityModel, QualityScaling
from tests.conftest import assert_untouched, snapshot


def grid():
    return (torch.arange(400).view(20, 20) // 100).repeat(1, 3, 1, 1)


@pytest.mark.parametrize("weights", ["l1", "sum", "signed", "l2"])
@pytest.mark.parametrize("scaling", [None, QualityScaling(30.0, 0.5)])
def test_outputs_the_quality_where_eq_3_claims_it(net, images, weights, scaling):
    """With ``l1`` only its signed share: the claim needs an embedding without negative features."""
    serfiq = SERFIQ(net, passes=10, dropout=0.2)
    quality, e = serfiq(images), net(images)
    expected = quality if scaling is None else torch.sigmoid(30 * (quality - 0.5))
    if weights == "l1":
        expected = expected * e.sum(1) / e.abs().sum(1)
    model = QualityModel(serfiq, weights=weights, scaling=scaling)
    assert model.serfiq is serfiq
    torch.testing.assert_close(model(images), expected)


@pytest.mark.parametrize("weights", ["l1", "sum", "signed", "l2"])
def test_node_has_the_weights_of_its_formula(net, images, weights):
    e, q = net(images).detach(), SERFIQ(net)(images).detach()
    if weights != "l2":
        e = F.normalize(e, dim=1)
    node = QualityModel(net, weights=weights).node(images)
    for row, features, quality in zip(node, e, q, strict=True):
        l1 = sum(abs(float(f)) for f in features)
        expected = {
            "l1": [quality / l1 for _ in features],
            "sum": [quality / features.sum() for _ in features],
            "signed": [quality * (1 if f > 0 else -1) / l1 for f in features],
            "l2": [quality * f / features.square().sum() for f in features],
        }[weights]
        torch.testing.assert_close(row, torch.stack(expected))
    assert not node.requires_grad


def test_the_node_stays_with_its_image_at_no_stochastic_pass(net, images):
    """Another image seen through the node of the first: w(I)·e(I'), no new SER-FIQ."""
    model, rows = QualityModel(net), []
    node = model.node(images[:1])
    expected = (node * F.normalize(net(images[1:2]), dim=1)).sum(1)
    with net.bn.register_forward_hook(lambda _, args, __: rows.append(len(args[0]))):
        torch.testing.assert_close(model(images[1:2], node), expected)
    assert rows == [1]
    assert not torch.allclose(model(images[1:2]), expected)


def test_nodes_are_repeated_for_expanded_batches(net, images):
    model = QualityModel(net)
    node = model.node(images[:2])
    many = torch.cat([images[0:1], images[2:3], images[1:2], images[3:4]])
    expected = torch.cat([model(many[:2], node[:1]), model(many[2:], node[1:])])
    torch.testing.assert_close(model(many, node), expected)
    with pytest.raises(ValueError, match=r"7 images .* cannot share .* \(2, 16\)"):
        model(images, node)
    with pytest.raises(ValueError, match=r"16 features cannot share .* \(2, 15\)"):
        model(many, node[:, 1:])
    torch.testing.assert_close(model(many[:2], node[0]), model(many[:2], node[:1]))


def test_captum_methods_keep_each_image_with_its_node(net, images):
    """In a batch as alone: Captum's own expansions must not mix up images and nodes."""
    model = QualityModel(net)

    def results(x):
        node = {"additional_forward_args": model.node(x)}
        yield IntegratedGradients(model).attribute(x, n_steps=7, **node)
        yield FeatureAblation(model).attribute(
            x, feature_mask=grid(), perturbations_per_eval=2, **node
        )
        yield Occlusion(model).attribute(x, (3, 10, 10), strides=(3, 10, 10), **node)
        yield NoiseTunnel(InputXGradient(model)).attribute(
            x, nt_samples=3, nt_samples_batch_size=2, stdevs=0.0, **node
        )

    together = list(results(images[:3]))
    alone = [torch.cat(r) for r in zip(*(results(x[None]) for x in images[:3]), strict=True)]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)


def test_other_captum_methods_run_and_leave_the_network_as_it_was(net, images):
    model, x = QualityModel(net.train()), images[:2]
    before = snapshot(net)
    node = {"additional_forward_args": model.node(x)}
    results = [
        GradientShap(model).attribute(x, 0 * images[:1], n_samples=2, **node),
        ShapleyValueSampling(model).attribute(x, feature_mask=grid(), n_samples=2, **node),
        LayerGradCam(model, net.trunk[3]).attribute(x),
    ]
    with pytest.warns(UserWarning, match="backward hooks"):  # Captum's own, about its hooks
        results += [GuidedBackprop(model).attribute(x), Deconvolution(model).attribute(x)]
    for result in results:
        assert result.isfinite().all()
        assert result.abs().sum() > 0
    torch.set_rng_state(before["rng"])
    assert_untouched(before, net)


def test_bad_input_is_refused(net, images):
    with pytest.raises(ValueError, match="'l1', 'sum', 'signed' or 'l2'"):
        QualityModel(net, weights="l3")
    node = QualityModel(net).node(images)
    for given in (None, node):
        with pytest.raises(TypeError, match="floating point"):
            QualityModel(net)(images.long(), given)
        with pytest.raises(ValueError, match="NaN"):
            QualityModel(net)(images * torch.nan, given)


def test_shows_its_parameters(net):
    shown = repr(QualityModel(SERFIQ(net, passes=7, dropout=0.25, seed=1), weights="signed"))
    assert "weights='signed', scaling=None, normalize=True" in shown
    assert "passes=7, dropout=0.25, seed=1, estimator='sampling'" in shown
