"""The share of a face beyond the photograph is what alignment fills with black."""

import numpy as np
import pytest

from captum_plq.faces import (
    Face,
    align_face,
    cut_off_share,
    face_regions,
    landmarks_in_chip,
    points_in_photo,
    template_landmarks,
)

pytest.importorskip("dlib", reason="needs the extra [faces]")


def face_at(x, y, scale=2.0, degrees=10.0):
    turn = np.radians(degrees)
    matrix = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Face((0, 0, 1, 1), 1.0, template_landmarks("arcface", 112) @ matrix + [x, y])


@pytest.mark.parametrize("template", ["arcface", "dlib"])
@pytest.mark.parametrize(("x", "y"), [(100, 100), (-90, 60), (80, -60), (300, 150), (60, 290)])
def test_it_is_what_is_black(template, x, y):
    photo, face = np.full((500, 500, 3), 255, dtype=np.uint8), face_at(x, y)
    chip = align_face(photo, face, template=template, size=112)
    head = ~face_regions(template, 112)["background"]
    expected = (chip[head] < 128).all(axis=1).mean()
    assert cut_off_share(face, photo.shape, template=template) == pytest.approx(expected, abs=0.03)


def test_all_of_a_face_and_most_of_it():
    assert cut_off_share(face_at(100, 100), (500, 500, 3), template="arcface") == 0
    assert 0.6 < cut_off_share(face_at(-150, 100), (500, 500, 3), template="arcface") < 1


@pytest.mark.parametrize("size", [112, (112, 96)])
def test_points_come_back_to_where_they_were(size):
    face = face_at(40, 30)
    points = landmarks_in_chip(face, template="arcface", size=size)
    back = points_in_photo(points, face, template="arcface", size=size)
    np.testing.assert_allclose(back, face.landmarks, atol=1e-9)
