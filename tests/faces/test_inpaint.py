"""Painting over: a flat region keeps its colour, a slope goes on, the rest is untouched."""

import cv2
import numpy as np
import pytest
from skimage.restoration import inpaint_biharmonic

from captum_plq.faces import inpaint


@pytest.fixture
def mask():
    there = np.zeros((40, 30), bool)
    there[12:22, 9:20] = True
    return there


@pytest.mark.parametrize(
    ("method", "flat_off", "slope_off"),
    [("telea", 2, 25), ("navier-stokes", 0, 25), ("biharmonic", 0, 3)],
)
def test_a_flat_colour_and_a_slope_go_on(mask, method, flat_off, slope_off):
    y, x = np.mgrid[0:40, 0:30]
    flat = np.full((40, 30, 3), (200, 120, 7), np.uint8)
    slope = np.stack([60 + 4 * y, 100 + 3 * x, 200 - 4 * y], axis=2).astype(np.uint8)
    for image, off in ((flat, flat_off), (slope, slope_off)):
        damaged = image.copy()
        damaged[mask] = np.random.default_rng(0).integers(0, 256, (mask.sum(), 3))
        painted = inpaint(damaged, mask, method=method).astype(float)
        assert np.abs(painted - image).max() <= off


@pytest.mark.parametrize("method", ["telea", "navier-stokes", "biharmonic"])
def test_only_the_mask_changes_and_what_is_under_it_does_not_count(mask, method):
    image = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image.flags.writeable = mask.flags.writeable = False
    painted = inpaint(image, mask, method=method)
    assert painted.dtype == np.uint8
    assert painted.flags.writeable
    nothing = inpaint(image, np.zeros_like(mask), method=method)
    np.testing.assert_array_equal(nothing, image)
    assert not np.shares_memory(nothing, image)
    np.testing.assert_array_equal(painted[~mask], image[~mask])
    assert (painted[mask] != image[mask]).any()
    other = image.copy()
    other[mask] = 255
    np.testing.assert_array_equal(inpaint(other, mask, method=method), painted)


def test_the_libraries_own_results(mask):
    image = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for method, flag in (("telea", cv2.INPAINT_TELEA), ("navier-stokes", cv2.INPAINT_NS)):
        expected = cv2.inpaint(image, mask.astype(np.uint8), 5.0, flag)
        np.testing.assert_array_equal(inpaint(image, mask, method=method, radius=5.0), expected)
    expected = 255 * np.stack(
        [inpaint_biharmonic(image[..., c] / 255, mask) for c in range(3)], axis=2
    )
    painted = inpaint(image, mask, method="biharmonic")
    assert np.abs(painted - expected).max() <= 0.5 + 1e-6
