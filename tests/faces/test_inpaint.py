"""Painting over: a flat region keeps its colour, a slope goes on, the rest is untouched."""

import sys

import numpy as np
import pytest

from captum_plq.faces import MissingExtraError, inpaint

METHODS = ("telea", "navier-stokes", "biharmonic")


@pytest.fixture(autouse=True)
def _libraries():
    pytest.importorskip("cv2", reason="needs the extra [metrics]")
    pytest.importorskip("skimage", reason="needs the extra [metrics]")


@pytest.fixture
def mask():
    there = np.zeros((40, 30), bool)
    there[12:22, 9:20] = True
    return there


@pytest.mark.parametrize(("method", "off"), [("telea", 2), ("navier-stokes", 0), ("biharmonic", 0)])
def test_a_flat_region_gets_the_flat_colour(mask, method, off):
    flat = np.empty((40, 30, 3), np.uint8)
    flat[:] = (200, 120, 7)
    spoilt = flat.copy()
    spoilt[mask] = np.random.default_rng(0).integers(0, 256, (mask.sum(), 3))
    painted = inpaint(spoilt, mask, method=method)
    np.testing.assert_allclose(painted.astype(int), flat, rtol=0, atol=off)


@pytest.mark.parametrize(
    ("method", "off"), [("telea", 25), ("navier-stokes", 25), ("biharmonic", 3)]
)
def test_a_slope_goes_on_in_every_channel(mask, method, off):
    y, x = np.mgrid[0:40, 0:30]
    slope = np.stack([60 + 4 * y, 100 + 3 * x, 200 - 4 * y], axis=2).astype(np.uint8)
    spoilt = slope.copy()
    spoilt[mask] = 0
    painted = inpaint(spoilt, mask, method=method).astype(float)
    assert np.abs(painted - slope).max() <= off


@pytest.mark.parametrize("method", METHODS)
def test_only_the_mask_changes_and_what_is_under_it_does_not_count(mask, method):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
    image.flags.writeable = mask.flags.writeable = False
    painted = inpaint(image, mask, method=method)
    assert painted.dtype == np.uint8
    assert painted.flags.writeable
    np.testing.assert_array_equal(painted[~mask], image[~mask])
    assert (painted[mask] != image[mask]).any()
    other = image.copy()
    other[mask] = 255
    np.testing.assert_array_equal(inpaint(other, mask, method=method), painted)


def test_the_libraries_own_results(mask):
    import cv2
    from skimage.restoration import inpaint_biharmonic

    image = np.random.default_rng(2).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    for method, flag in (("telea", cv2.INPAINT_TELEA), ("navier-stokes", cv2.INPAINT_NS)):
        expected = cv2.inpaint(image, mask.astype(np.uint8), 5.0, flag)
        np.testing.assert_array_equal(inpaint(image, mask, method=method, radius=5.0), expected)
    expected = 255 * np.stack(
        [inpaint_biharmonic(image[..., c] / 255, mask) for c in range(3)], axis=2
    )
    painted = inpaint(image, mask, method="biharmonic")
    assert np.abs(painted - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_mask_copies(mask, method):
    image = np.random.default_rng(3).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    painted = inpaint(image, np.zeros_like(mask), method=method)
    np.testing.assert_array_equal(painted, image)
    assert not np.shares_memory(painted, image)


IMAGE = np.zeros((8, 9, 3), np.uint8)
NONE = np.zeros((8, 9), bool)


@pytest.mark.parametrize(
    ("message", "image", "mask", "given"),
    [
        (r"shape \(8, 9\)", IMAGE[..., 0], NONE, {}),
        ("float64", IMAGE.astype(float), NONE, {}),
        (r"bool of the image's shape \(8, 9\)", IMAGE, NONE.T, {}),
        ("but got uint8", IMAGE, NONE.astype(np.uint8), {}),
        ("'telea', 'navier-stokes' or 'biharmonic'", IMAGE, NONE, {"method": "learned"}),
        ("at least 1 pixel", IMAGE, NONE, {"radius": 0.5}),
        ("at least 1 pixel", IMAGE, NONE, {"radius": np.nan}),
        ("nothing is left", IMAGE, ~NONE, {}),
    ],
)
def test_bad_input_is_refused(message, image, mask, given):
    with pytest.raises(ValueError, match=message):
        inpaint(image, mask, **given)


@pytest.mark.parametrize(
    ("method", "module"), [("telea", "cv2"), ("biharmonic", "skimage.restoration")]
)
def test_the_error_names_the_extra(monkeypatch, mask, method, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[metrics\]'"):
        inpaint(np.zeros((40, 30, 3), np.uint8), mask, method=method)
