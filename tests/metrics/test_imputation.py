"""What removed pixels become: by hand, by scipy's blur, by a dense solve of the definition."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from captum_plq.metrics import black, blurred, constant, mean_colour, road
from captum_plq.metrics.imputation import interpolate
from tests.support.draws import uniform


def random_case(batch=3, height=9, width=7, share=0.6):
    return 255 * uniform(batch, 3, height, width), uniform(batch, height, width, seed=3) < share


IMPUTERS = {
    "black": black,
    "constant": constant(12.5),
    "colour": constant((1.0, 2.0, 3.0)),
    "mean": mean_colour,
    "blurred": blurred(1.5),
    "road": road(),
}


@pytest.mark.parametrize("impute", IMPUTERS.values(), ids=IMPUTERS)
def test_only_removed_pixels_change(impute):
    images, removed = random_case()
    found = impute(images, removed)
    assert found.dtype == images.dtype
    assert torch.equal((found != images).any(1), removed)
    assert torch.equal((found != images).all(1), removed)
    assert torch.equal(impute(images, torch.zeros_like(removed)), images)


def test_colours_by_hand():
    images = torch.tensor([[[[1.0, 3.0]], [[10.0, 30.0]]]])
    removed = torch.tensor([[[True, False]]])
    expected = {black: [0, 0], constant(7.0): [7, 7], constant([7, 8]): [7, 8]}
    for impute, colour in {**expected, mean_colour: [2, 20]}.items():
        assert impute(images, removed)[0, :, 0, 0].tolist() == colour


@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_the_blur_is_that_of_scipy(sigma):
    images, removed = random_case(height=11, width=8)  # narrower than the widest kernel
    found = blurred(sigma)(images, torch.ones_like(removed))
    expected = gaussian_filter(images.numpy(), sigma, axes=(2, 3), mode="mirror")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    one_pixel = torch.tensor([[[[5.0]]]])
    assert blurred(2.0)(one_pixel, torch.ones(1, 1, 1, dtype=torch.bool)) == 5.0


def dense_solution(image, gone):
    """From the definition: one equation per pixel, with loops, by numpy."""
    channels, height, width = image.shape
    matrix, right = np.eye(height * width), image.reshape(channels, -1).T.copy()
    for r, c in np.argwhere(gone):
        row = r * width + c
        right[row] = 0.0
        around = [
            (r + dr, c + dc, 1 / 6 if dr == 0 or dc == 0 else 1 / 12)
            for dr, dc in itertools.product((-1, 0, 1), repeat=2)
            if (dr, dc) != (0, 0) and 0 <= r + dr < height and 0 <= c + dc < width
        ]
        total = sum(weight for _, _, weight in around)
        for other_r, other_c, weight in around:
            matrix[row, other_r * width + other_c] -= weight / total
    return np.linalg.solve(matrix, right).T.reshape(image.shape)


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("size", [(9, 7), (1, 12), (12, 1), (2, 2)])
def test_interpolation_is_the_dense_solve_of_the_definition(size, share):
    images, removed = random_case(4, *size, share=share)
    removed[:, 0, 0] = False
    removed[:, -1, -1] = True
    found = interpolate(images, removed)
    for image, gone, filled in zip(images, removed, found, strict=True):
        expected = dense_solution(image.numpy(), gone.numpy())
        np.testing.assert_allclose(filled.numpy(), expected, rtol=1e-9)


def test_where_nothing_is_left_the_mean_colour_stands():
    images, removed = random_case(share=2)
    torch.testing.assert_close(interpolate(images, removed), mean_colour(images, removed))


def test_the_noise_is_seeded_of_the_size_asked_for_and_the_same_in_every_image():
    images = torch.full((2, 3, 64, 64), 100.0, dtype=torch.float64)
    removed = torch.ones(2, 64, 64, dtype=torch.bool)
    removed[0, ::2] = False
    noise, unit, other = (
        impute(images, removed) - 100
        for impute in (road(), road(0.02, value_range=1.0), road(seed=1))
    )
    assert noise[1].std() == pytest.approx(2.55, rel=0.03)
    assert unit[1].std() == pytest.approx(0.02, rel=0.03)
    assert abs(noise[1].mean()) < 0.1
    torch.testing.assert_close(noise[0, :, 1::2], noise[1, :, 1::2])
    for independent in (noise[1, 1], other[1, 0]):
        assert abs(np.corrcoef(noise[1, 0].flatten(), independent.flatten())[0, 1]) < 0.06
    assert torch.equal(road(0.0)(images, removed), interpolate(images, removed))
