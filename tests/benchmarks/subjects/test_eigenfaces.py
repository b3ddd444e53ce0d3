"""Faces of a known subspace: what is hidden of them can be told from the rest."""

import pytest
import torch

from benchmarks.subjects.eigenfaces import Eigenfaces


@pytest.fixture
def faces():
    """Twelve faces in the span of three patterns, with numbers that 0–255 need not clip."""
    generator = torch.manual_seed(0)
    weights, patterns = (
        torch.randn(12, 3, generator=generator),
        torch.randn(3, 3 * 64, generator=generator),
    )
    return (128 + 10 * weights @ patterns).view(12, 3, 8, 8)


def test_a_face_of_the_subspace_is_told_from_its_other_half(faces):
    basis = Eigenfaces.of(faces[:10])
    assert len(basis.basis) == 5
    torch.testing.assert_close(basis.reconstructed(faces[10:]), faces[10:], atol=0.01, rtol=0)
    regions = torch.zeros(2, 8, 8, dtype=torch.bool)
    regions[0, :4] = regions[1, :, 3:] = True
    spoilt = torch.where(regions[:, None], 0, faces[10:])
    filled = basis.filled(spoilt, regions)
    assert (filled - faces[10:]).abs().max() <= 0.51, "but for rounding"
    assert torch.equal(
        filled[~regions[:, None].expand_as(filled)], spoilt[~regions[:, None].expand_as(spoilt)]
    )


def test_without_anything_to_go_by_it_is_the_mean_face(faces):
    basis = Eigenfaces.of(faces)
    filled = basis.filled(faces[:1], torch.ones(1, 8, 8, dtype=torch.bool))
    torch.testing.assert_close(filled.flatten(), basis.mean.round())


def test_it_is_the_conditional_mean_of_a_gaussian(faces):
    noisy = faces.double() + 5 * torch.randn(faces.shape, generator=torch.manual_seed(1)).double()
    basis = Eigenfaces.of(noisy, 3)
    covariance = basis.basis.T * basis.variances @ basis.basis
    covariance += basis.noise * torch.eye(192)
    region = torch.rand(1, 8, 8, generator=torch.manual_seed(2)) < 0.9
    inside = region.expand(3, 8, 8).flatten()
    seen = (noisy[0].flatten() - basis.mean)[~inside]
    gain = covariance[inside][:, ~inside] @ covariance[~inside][:, ~inside].inverse()
    expected = (basis.mean[inside] + gain @ seen).round().clamp(0, 255)
    torch.testing.assert_close(basis.filled(noisy[:1], region).flatten()[inside], expected)
