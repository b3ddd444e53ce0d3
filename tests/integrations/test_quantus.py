"""Quantus's conventions, and Quantus itself where it is installed (the extra [quantus])."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution
from captum_plq.functional import merge_channels
from captum_plq.integrations.quantus import IdentityHead, QualityHead, explain_func
from tests.conftest import assert_untouched, snapshot
from tests.support import architectures as zoo

Y = np.zeros(3, dtype=int)
OPTIONS = {"disable_warnings": True, "display_progressbar": False}


@pytest.fixture
def network():
    return zoo.build(zoo.IResNet).float()


@pytest.fixture
def pictures():
    return zoo.faces().float().numpy()


def quantus():
    return pytest.importorskip("quantus", reason="needs the extra [quantus]", exc_type=ImportError)


def test_the_quality_is_a_model_with_one_output(network, pictures):
    head = QualityHead(network)
    quality = head(torch.from_numpy(pictures))
    assert quality.shape == (3, 1)
    torch.testing.assert_close(quality[:, 0], SERFIQ(network)(torch.from_numpy(pictures)))
    assert not head.training
    assert QualityHead(head.serfiq).serfiq is head.serfiq


def test_cosines_by_hand():
    """Embedding (3, 4) against (2, 0), (0, 1) and (-3, -4): 0.6, 0.8, -1."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    net[1].weight.data = torch.eye(2)
    gallery = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, -4.0]])
    cosines = IdentityHead(net, gallery)(torch.tensor([[[[3.0, 4.0]]]]))
    torch.testing.assert_close(cosines, torch.tensor([[0.6, 0.8, -1.0]]))


def test_identities_of_a_network_that_returns_more(pictures):
    net = zoo.build(zoo.AdaFace).float()
    images = torch.from_numpy(pictures)
    gallery = net(images)[0]
    head = IdentityHead(SERFIQ(net, output=0), 3 * gallery)
    torch.testing.assert_close(head(images), F.normalize(gallery) @ F.normalize(gallery).T)
    assert head(images).argmax(1).tolist() == [0, 1, 2]
    assert not head.gallery.requires_grad


@pytest.mark.parametrize(
    ("gallery", "message"),
    [
        (torch.ones(4), "one embedding for each identity"),
        (torch.full((2, 16), float("nan")), "NaN"),
        (torch.eye(16)[:2] * torch.tensor([[1.0], [0.0]]), "row of zeros"),
        (torch.ones(2, 5), "16 features, but the gallery holds 5"),
    ],
)
def test_a_bad_gallery_is_refused(network, pictures, gallery, message):
    with pytest.raises(ValueError, match=message):
        IdentityHead(network, gallery)(torch.from_numpy(pictures))


@pytest.mark.parametrize("wrap", [lambda net: net, QualityHead, SERFIQ])
def test_it_explains_what_it_is_given(network, pictures, wrap):
    before = snapshot(network)
    model = wrap(network)
    raw = explain_func(model, pictures, Y)
    merged = explain_func(model, pictures, Y, merged=True, method="PLQ", device="cpu")
    assert_untouched(before, network)
    expected = PixelQualityAttribution(network).attribute(torch.from_numpy(pictures))
    assert isinstance(raw, np.ndarray)
    assert raw.dtype == np.float32
    np.testing.assert_allclose(raw, expected.numpy(), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(merged[:, 0], merge_channels(expected).numpy(), rtol=1e-4, atol=1e-9)
    assert not np.allclose(explain_func(model, pictures, weights="signed"), raw)
    with pytest.raises(TypeError, match="weigths"):
        explain_func(model, pictures, Y, weigths="signed")


def test_whom_an_image_shows_makes_no_difference_and_precision_stays(network, pictures):
    expected = explain_func(network, pictures, Y)
    head = IdentityHead(network, torch.eye(16)[:4])
    np.testing.assert_array_equal(explain_func(head, pictures, np.array([3, 1, 0])), expected)
    double = explain_func(zoo.build(zoo.IResNet), pictures, Y)
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, expected, rtol=1e-2, atol=1e-6)
    assert explain_func(copy.deepcopy(network).bfloat16(), pictures, Y).dtype == np.float32


@pytest.mark.parametrize("estimator", ["sampling", "closed-form"])
def test_altered_copies_are_explained_as_they_are(network, pictures, estimator):
    """As Quantus's randomisation test makes them: deep copies with other weights."""
    head = QualityHead(SERFIQ(network, estimator=estimator))
    first = explain_func(head, pictures, Y)
    altered = copy.deepcopy(head)
    torch.manual_seed(1)
    altered.serfiq.model.fc.reset_parameters()
    altered.serfiq.model.stem[0].reset_parameters()
    fresh = zoo.build(zoo.IResNet).float()
    fresh.load_state_dict(altered.serfiq.model.state_dict())
    expected = explain_func(QualityHead(SERFIQ(fresh, estimator=estimator)), pictures, Y)
    np.testing.assert_allclose(explain_func(altered, pictures, Y), expected, rtol=1e-5, atol=1e-9)
    np.testing.assert_array_equal(explain_func(head, pictures, Y), first)
    assert not np.allclose(first, expected)


def test_quantus_flips_pixels_until_the_image_is_black(network, pictures):
    """The curve ends at the quality of an image of zeros; with softmax one output is always 1."""
    metric = quantus().PixelFlipping(
        features_in_step=256, perturb_baseline="black", abs=True, **OPTIONS
    )
    head = QualityHead(network)
    given = {"explain_func": explain_func, "explain_func_kwargs": {"merged": True}}
    curves = metric(head, pictures, Y, None, softmax=False, **given)
    black = np.stack([np.full_like(x, x.min()) for x in pictures])
    expected = head(torch.from_numpy(black)).detach().numpy()
    np.testing.assert_allclose(np.array(curves)[:, -1], expected[:, 0], rtol=1e-4)
    assert (np.array(metric(head, pictures, Y, None, **given)) == 1).all()


def test_quantus_randomises_the_network_it_has_us_explain(network, pictures):
    """Each of its copies is explained by its own weights: the correlation falls from 1."""
    metric = quantus().MPRT(layer_order="bottom_up", **OPTIONS)
    scores = metric(QualityHead(network), pictures, Y, None, explain_func=explain_func)
    similarity = [np.mean(values) for values in scores.values()]
    assert similarity[0] == pytest.approx(1.0)
    assert similarity[-1] < 0.9
