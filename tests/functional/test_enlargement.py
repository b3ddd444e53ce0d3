"""Enlarged maps keep their sums, place by place and area by area."""

from __future__ import annotations

import pytest
import torch

from captum_plq.functional.enlargement import PlaceCentres, area_weights, enlarge, interpolate

HEIGHT, WIDTH = 3, 4


@pytest.mark.parametrize("size", [(12, 12), (112, 111), (2, 5)])
def test_enlarged_maps_keep_each_places_sum(size: tuple[int, int]) -> None:
    places = torch.eye(HEIGHT * WIDTH).view(-1, HEIGHT, WIDTH)
    pixels = enlarge(places, size)
    assert pixels.shape == (len(places), *size)
    assert torch.allclose(pixels.sum((1, 2)), torch.ones(len(places)), atol=1e-5)
    assert (pixels >= 0).all()


@pytest.mark.parametrize("size", [(12, 12), (112, 111), (2, 5)])
def test_weights_of_areas_sum_the_enlarged_map_over_each(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    owner = torch.randint(3, size, generator=generator)
    areas = torch.stack([owner == i for i in range(3)])
    maps = torch.randn(4, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    weights = area_weights(areas, (HEIGHT, WIDTH))
    found = torch.einsum("nhw,ahw->na", maps, weights)
    pixels = enlarge(maps, size)
    expected = torch.stack([(pixels * area).sum((1, 2)) for area in areas], 1)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(weights.sum(0), torch.ones(HEIGHT, WIDTH).double(), atol=1e-12)


def test_values_between_places_are_interpolated_where_these_lie() -> None:
    values = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    centres = PlaceCentres((0.5 / 9, 0.5 / 9), (4 / 9, 4 / 9))  # at the pixels 0 and 4
    pixels = interpolate(values, (9, 9), centres)[0]
    assert torch.allclose(pixels[0, :6], torch.tensor([0, 0.25, 0.5, 0.75, 1, 1]))
    assert torch.allclose(pixels[:6, 8], torch.tensor([1, 1.5, 2, 2.5, 3, 3]))


@pytest.mark.parametrize("first", [0.5 / 112, -0.3, 1.4])
def test_sums_are_kept_wherever_the_places_lie(first: float) -> None:
    places = torch.eye(HEIGHT * WIDTH).view(-1, HEIGHT, WIDTH)
    pixels = enlarge(places, (112, 112), PlaceCentres((first, first), (0.3, 0.2)))
    assert torch.allclose(pixels.sum((1, 2)), torch.ones(len(places)), atol=1e-5)
    assert (pixels >= 0).all()


def test_without_centres_places_are_equal_cells() -> None:
    maps = torch.randn(2, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    usual = torch.nn.functional.interpolate(maps[:, None], (30, 40), mode="bilinear")[:, 0]
    assert torch.allclose(interpolate(maps, (30, 40)), usual, atol=1e-6)
