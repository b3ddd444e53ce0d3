import subprocess
import sys

import dlib
import face_recognition_models
import numpy as np
import pytest
from PIL import Image

from captum_plq.faces import Face, NoFaceError, detect_faces
from captum_plq.faces import detect as detect_module

# Read off the photograph by eye: pupils (left and right as seen) and base of the nose.
LEFT_PUPIL, RIGHT_PUPIL, NOSE_BASE = (204.0, 101.0), (246.5, 103.1), (224.0, 134.0)


def resized(image, side):
    return np.array(Image.fromarray(image).resize((side, side), Image.LANCZOS))


def assert_is_the_astronaut(face, side=512, tolerance=3.0):
    """The face found in a copy of the given side, against what the eye reads off the original."""
    points = face.landmarks * 512 / side
    middles = np.stack([points[2:4].mean(axis=0), points[0:2].mean(axis=0), points[4]])
    assert np.abs(middles - [LEFT_PUPIL, RIGHT_PUPIL, NOSE_BASE]).max() < tolerance
    assert points[2, 0] < points[3, 0] < points[4, 0] < points[1, 0] < points[0, 0]
    left, top, right, bottom = (edge * 512 / side for edge in face.box)
    assert 70 < right - left < 110
    assert left < LEFT_PUPIL[0] < RIGHT_PUPIL[0] < right
    assert top < LEFT_PUPIL[1] < NOSE_BASE[1] < bottom


def test_it_is_what_dlib_says(astronaut):
    face = detect_faces(astronaut)[0]
    assert_is_the_astronaut(face)
    (rectangle, *_), scores, _ = dlib.get_frontal_face_detector().run(astronaut, 0, 0.0)
    assert face.score == scores[0]
    assert face.box == (rectangle.left(), rectangle.top(), rectangle.right(), rectangle.bottom())
    path = face_recognition_models.pose_predictor_five_point_model_location()
    shape = dlib.shape_predictor(path)(astronaut, rectangle)
    assert face.landmarks.tolist() == [[point.x, point.y] for point in shape.parts()]


def test_false_detections_score_far_lower_and_min_score_is_obeyed(astronaut):
    best, *others = detect_faces(astronaut, min_score=-0.5)
    assert_is_the_astronaut(best)
    scores = [face.score for face in others]
    assert scores == sorted(scores, reverse=True)
    assert -0.5 < scores[-1] <= scores[0] < 0.3 < best.score - 1
    with pytest.raises(NoFaceError):
        detect_faces(astronaut, min_score=2.5)


@pytest.mark.parametrize("side", [192, 1024, 2400])
def test_found_at_every_size(astronaut, side):
    """192: only when magnified; 2400: in a copy scaled down."""
    assert_is_the_astronaut(detect_faces(resized(astronaut, side))[0], side)


def test_landmarks_are_sought_in_the_image_itself(astronaut):
    face = detect_faces(resized(astronaut, 2400), max_side=512)[0]
    assert_is_the_astronaut(face, 2400)
    # Had they been found in the copy, they would lie on a grid of 2400 / 512 pixels.
    offsets = (face.landmarks * 512 / 2400) % 1
    assert np.minimum(offsets, 1 - offsets).max() > 0.2


def test_a_wide_image_and_a_view_are_taken_and_left_as_they_are(astronaut):
    wide = np.concatenate([np.full((512, 1600, 3), 128, np.uint8), astronaut], axis=1)
    face = detect_faces(wide)[0]
    box = tuple(np.subtract(face.box, (1600, 0, 1600, 0)))
    assert_is_the_astronaut(Face(box, face.score, face.landmarks - (1600, 0)))
    mirrored = detect_faces(astronaut[:, ::-1])[0]  # of an image that is read-only
    assert abs(511 - mirrored.landmarks[4, 0] - NOSE_BASE[0]) < 3


def test_the_detector_sees_at_most_twice_max_side(astronaut):
    with pytest.raises(NoFaceError):  # at 256 px the face is 43 px wide, at 512 px 87
        detect_faces(astronaut, max_side=128)
    assert_is_the_astronaut(detect_faces(astronaut, max_side=256)[0])


@pytest.mark.parametrize("shape", [(1, 1), (3000, 2), (480, 640)])
def test_no_face(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    with pytest.raises(NoFaceError, match=rf"{shape[1]}×{shape[0]}.*upright.*aligned"):
        detect_faces(image)


def test_importing_the_folder_imports_nothing_heavy():
    code = (
        "import sys, captum_plq\n"
        "for name in ('PIL', 'dlib', 'face_recognition_models', 'pkg_resources'):\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] == name]:\n"
        "        del sys.modules[loaded]\n"
        "    sys.modules[name] = None\n"
        "import captum_plq.faces as faces\n"
        "assert all(hasattr(faces, name) for name in faces.__all__)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_detection_imports_neither_the_model_package_nor_pkg_resources(astronaut, monkeypatch):
    monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    detect_module._detector_and_predictor.cache_clear()
    detect_faces(astronaut)
    assert "face_recognition_models" not in sys.modules
