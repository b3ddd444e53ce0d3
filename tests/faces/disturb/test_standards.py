import numpy as np

from captum_plq.faces import sample_face
from captum_plq.faces.disturb.standards import (
    change_exposure,
    compress_jpeg,
    light_from_side,
    rotate_in_plane,
)

CHIP = sample_face().chip


def test_a_stop_is_a_factor_of_two_of_the_light():
    # sRGB (IEC 61966-2-1): half the light of white is 188, a quarter 137.
    white = np.full((2, 2, 3), 255, np.uint8)
    assert change_exposure(white, -1)[0, 0, 0] == 188
    assert change_exposure(white, -2)[0, 0, 0] == 137
    assert change_exposure(np.full((2, 2, 3), 188, np.uint8), 2).min() == 255
    grey = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    np.testing.assert_array_equal(change_exposure(grey, 0), grey)


def test_side_light_by_its_formula():
    # Eyes at (20, 30) and (80, 30): the middle of the face is x = 50, one eye distance 60.
    points = np.array([(85, 30), (75, 30), (15, 30), (25, 30), (50, 70)], float)
    white = np.full((100, 101, 3), 255, np.uint8)
    lit = light_from_side(white, points, 0.5)
    light = [1 - 0.5 / (1 + np.exp(-6 * (x - 50) / 60)) for x in (0, 50, 100)]
    assert light[1] == 0.75
    expected = [round(255 * (1.055 * y ** (1 / 2.4) - 0.055)) for y in light]
    assert lit[40, [0, 50, 100], 0].tolist() == expected
    assert (lit == lit[:1]).all()  # the same in every row of an upright face
    np.testing.assert_array_equal(light_from_side(white, points, 0.0), white)
    turned = np.stack([99 - points[:, 1], points[:, 0]], axis=1)
    across = light_from_side(np.rot90(white, -1).copy(), turned, 0.5)
    np.testing.assert_array_equal(np.rot90(lit, -1), across)


def test_rotation_by_a_quarter_is_exact():
    np.testing.assert_array_equal(rotate_in_plane(CHIP, 90), np.rot90(CHIP))
    np.testing.assert_array_equal(rotate_in_plane(CHIP, 0), CHIP)
    grey = np.full((40, 30, 3), 200, np.uint8)
    np.testing.assert_array_equal(rotate_in_plane(grey, 33), grey)  # no black corners


def test_jpeg_gets_worse_with_lower_quality():
    gaps = [np.abs(compress_jpeg(CHIP, q).astype(float) - CHIP).mean() for q in (95, 50, 5)]
    assert gaps[0] < 3
    assert gaps[0] < gaps[1] < gaps[2]
    grey = np.full((16, 16, 3), 128, np.uint8)
    np.testing.assert_array_equal(compress_jpeg(grey, 50), grey)
