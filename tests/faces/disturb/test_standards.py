import numpy as np
import pytest

from captum_plq.faces import sample_face, template_landmarks
from captum_plq.faces.disturb.standards import (
    NONCOMPLIANCES,
    change_exposure,
    compress_jpeg,
    light_from_side,
    rotate_in_plane,
)

POINTS = template_landmarks("arcface", 112)


@pytest.fixture(scope="module")
def chip():
    image = sample_face().chip
    image.flags.writeable = False
    return image


@pytest.mark.parametrize("kind", NONCOMPLIANCES)
def test_worse_by_degrees(chip, kind):
    """The further from the original, the severer; masks say exactly what changed."""
    gaps = []
    for severity in (1, 2, 3):
        image, mask = NONCOMPLIANCES[kind](chip, POINTS, severity)
        assert (image.shape, image.dtype) == (chip.shape, np.uint8)
        assert (mask is not None) == (kind in ("headgear", "glasses", "mask"))
        if mask is not None:
            assert not (image != chip).any(axis=2)[~mask].any()
        gaps.append(np.abs(image.astype(float) - chip).mean())
    assert 0.2 < gaps[0] < gaps[1] < gaps[2]


@pytest.mark.parametrize("kind", [kind for kind in NONCOMPLIANCES if kind != "JPEG"])
def test_the_same_at_another_size(chip, kind):
    double = chip.repeat(2, axis=0).repeat(2, axis=1)
    points = 2 * POINTS + 0.5
    small = NONCOMPLIANCES[kind](chip, POINTS, 2)[0].astype(float)
    large = NONCOMPLIANCES[kind](double, points, 2)[0].astype(float)
    back = large.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3))
    assert np.abs(back - small).mean() < 4


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


def test_rotation_by_a_quarter_is_exact(chip):
    np.testing.assert_array_equal(rotate_in_plane(chip, 90), np.rot90(chip))
    np.testing.assert_array_equal(rotate_in_plane(chip, 0), chip)
    grey = np.full((40, 30, 3), 200, np.uint8)
    np.testing.assert_array_equal(rotate_in_plane(grey, 33), grey)  # no black corners


def test_jpeg_gets_worse_with_lower_quality(chip):
    gaps = [np.abs(compress_jpeg(chip, q).astype(float) - chip).mean() for q in (95, 50, 5)]
    assert gaps[0] < 3
    assert gaps[0] < gaps[1] < gaps[2]
    grey = np.full((16, 16, 3), 128, np.uint8)
    np.testing.assert_array_equal(compress_jpeg(grey, 50), grey)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda chip: NONCOMPLIANCES["blur"](chip, POINTS, 0), "severity must be 1, 2 or 3"),
        (lambda chip: change_exposure(chip, np.nan), "stops"),
        (lambda chip: light_from_side(chip, POINTS, 1.2), "shade"),
        (lambda chip: compress_jpeg(chip, 0), "quality"),
        (lambda chip: rotate_in_plane(chip, np.inf), "degrees"),
        (lambda chip: rotate_in_plane(chip[..., 0], 1), "RGB"),
    ],
)
def test_what_is_refused(chip, make, message):
    with pytest.raises(ValueError, match=message):
        make(chip)
