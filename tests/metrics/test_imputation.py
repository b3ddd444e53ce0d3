"""What removed pixels become: by hand, by scipy's blur, by a dense solve of the definition."""

import itertools
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from captum_plq.errors import MissingExtraError
from captum_plq.metrics import black, blurred, constant, mean_colour, road
from captum_plq.metrics.imputation import interpolate


def random_case(batch=3, height=9, width=7, share=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = 255 * torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    return images, torch.rand(batch, height, width, generator=generator) < share


IMPUTERS = {
    "black": black,
    "constant": constant(12.5),
    "colour": constant((1.0, 2.0, 3.0)),
    "mean": mean_colour,
    "blurred": blurred(1.5),
    "road": road(),
}


@pytest.mark.parametrize("impute", IMPUTERS.values(), ids=IMPUTERS)
def test_only_removed_pixels_change_alone_and_in_a_batch(impute):
    images, removed = random_case()
    before = images.clone(), removed.clone()
    state = torch.get_rng_state()
    found = impute(images, removed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before[0])
    assert torch.equal(removed, before[1])
    assert found.dtype == images.dtype
    kept = (~removed)[:, None].expand_as(images)
    assert torch.equal(found[kept], images[kept])
    assert (found != images)[~kept].all()
    assert torch.equal(impute(images, torch.zeros_like(removed)), images)
    alone = impute(images[2:], removed[2:])
    torch.testing.assert_close(alone, found[2:], rtol=1e-13, atol=1e-10)


def test_colours_by_hand():
    images = torch.tensor([[[[1.0, 3.0]], [[10.0, 30.0]]]])
    removed = torch.tensor([[[True, False]]])
    expected = {black: [0, 0], constant(7.0): [7, 7], constant([7, 8]): [7, 8]}
    for impute, colour in {**expected, mean_colour: [2, 20]}.items():
        assert impute(images, removed)[0, :, 0, 0].tolist() == colour


@pytest.mark.parametrize("sigma", [0.4, 1.0, 5.0])
def test_the_blur_is_that_of_scipy(sigma):
    """Also where the kernel is wider than the image, which is mirrored again and again."""
    images, removed = random_case(height=11, width=8)
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
    images, removed = random_case(4, *size, share=share, seed=3)
    removed[:, 0, 0] = False
    removed[:, -1, -1] = True
    found = interpolate(images, removed)
    for image, gone, filled in zip(images, removed, found, strict=True):
        expected = dense_solution(image.numpy(), gone.numpy())
        np.testing.assert_allclose(filled.numpy(), expected, rtol=1e-9)


def test_where_nothing_is_left_the_mean_colour_stands():
    images, removed = random_case(share=0)
    removed[1] = True
    found = interpolate(images, removed)
    assert torch.equal(found[[0, 2]], images[[0, 2]])
    torch.testing.assert_close(found[1], images[1].mean((1, 2), keepdim=True).expand(3, 9, 7))


def test_the_noise_is_seeded_of_the_size_asked_for_and_the_same_in_every_image():
    images = torch.full((2, 3, 64, 64), 100.0, dtype=torch.float64)
    removed = torch.ones(2, 64, 64, dtype=torch.bool)
    removed[0, ::2] = False
    noise = road()(images, removed) - 100
    assert noise[1].std() == pytest.approx(2.55, rel=0.03)
    assert abs(noise[1].mean()) < 0.1
    torch.testing.assert_close(noise[0, :, 1::2], noise[1, :, 1::2])
    assert abs(np.corrcoef(noise[1, 0].flatten(), noise[1, 1].flatten())[0, 1]) < 0.06
    unit = road(0.02, value_range=1.0)(images, removed) - 100
    assert unit[1].std() == pytest.approx(0.02, rel=0.03)
    other = road(seed=1)(images, removed) - 100
    assert abs(np.corrcoef(other[1].flatten(), noise[1].flatten())[0, 1]) < 0.05
    assert torch.equal(road(0.0)(images, removed), interpolate(images, removed))


def test_without_scipy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"scipy.*captum-plq\[benchmarks\]"):
        road()(*random_case())


IMAGES, REMOVED = random_case()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: blurred(0.0), "sigma must be positive and finite"),
        (lambda: road(-0.1), "noise must be finite and not negative"),
        (lambda: road(value_range=0.0), "value_range must be positive"),
        (lambda: constant((1.0, 2.0))(IMAGES, REMOVED), "2 channels, but the images have 3"),
        (lambda: black(IMAGES.byte(), REMOVED), "floating point"),
        (lambda: mean_colour(IMAGES[0], REMOVED), r"\(B, C, H, W\)"),
        (lambda: road()(IMAGES, REMOVED.float()), "torch.bool, but got"),
        (lambda: blurred(1.0)(IMAGES, REMOVED[:2]), r"removed must be \(3, 9, 7\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
