"""Shares of places, against the noise covariance written out and against sampling."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_plq.functional import mean_pairwise_distance, quality_from_distance
from captum_plq.functional.local import (
    PlaceShares,
    local_quality,
    local_reference,
    local_zscore,
    place_shares,
    quality_from_snr,
    signal_to_noise,
)

CHANNELS, HEIGHT, WIDTH, SIZE = 6, 3, 4, 10
RATE = 0.3


@pytest.fixture
def head() -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, C, H, W) of faces, W and b of what follows them."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(5, CHANNELS, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(SIZE, CHANNELS * HEIGHT * WIDTH, generator=generator, dtype=torch.float64)
    return features, weight + 0.2, torch.randn(SIZE, generator=generator, dtype=torch.float64)


@pytest.fixture
def shares(head: tuple[Tensor, Tensor, Tensor]) -> PlaceShares:
    features, weight, bias = head
    mean = features.flatten(1) @ weight.T + bias
    return place_shares(
        features,
        (mean @ weight).view_as(features),
        weight.square().sum(0).view(features.shape[1:]),
        mean @ bias,
        RATE,
    )


def test_shares_are_those_of_the_covariance_written_out(
    head: tuple[Tensor, Tensor, Tensor], shares: PlaceShares
) -> None:
    features, weight, bias = head
    for image, f in enumerate(features):
        mean = weight @ f.flatten() + bias
        for row in range(HEIGHT):
            for column in range(WIDTH):
                here = torch.zeros_like(f)
                here[:, row, column] = f[:, row, column]
                moved = weight @ here.flatten()
                noise = weight @ (RATE / (1 - RATE) * here.flatten() ** 2).diag() @ weight.T
                assert shares.evidence[image, row, column] == pytest.approx(float(mean @ moved))
                assert shares.noise[image, row, column] == pytest.approx(float(noise.trace()))
        assert shares.offset[image] == pytest.approx(float(mean @ bias))


def test_a_places_noise_is_what_sampling_loses_when_the_place_is_frozen(
    head: tuple[Tensor, Tensor, Tensor], shares: PlaceShares
) -> None:
    features, weight, _ = head
    passes = 200_000
    kept = torch.rand(passes, *features.shape[1:], generator=torch.Generator().manual_seed(1))
    moves = ((kept >= RATE).double() / (1 - RATE) - 1) * features[0]
    frozen = moves.clone()
    frozen[:, :, 1, 2] = 0

    def trace(x: Tensor) -> float:
        return float((x.flatten(1) @ weight.T).square().sum(1).mean())

    lost = trace(moves) - trace(frozen)
    assert lost == pytest.approx(float(shares.noise[0, 1, 2]), rel=0.05)


def test_signal_to_noise_gives_the_quality_that_sampling_gives() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(64, 2000, generator=generator)
    features = torch.rand(3, 20, 10, 10, generator=generator)
    mean = features.flatten(1) @ weight.T
    squared = weight.square().sum(0).view(20, 10, 10)
    slopes = (mean @ weight).view_as(features)
    found = quality_from_snr(
        signal_to_noise(place_shares(features, slopes, squared, torch.zeros(3)))
    )
    kept = torch.rand(400, 2000, generator=generator) >= 0.5
    stochastic = (features.flatten(1)[:, None] * kept * 2) @ weight.T
    stochastic = torch.nn.functional.normalize(stochastic, dim=2)
    sampled = quality_from_distance(mean_pairwise_distance(stochastic, "pairs"))
    assert torch.allclose(found, sampled, rtol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reference", [0.02, 1.0, 400.0, "own", None])
def test_map_and_offset_add_up_to_the_difference_of_qualities(
    shares: PlaceShares, reference: float | str | None, dtype: torch.dtype
) -> None:
    shares = PlaceShares(*(x.to(dtype) for x in shares))
    snr = signal_to_noise(shares)
    chosen = float(snr[0]) if isinstance(reference, str) else reference
    maps, offset = local_quality(shares, chosen)
    against = snr if chosen is None else torch.full_like(snr, chosen)
    wanted = quality_from_snr(snr) - quality_from_snr(against)
    close = 1e-12 if dtype == torch.float64 else 1e-6
    assert torch.allclose(maps.sum((1, 2)) + offset, wanted, rtol=0, atol=close)
    assert maps.dtype == dtype
    assert maps.isfinite().all()


def test_noise_without_evidence_and_evidence_against_the_face_take_quality_away() -> None:
    evidence, noise = torch.tensor([[[4.0, 0.0, -1.0]]]), torch.ones(1, 1, 3)
    maps, _ = local_quality(PlaceShares(evidence, noise, torch.zeros(1)), 1.0)
    more, without, against = maps[0, 0]
    assert more > 0 > without > against


def test_images_without_noise_or_with_infinite_shares_are_nan() -> None:
    evidence = torch.tensor([[[1.0]], [[torch.inf]], [[1.0]]])
    noise = torch.tensor([[[0.0]], [[1.0]], [[2.0]]])
    shares = PlaceShares(evidence, noise, torch.zeros(3))
    expected = [True, True, False]
    assert signal_to_noise(shares).isnan().tolist() == expected
    assert local_quality(shares, 1.0)[0].isnan().flatten().tolist() == expected


def test_zscores_are_median_and_spread_of_high_quality_faces(shares: PlaceShares) -> None:
    reference = local_reference(shares, smooth=False)
    assert reference.quality == pytest.approx(quality_from_snr(torch.tensor(reference.snr)).item())
    assert reference.snr == pytest.approx(float(signal_to_noise(shares).median()))
    total = shares.noise.sum((1, 2), keepdim=True)
    summands = (shares.evidence - reference.snr * shares.noise) / total
    z = (summands - summands.median(0).values) / summands.std(0)
    assert torch.allclose(local_zscore(shares, reference), z, atol=1e-5)

    smoothed = torch.zeros_like(z)  # place by place
    for y in range(HEIGHT):
        for x in range(WIDTH):
            near = [(r, c) for r in range(HEIGHT) for c in range(WIDTH)
                    if abs(r - y) < 2 and abs(c - x) < 2]  # fmt: skip
            weights = [(2 - abs(r - y)) * (2 - abs(c - x)) for r, c in near]
            terms = [w * z[:, r, c] for w, (r, c) in zip(weights, near, strict=True)]
            smoothed[:, y, x] = torch.stack(terms).sum(0) / sum(weights)
    wanted = (smoothed - smoothed.median(0).values) / smoothed.std(0)
    assert torch.allclose(local_zscore(shares, local_reference(shares)), wanted, atol=1e-4)


def test_a_reference_is_refused_that_is_none(shares: PlaceShares) -> None:
    one = PlaceShares(*(x[:1] for x in shares))
    with pytest.raises(ValueError, match="1 of 1"):
        local_reference(one)
    with pytest.raises(ValueError, match="no spread"):
        local_reference(PlaceShares(*(x[:1].repeat(3, *[1] * (x.ndim - 1)) for x in shares)))
    with pytest.raises(ValueError, match="maps of size"):
        local_zscore(PlaceShares(*(x[..., :2] for x in shares)), local_reference(shares))
