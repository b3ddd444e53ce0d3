"""Enlarged maps keep their sums, place by place and area by area."""

from __future__ import annotations

import pytest
import torch

from captum_plq.functional.enlargement import area_weights, enlarge

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
