"""Maps that follow an image's edges, against the linear system written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from captum_plq.functional.guided import guided_by_image

HEIGHT, WIDTH = 7, 6


def drawn(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, HEIGHT, WIDTH, generator=generator) * 80
    images[:, :, 2:5, 1:4] += 120
    return torch.randn(count, HEIGHT, WIDTH, generator=generator), images


def oracle(z: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Set the derivative of the sum of squares to zero, pair by pair."""
    pixels = list(itertools.product(range(HEIGHT), range(WIDTH)))
    system = 1e-3 * np.eye(len(pixels))
    for (a, (y, x)), (b, (v, u)) in itertools.combinations(enumerate(pixels), 2):
        if max(abs(y - v), abs(x - u)) == 1:
            apart = np.sum((image[:, y, x] - image[:, v, u]) ** 2)
            weight = math.exp(-apart / (2 * (0.18 * image.std()) ** 2)) / math.hypot(y - v, x - u)
            weight += 1e-4
            system[[a, b], [a, b]] += weight
            system[[a, b], [b, a]] -= weight
    return np.linalg.solve(system, 1e-3 * z.ravel()).reshape(z.shape)


def test_it_solves_the_linear_system() -> None:
    maps, images = (x.double() for x in drawn())
    found = guided_by_image(maps, images)
    for one, z, image in zip(found, maps.numpy(), images.numpy(), strict=True):
        np.testing.assert_allclose(one.numpy(), oracle(z, image), atol=1e-3 * z.std())


def test_sums_are_kept_and_the_unit_of_the_image_does_not_matter() -> None:
    maps, images = drawn()
    found = guided_by_image(maps, images)
    torch.testing.assert_close(found.sum((1, 2)), maps.sum((1, 2)))
    torch.testing.assert_close(guided_by_image(maps, images / 127.5 - 1), found)
    small = guided_by_image(maps * 1e-6, images)
    torch.testing.assert_close(small, found * 1e-6, rtol=1e-4, atol=1e-10)


def test_an_image_alone_and_in_any_batch_has_the_same_map() -> None:
    maps, images = drawn(4)
    together = guided_by_image(maps, images)
    for i in range(4):
        alone = guided_by_image(maps[i : i + 1], images[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-6)


def test_a_value_fills_its_object_and_stops_at_its_edge() -> None:
    image = torch.zeros(1, 3, 40, 40)
    image[:, :, 10:30, 10:30] = 200
    rows = torch.arange(40.0)
    hill = torch.exp(-((rows - 20) ** 2) / 50)
    found = guided_by_image(-hill[:, None] * hill[None, None], image)[0]
    inside = found[10:30, 10:30]
    assert inside.max() < found[image[0, 0] == 0].min() - 0.2
    assert inside.std() < 0.1 * inside.mean().abs()


def test_an_image_of_one_value_and_a_level_map_stay_as_they_are() -> None:
    maps, images = drawn()
    torch.testing.assert_close(guided_by_image(maps, torch.full_like(images, 9.0)), maps)
    level = torch.full_like(maps, -2.5)
    torch.testing.assert_close(guided_by_image(level, images), level)


def test_other_sizes_are_refused() -> None:
    maps, images = drawn()
    with pytest.raises(ValueError, match="do not match"):
        guided_by_image(maps[:1], images)
    with pytest.raises(ValueError, match="do not match"):
        guided_by_image(maps, images[0])
