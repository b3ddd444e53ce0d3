"""Measures of the whole image: by hand on planted images, and on damaged faces."""

import math

import numpy as np
import pytest

from captum_plq.faces import (
    blur,
    face_regions,
    reduce_resolution,
    sample_face,
    surgical_mask,
    template_landmarks,
)
from captum_plq.faces.disturb.standards import change_exposure, light_from_side
from captum_plq.feedback import measure_image

pytest.importorskip("PIL.Image", reason="needs the extra [faces]")


def grey(value):
    return np.full((112, 112, 3), value, dtype=np.uint8)


def test_light_of_planted_images():
    dark = measure_image(grey(25), "arcface")
    assert (dark.under_exposure, dark.over_exposure) == (1, 0)
    assert dark.luminance_mean == pytest.approx(25 / 255)
    assert (dark.dynamic_range, dark.luminance_variance) == (0, pytest.approx(0, abs=1e-12))
    light = measure_image(grey(247), "arcface")
    assert (light.under_exposure, light.over_exposure) == (0, 1)
    between = measure_image(grey(26), "arcface")
    assert (between.under_exposure, measure_image(grey(246), "arcface").over_exposure) == (0, 0)


def test_only_the_face_is_looked_at():
    chip = grey(100)
    regions = face_regions("arcface", 112)
    chip[regions["forehead"] | regions["background"]] = 255
    assert measure_image(chip, "arcface").over_exposure == 0


def test_two_levels_are_one_bit_and_cheeks_that_differ_do_not_overlap():
    chip = grey(0)
    chip[:, ::2] = 200
    found = measure_image(chip, "arcface")
    assert found.dynamic_range == pytest.approx(1, abs=0.01)
    assert found.illumination_uniformity > 0.95
    half = grey(40)
    half[:, 56:] = 200
    assert measure_image(half, "arcface").illumination_uniformity == 0


def test_damage_moves_its_own_measure():
    chip = sample_face().chip
    clean = measure_image(chip, "arcface")
    for worse in (blur(chip, 2.0), reduce_resolution(chip, 24)):
        assert measure_image(worse, "arcface").sharpness < 0.5 * clean.sharpness
    darker = measure_image(change_exposure(chip, -3), "arcface")
    assert darker.luminance_mean < 0.5 * clean.luminance_mean
    assert darker.sharpness == pytest.approx(clean.sharpness, rel=0.4)
    masked = surgical_mask(chip, template_landmarks("arcface", 112)).image
    assert measure_image(masked, "arcface").sharpness >= clean.sharpness
    side = light_from_side(chip, template_landmarks("arcface", 112), 0.9)
    assert measure_image(side, "arcface").illumination_uniformity < clean.illumination_uniformity
    assert measure_image(change_exposure(chip, 3), "arcface").over_exposure > 0.3


def test_where_the_face_lies_in_its_photo():
    chip = sample_face().chip
    assert measure_image(chip, "arcface")[-3:] == (None, None, None)
    points = template_landmarks("arcface", 112)
    level = measure_image(chip, "arcface", points)
    eyes = points[:2].mean(0), points[2:4].mean(0)
    assert level.inter_eye_distance == pytest.approx(math.dist(*eyes))
    angle = math.radians(30)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = measure_image(chip, "arcface", 2 * points @ turn)
    assert turned.inter_eye_distance == pytest.approx(2 * level.inter_eye_distance)
    assert turned.head_roll - level.head_roll == pytest.approx(30)
    assert turned.head_turn == pytest.approx(level.head_turn)
    aside = points + np.array([[0, 0]] * 4 + [[10, 0]])
    moved = measure_image(chip, "arcface", aside).head_turn - level.head_turn
    assert moved == pytest.approx(10 / level.inter_eye_distance, rel=0.01)


def test_refuses():
    with pytest.raises(ValueError, match="uint8"):
        measure_image(np.zeros((112, 112, 3)), "arcface")
    with pytest.raises(ValueError, match="too small to be measured"):
        measure_image(np.zeros((4, 4, 3), np.uint8), "arcface")
