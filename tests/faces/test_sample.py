"""The face in the package is what detection and alignment make of NASA's portrait."""

import numpy as np
import pytest

from captum_plq.faces import align_face, detect_faces, landmarks_in_chip, sample_face


def test_it_is_an_aligned_face_of_its_own():
    chip, landmarks = sample_face()
    assert chip.shape == (112, 112, 3)
    assert chip.dtype == np.uint8
    assert landmarks.shape == (5, 2)
    chip[:] = 0
    landmarks[:] = 0
    assert sample_face().chip.any()
    assert sample_face().landmarks.all()


def test_it_is_what_detection_and_alignment_find(astronaut):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    face = detect_faces(astronaut)[0]
    chip, landmarks = sample_face()
    aligned = align_face(astronaut, face, template="arcface", size=112)
    np.testing.assert_array_equal(chip, aligned)
    found = landmarks_in_chip(face, template="arcface", size=112)
    np.testing.assert_allclose(landmarks, found, atol=0.01)
