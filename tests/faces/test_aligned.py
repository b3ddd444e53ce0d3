"""The way from a photograph to aligned faces that explanations and galleries share."""

import numpy as np
import pytest

pytest.importorskip("dlib", reason="needs the extra [faces]")
data = pytest.importorskip("skimage.data", reason="needs scikit-image")

from captum_plq.faces import (  # noqa: E402
    AlignedFace,
    Face,
    NoFaceError,
    align_face,
    aligned_faces,
    cut_off_share,
    detect_faces,
    template_landmarks,
)

TWO = np.concatenate([data.astronaut() // 3, data.astronaut()[:, :256]], axis=1)
HOW = {"template": "arcface", "size": (112, 112)}


def test_the_surest_face_or_all_as_the_parts_give_them():
    detected = detect_faces(TWO)
    for all_faces, count in ((False, 1), (True, len(detected))):
        found = aligned_faces(TWO, **HOW, all_faces=all_faces)
        assert [one.number for one in found] == list(range(1, count + 1))
        for one, face in zip(found, detected, strict=False):
            np.testing.assert_array_equal(one.chip, align_face(TWO, face, **HOW))
            assert one.face.box == face.box
            assert len(one.detected) == len(detected)
            assert one.cut_off == cut_off_share(face, TWO.shape, template="arcface")
    assert found[0].warnings() == []
    assert "face 2 is cut off by the photo's edge (" in found[1].warnings()[0]


def test_an_aligned_crop_is_resized_only():
    (found,) = aligned_faces(np.zeros((56, 56, 3), np.uint8), **HOW, aligned=True)
    assert found.chip.shape == (112, 112, 3)
    assert (found.face, found.warnings()) == (None, [])


def test_one_face_that_cannot_be_cut_out_does_not_cost_the_others(monkeypatch):
    good = detect_faces(TWO)[0]
    outside = Face((0, 0, 9, 9), 0.1, template_landmarks("arcface", 112) + 9_000)
    monkeypatch.setattr("captum_plq.faces.aligned.detect_faces", lambda image: [outside, good])
    bad, fine = aligned_faces(TWO, **HOW, all_faces=True)
    assert bad.chip is None
    assert "None of the face's landmarks" in bad.problem
    assert fine.chip.shape == (112, 112, 3)
    with pytest.raises(ValueError, match="None of the face's landmarks"):
        aligned_faces(TWO, **HOW)
    monkeypatch.undo()
    with pytest.raises(NoFaceError):
        aligned_faces(np.zeros((100, 100, 3), np.uint8), **HOW)


def test_weak_detections_are_told():
    weak = Face((0, 0, 9, 9), 0.2, template_landmarks("arcface", 112))
    assert "weak detection (score 0.20)" in AlignedFace(None, 1, [weak]).warnings()[0]
