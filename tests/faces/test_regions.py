"""Regions of an aligned face: a partition that follows the landmarks."""

import numpy as np
import pytest

from captum_plq.faces import REGION_WORDS, REGIONS, face_regions, template_landmarks

SIZES = [112, (112, 96), 160, 32]
LEANING = template_landmarks("arcface", 112) + np.array(
    [(-3, 1), (-3, 0), (-2, -4), (-2, -3), (9, 5)]
)


@pytest.mark.parametrize("template", ["arcface", "dlib"])
@pytest.mark.parametrize("size", SIZES)
def test_each_pixel_belongs_to_one_region_and_none_is_empty(template, size):
    regions = face_regions(template, size)
    assert tuple(regions) == REGIONS == tuple(REGION_WORDS)
    count = np.sum(list(regions.values()), axis=0)
    assert count.shape == (size if isinstance(size, tuple) else (size, size))
    assert (count == 1).all()
    assert all(region.any() for region in regions.values())


def test_what_lies_where():
    regions = face_regions("arcface", 112)
    for name, (x, y) in {
        "left_eye": (73, 52),  # the left of the person is the right of the picture
        "right_eye": (38, 52),
        "nose": (56, 72),
        "mouth": (56, 92),
        "left_cheek": (85, 75),
        "right_cheek": (26, 75),
        "forehead": (56, 15),
        "chin": (56, 110),
        "background": (1, 111),
    }.items():
        assert regions[name][y, x], name


@pytest.mark.parametrize("landmarks", [None, LEANING])
def test_mirrored_landmarks_give_mirrored_regions(landmarks):
    points = template_landmarks("arcface", 112) if landmarks is None else landmarks
    mirrored = ([111, 0] + np.array([-1, 1]) * points)[[2, 3, 0, 1, 4]]
    regions = face_regions("arcface", 112, points)
    for name, region in face_regions("arcface", 112, mirrored).items():
        side, _, part = name.partition("_")
        other = {"left": f"right_{part}", "right": f"left_{part}"}.get(side, name)
        assert (region[:, ::-1] != regions[other]).sum() <= 2, name  # rounding at an edge


def test_regions_turn_with_the_face():
    points = template_landmarks("arcface", 112)
    upside_down = face_regions("arcface", 112, 111 - points)
    for name, region in face_regions("arcface", 112).items():
        assert (region[::-1, ::-1] != upside_down[name]).sum() <= 2, name


def test_landmarks_that_span_no_face_are_refused():
    points = template_landmarks("arcface", 112)
    points[4] = points[:4].mean(axis=0)
    with pytest.raises(ValueError, match="apart from the line between the eyes"):
        face_regions("arcface", 112, points)
    with pytest.raises(ValueError, match="template must be"):
        face_regions("ffhq", 112)
