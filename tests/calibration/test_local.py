"""The local reference: against one face at a time, and networks that have none."""

import pytest
import torch
from torch import nn

from captum_plq import SERFIQ, LocalQuality, PixelQualityAttribution, SpatialSERFIQ
from captum_plq.calibration import Calibration, calibrate
from captum_plq.calibration.local import LocalMeasurement
from captum_plq.functional.local import (
    PlaceShares,
    local_reference,
    local_zscore,
    quality_from_snr,
    signal_to_noise,
)
from tests.conftest import SmallFaceNet, small_face_net
from tests.support.architectures import BatchNormTail, build, faces


def images(count=24):
    """Faces of ever less contrast."""
    return faces(count) * torch.linspace(1, 0.2, count, dtype=torch.float64).view(-1, 1, 1, 1)


def method(net, **choices):
    return PixelQualityAttribution(SERFIQ(net, passes=20, **choices))


@pytest.mark.parametrize("dropout", [0.5, 0.3])
def test_is_of_the_same_faces_as_the_gradient_reference(dropout, tmp_path):
    net, x = build(BatchNormTail), images()
    found = calibrate(method(net, dropout=dropout), x.split(7))
    q = SERFIQ(net, passes=20, dropout=dropout)(x)
    good = x[q >= q.quantile(0.5)]
    spatial = SpatialSERFIQ(net, dropout=dropout)
    shares = [spatial.shares(face[None]) for face in good]
    expected = local_reference(PlaceShares(*map(torch.cat, zip(*shares, strict=True))))
    assert found.good_faces == len(good) == 12
    assert found.local.snr == pytest.approx(expected.snr, rel=1e-6)
    torch.testing.assert_close(found.local.center, expected.center, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.local.spread, expected.spread, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.local.smoothed, expected.smoothed, rtol=1e-4, atol=1e-4)
    assert found.local.center.shape == (4, 4)
    assert (found.local_layer, found.without_local) == (spatial.tail.layer_name, "")
    found.save(tmp_path / "c.npz")
    again = Calibration.load(tmp_path / "c.npz").local
    local = LocalQuality(SERFIQ(net, dropout=dropout), reference=again)
    maps, quality = local.attribute(x, at_places=True, return_quality=True)
    assert (local.compute_convergence_delta(maps, x).abs() <= 1e-5 * quality).all()


def test_high_quality_faces_are_at_zero_and_one_half_of_them_above_the_reference():
    net, x = build(BatchNormTail), images()
    reference = calibrate(method(net), [x]).local
    q = SERFIQ(net, passes=20)(x)
    shares = SpatialSERFIQ(net).shares(x[q >= q.quantile(0.5)])
    above = quality_from_snr(signal_to_noise(shares)) > quality_from_snr(
        torch.tensor(reference.snr)
    )
    assert int(above.sum()) == 6
    z = local_zscore(shares, reference)
    torch.testing.assert_close(z.median(0).values, torch.zeros(4, 4).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0), torch.ones(4, 4).double(), rtol=0, atol=1e-4)


class Cubed(SmallFaceNet):
    """Nothing behind its last map is affine, even nearly."""

    def forward(self, x):
        return super().forward(x) ** 3


class Means(nn.Sequential):
    """It has no map, only the means of the colours."""

    def forward(self, x):
        return super().forward(x.mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Means(nn.Linear(3, 8)), "No module"),
        (Cubed, "no affine function"),
    ],
)
def test_a_network_without_one_is_calibrated_all_the_same(make, reason):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make().double().eval()
    generator = torch.Generator().manual_seed(0)
    x = 255 * torch.rand(24, 3, 20, 20, generator=generator, dtype=torch.float64)
    found = calibrate(method(net), x.split(7))
    assert (found.local, found.local_layer) == (None, None)
    assert reason in found.without_local
    assert found.reference is not None


def test_once_something_is_missing_nothing_more_is_tried():
    net, x = small_face_net(), torch.rand(3, 3, 20, 20, dtype=torch.float64)
    places = LocalMeasurement(SERFIQ(net))
    whole = places.shares(x)
    assert all(one.evidence.shape == (1, 5, 5) for one in whole)
    assert places.shares(x * torch.nan) == [None] * 3
    assert "NaN" in places.missing
    assert places.shares(x) == [None] * 3
    assert places.reference(whole) is None


@pytest.mark.parametrize(
    ("of", "reason"),
    [
        (lambda x: x[:1], "two or more faces"),
        (lambda x: x[:1].expand(3, -1, -1, -1), "no spread"),
    ],
)
def test_faces_that_give_no_reference_are_a_reason(of, reason):
    places = LocalMeasurement(SERFIQ(small_face_net()))
    shares = places.shares(of(torch.rand(3, 3, 20, 20, dtype=torch.float64)))
    assert places.reference(shares) is None
    assert reason in places.missing
