import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from captum_plq import faces

GREY = np.full((112, 112, 3), 128, np.uint8)
NOISE = np.random.default_rng(0).integers(60, 200, (112, 96, 3), dtype=np.uint8)


def test_noise_has_the_sigma_asked_for_and_follows_the_seed():
    difference = faces.add_noise(GREY, 20.0, seed=5).astype(float) - 128
    assert difference.std() == pytest.approx(20, rel=0.02)
    assert difference.mean() == pytest.approx(0, abs=0.3)
    assert abs(np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1]) < 0.05
    assert (faces.add_noise(GREY, 20.0, seed=6) != faces.add_noise(GREY, 20.0, seed=5)).any()
    np.testing.assert_array_equal(faces.add_noise(GREY, 0.0), GREY)
    white = faces.add_noise(np.full((20, 20, 3), 255, np.uint8), 40.0)
    assert white.min() > 60  # cut off, not wrapped
    assert (white == 255).mean() > 0.4


@pytest.mark.parametrize("sigma", [1.5, 6.0])
def test_blur_is_gaussian(astronaut, sigma):
    inside = np.s_[24:-24, 24:-24]
    blurred = faces.blur(astronaut, sigma)[inside]

    def distance(other_sigma):
        exact = gaussian_filter(astronaut.astype(float), (other_sigma, other_sigma, 0))[inside]
        return np.abs(blurred - exact)

    assert distance(sigma).mean() < 0.8
    assert np.percentile(distance(sigma), 99.9) < 5
    for other in (0.9 * sigma, 1.1 * sigma):
        assert distance(other).mean() > 1.3 * distance(sigma).mean()
    np.testing.assert_array_equal(faces.blur(astronaut, 0), astronaut)


def test_few_pixels_keep_what_is_coarse_and_lose_what_is_fine():
    yy, xx = np.mgrid[0:112, 0:112]
    coarse = np.uint8(np.rint(128 + 60 * np.sin(2 * np.pi * yy / 112)))[..., None].repeat(3, 2)
    assert np.abs(faces.reduce_resolution(coarse, 16).astype(float) - coarse).mean() < 4
    fine = np.uint8(255 * ((yy + xx) % 2))[..., None].repeat(3, 2)
    assert faces.reduce_resolution(fine, 16).std() < 3
    np.testing.assert_array_equal(faces.reduce_resolution(NOISE, 112), NOISE)


def covered(image):
    """First and last row and column of what is black."""
    rows, columns = np.nonzero((image == 0).all(axis=2))
    return rows.min(), rows.max(), columns.min(), columns.max(), len(rows)


@pytest.mark.parametrize(("size", "middle"), [(40, 1.0), (40, 0.4), (39, 0.0), (112, 1)])
def test_blocks_are_whole_squares_in_the_middle_asked_for(size, middle):
    centres = []
    for seed in range(200 if size < 112 else 2):
        top, bottom, left, right, count = covered(
            faces.cover_with_block(GREY, size, seed=seed, middle=middle)
        )
        assert (bottom - top, right - left, count) == (size - 1, size - 1, size**2)
        centres += [(top + bottom) / 2 - 55.5, (left + right) / 2 - 55.5]
    reach = min((112 - size) / 2, middle * 112 / 2)
    assert max(map(abs, centres)) <= reach + 0.5
    if reach > 1:  # uniform: its standard deviation is reach/√3
        assert np.std(centres) == pytest.approx(reach / 3**0.5, rel=0.1)
        assert abs(np.mean(centres)) < 0.15 * reach


def test_the_lower_part_is_covered_from_edge_to_edge():
    for share, rows in ((0.4, 45), (0.5, 56), (1.0, 112), (1e-6, 1)):
        image = faces.cover_lower_part(GREY, share)
        assert (image[112 - rows :] == 0).all()
        assert (image[: 112 - rows] == 128).all()


def test_the_mean_is_that_of_what_is_covered():
    for image in (
        faces.cover_lower_part(NOISE, 0.25, fill="mean"),
        faces.cover_with_block(NOISE, 20, seed=3, fill="mean"),
    ):
        rows, columns = np.nonzero((image != NOISE).any(axis=2))
        part = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (image[part] == np.rint(NOISE[part].reshape(-1, 3).mean(0))).all()


def test_the_standard_ones_grow_with_the_image():
    big = np.full((224, 224, 3), 128, np.uint8)
    block = faces.STANDARD_DEGRADATIONS["block of 40 px"]
    assert covered(block(GREY, 0))[-1] == 40**2
    assert covered(block(big, 0))[-1] == 80**2
    edge = np.zeros((224, 224, 3), np.uint8)
    edge[:, 112:] = 200
    soften = faces.STANDARD_DEGRADATIONS["blur σ3"]
    steps = (np.diff(soften(x, 0)[50, :, 0].astype(float)) for x in (edge[::2, ::2], edge))
    slopes = [np.abs(step).max() for step in steps]
    assert slopes[0] == pytest.approx(2 * slopes[1], rel=0.15)
    coarse = faces.STANDARD_DEGRADATIONS["16 px"]
    np.testing.assert_array_equal(coarse(edge, 0), faces.reduce_resolution(edge, 32))
    small = np.zeros((4, 4, 3), np.uint8)
    assert all(f(small, 0).shape == (4, 4, 3) for f in faces.STANDARD_DEGRADATIONS.values())
