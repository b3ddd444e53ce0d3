"""Calibration: against a loop over images, and refusals."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, PixelQualityAttribution, QualityScaling
from captum_plq.calibration import calibrate
from captum_plq.functional import merge_channels, pixel_quality
from captum_plq.functional.relative import gradient_reference
from captum_plq.models import FaceModel, ModelSpec
from tests.conftest import assert_untouched, small_face_net, snapshot


def faces(n=24, seed=0):
    """Bright in the middle and of growing noise, (n, 3, 20, 20), 0–255, float64."""
    generator = torch.Generator().manual_seed(seed)
    axis = torch.linspace(-1, 1, 20, dtype=torch.float64)
    bump = (-2 * (axis[:, None] ** 2 + axis**2)).exp()
    noise = torch.randn(n, 3, 20, 20, generator=generator, dtype=torch.float64)
    level = torch.linspace(5, 60, n, dtype=torch.float64).view(-1, 1, 1, 1)
    return (60 + 120 * bump + level * noise).clamp(0, 255)


class Through(nn.Module):
    """A linear map of what a function of the image gives."""

    def __init__(self, features, inputs, outputs):
        super().__init__()
        self.features = features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.fc = nn.Linear(inputs, outputs).double()

    def forward(self, x):
        return self.fc(self.features(x))


def method(**choices):
    return PixelQualityAttribution(SERFIQ(small_face_net(), passes=20), **choices)


def oracle(model, images, weights="l1", target="node"):
    """α, r and ĝ of the high-quality faces, without Q̂ and with it, one image at a time."""
    serfiq = SERFIQ(model, passes=20)
    q = [serfiq(x[None]).item() for x in images]
    ordered = sorted(q)

    def percentile(share):
        place = share * (len(q) - 1)
        low = int(place)
        return ordered[low] + (place - low) * (ordered[low + 1] - ordered[low])

    scaling = QualityScaling(
        2 * math.log(0.95 / 0.05) / (percentile(0.95) - percentile(0.05)), sum(q) / len(q)
    )
    median = (ordered[len(q) // 2 - 1] + ordered[len(q) // 2]) / 2
    good = [x for x, quality in zip(images, q, strict=True) if quality >= median]

    def gradients(scaling):
        plq = PixelQualityAttribution(
            serfiq, weights=weights, target_scalar=target, scaling=scaling
        )
        return torch.cat([merge_channels(plq.attribute(x[None])) for x in good])

    return scaling, gradients(None), gradients(scaling)


@pytest.mark.parametrize(("weights", "target"), [("l1", "node"), ("signed", "serfiq")])
def test_finds_what_a_loop_finds(weights, target):
    images = faces()
    scaling, good, scaled = oracle(small_face_net(), images, weights, target)
    found = calibrate(method(weights=weights, target_scalar=target), iter(images.split(7)))
    assert found.scaling == pytest.approx(scaling, rel=1e-6)
    assert (found.faces, found.good_faces, len(good)) == (24, 12, 12)
    expected = gradient_reference(good.log())
    torch.testing.assert_close(found.reference.mean, expected.mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.reference.spread, expected.spread, rtol=1e-4, atol=1e-5)
    assert found.reference.pooled_spread == pytest.approx(expected.pooled_spread, rel=1e-4)
    mean = scaled.log().mean(0)
    middle = sorted(float(mean[i, j]) for i in range(6, 14) for j in range(6, 14))
    border = sorted(
        float(mean[i, j]) for i in range(20) for j in range(20) if min(i, j) < 2 or max(i, j) >= 18
    )
    halfway = (middle[31] + border[71]) / 2  # the lower of two medians
    assert found.gamma == pytest.approx(-2 * halfway / math.log(10), abs=1e-5)
    maps = pixel_quality(scaled, found.gamma)
    centres = [float(p[6:14, 6:14].flatten().median()) for p in maps]
    assert found.centre_quality == pytest.approx(sorted(centres)[5], abs=1e-4)


def test_gamma_puts_one_half_between_middle_and_border():
    """Gradients 1e-2 in the middle and 1e-4 at the border: p = ½ at 1e-3, so γ = 6."""
    gain = torch.full((20, 20), 1e-4, dtype=torch.float64)
    gain[5:15, 5:15] = 1e-2
    fading = Through(lambda x: (x * gain).sum((-2, -1)), 3, 4)
    nn.init.constant_(fading.fc.weight, 1.0)
    fading.fc.bias.data = torch.arange(4, dtype=torch.float64)
    images, serfiq = faces(), SERFIQ(fading, passes=20)
    found = calibrate(PixelQualityAttribution(serfiq, normalize=False), images.split(7))
    middle, border = found.reference.mean[10, 10], found.reference.mean[0, 0]
    assert float(middle - border) == pytest.approx(math.log(100), abs=1e-4)
    q = serfiq(images).detach()
    good = q[q >= q.quantile(0.5)]
    q_hat = torch.sigmoid(found.scaling.alpha * (good - found.scaling.r))
    levels = torch.stack([middle, border, (middle + border) / 2]).double()
    p = pixel_quality((levels + (q_hat / good).log().mean()).exp(), found.gamma)
    assert p.tolist() == pytest.approx([100 / 101, 1 / 101, 0.5], abs=1e-4)
    assert found.centre_quality > 0.5 > found.border_quality
    assert 0 < found.gamma_holds <= 1


def test_boxes_change_the_reference_alone():
    images = faces(24)
    plain, smooth = (
        calibrate(method(), [images], pool_size=p, blur_size=k) for p, k in ((5, 1), (3, 7))
    )
    assert (smooth.scaling, smooth.gamma) == (plain.scaling, plain.gamma)
    assert (smooth.reference.pool_size, smooth.reference.blur_size) == (3, 7)
    assert not torch.allclose(smooth.reference.mean, plain.reference.mean, atol=0.01)


def test_only_the_best_are_kept_and_they_are_the_best():
    images = faces(40)
    q = SERFIQ(small_face_net(), passes=20)(images)
    few = calibrate(method(), images.split(7), keep=6)
    everything = calibrate(method(), images.split(7))
    assert (few.faces, few.good_faces, everything.good_faces) == (40, 6, 20)
    assert few.scaling == everything.scaling
    best = images[q.argsort(descending=True)[:6]]
    expected = gradient_reference(merge_channels(method().attribute(best)).log())
    torch.testing.assert_close(few.reference.mean, expected.mean, rtol=1e-5, atol=1e-5)
    assert calibrate(method(), [faces(11)]).good_faces == 6  # the median face is a good one


def test_the_scaling_of_the_method_is_not_used_and_settings_are_stated():
    chosen = {"weights": "signed", "directions": 2}
    other = method(**chosen, scaling=QualityScaling(3.0, 0.1))
    found = calibrate(other, [faces()], source="drawn")
    assert found.header() == calibrate(method(**chosen), [faces()], source="drawn").header()
    assert (found.network, found.input_size) == ("SmallFaceNet", (20, 20))
    conditions = found.conditions
    assert (conditions.passes, conditions.weights, conditions.directions) == (20, "signed", 2)
    assert (found.source, found.estimator, found.note) == ("drawn", "sampling", "")
    assert found.versions["torch"]


def test_a_face_model_is_tapped_where_its_spec_says():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1200, 12), nn.ReLU(), nn.Linear(12, 8))
    spec = ModelSpec("toy", (20, 20), (127.5,) * 3, (128.0,) * 3, embedding_layer="1")
    model = FaceModel(net, spec).eval()
    found = calibrate(model, [faces().float()])
    assert found.network == "toy"
    expected = SERFIQ(model, embedding_layer="backbone.1")(faces().float())
    assert found.scaling.r == pytest.approx(expected.mean().item(), abs=1e-6)


def test_places_never_read_have_no_reference_and_disturb_nothing():
    net = Through(lambda x: x[..., :17, :17].flatten(1), 867, 8)
    found = calibrate(PixelQualityAttribution(SERFIQ(net, passes=20)), [faces()])
    unknown = torch.ones(20, 20, dtype=torch.bool)
    unknown[:17, :17] = False
    assert torch.equal(found.reference.mean.isnan(), unknown)
    assert math.isfinite(found.gamma)
    hole = torch.ones(20, 20)
    hole[4:16, 4:16] = 0
    ring = Through(lambda x: (x * hole).flatten(1), 1200, 8)
    with pytest.raises(ValueError, match="middle of the image has no gradient"):
        calibrate(PixelQualityAttribution(SERFIQ(ring, passes=20)), [faces()])


def test_leaves_the_model_as_it_was():
    model = small_face_net().train()
    before = snapshot(model)
    calibrate(model, [faces()])
    assert_untouched(before, model)


@pytest.mark.parametrize(
    ("error", "message", "batches", "options"),
    [
        (ValueError, "at least 10 faces, better some hundred, but got 9", [faces(9)], {}),
        (ValueError, "but got 0", [], {}),
        (ValueError, r"got \(2, 3, 18, 20\)", [faces(2), faces(2)[:, :, 2:]], {}),
        (ValueError, r"got \(3, 20, 20\)", faces(2), {}),
        (TypeError, "must be tensors", [np.zeros((2, 3, 20, 20))], {}),
        (ValueError, "NaN", [faces(2) * math.nan], {}),
        (ValueError, "no α fits", [faces(1).expand(12, -1, -1, -1)], {}),
        *((ValueError, "keep must be", [faces()], {"keep": k}) for k in (0, 4, 2.5, True)),
    ],
)
def test_what_is_refused(error, message, batches, options):
    with pytest.raises(error, match=message):
        calibrate(method(), batches, **options)


def test_what_cannot_be_explained_is_left_out_if_asked():
    net = small_face_net()

    def no_embedding_of_white(x):
        white = (x == 255).flatten(1).all(1)
        return net.dropout(net.trunk(x.masked_fill(white[:, None, None, None], math.nan)))

    blinded = Through(no_embedding_of_white, 300, 16)
    plq = PixelQualityAttribution(SERFIQ(blinded, passes=20))
    images, left_out = faces(), {}
    images[5] = 255
    found = calibrate(plq, images.split(7), left_out=left_out)
    assert (found.faces, found.left_out) == (23, 1)
    assert list(left_out) == [5]
    assert "NaN" in left_out[5]
    kept = calibrate(plq, [images[torch.arange(24) != 5]])
    assert found.scaling == pytest.approx(kept.scaling, rel=1e-9)
    with pytest.raises(ValueError, match="NaN"):
        calibrate(plq, images.split(7))
    images[3:] = 255
    with pytest.raises(ValueError, match=r"but got 3\. 21 were left out; the first: "):
        calibrate(plq, images.split(7), left_out={})
