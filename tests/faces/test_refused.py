"""What faces and their disturbances refuse, and what is said where an extra is absent."""

import sys

import numpy as np
import pytest

from captum_plq import faces as F
from captum_plq.errors import MissingExtraError
from captum_plq.faces import detect as detect_module
from captum_plq.faces.disturb import standards as S

GREY = np.full((112, 112, 3), 128, np.uint8)
POINTS = F.template_landmarks("arcface", 112)
NONE = np.zeros((112, 112), bool)
SPOT = NONE.copy()
SPOT[50, 50] = True
FRACTIONS = np.random.default_rng(0).random((5, 2))  # of the image, not pixels


def align(image=GREY, points=POINTS, template="arcface", size=112):
    return F.align_face(image, F.Face((0, 0, 1, 1), 1.0, points), template=template, size=size)


REFUSED = [
    (r"\(H, W, 3\) and type uint8", lambda: F.detect_faces(GREY[..., 0])),
    (r"\(H, W, 3\) and type uint8", lambda: F.detect_faces(GREY[:0])),
    ("uint8", lambda: align(GREY / 255)),
    ("NumPy array, but got list", lambda: F.detect_faces([[[0, 0, 0]]])),
    ("max_side must", lambda: F.detect_faces(GREY, max_side=np.nan)),
    ("max_side must", lambda: F.detect_faces(GREY, max_side=0)),
    ("min_score must", lambda: F.detect_faces(GREY, min_score=np.nan)),
    ("template", lambda: align(template="mtcnn")),
    # far away: it gave a black chip
    ("None of the face's landmarks lies in the image", lambda: align(points=POINTS + 5000)),
    ("five finite points", lambda: align(points=np.zeros((68, 2)))),
    ("five finite points", lambda: align(points=np.full((5, 2), np.nan))),
    ("two different eyes", lambda: align(points=np.ones((5, 2)))),
    ("in pixels", lambda: align(points=FRACTIONS)),
    ("in pixels", lambda: align(points=FRACTIONS * 1e300)),
    ("size", lambda: F.template_landmarks("dlib", 1)),
    ("size", lambda: align(size=(112, 0))),
    ("size", lambda: F.resize_aligned(GREY, 10**6)),
    ("size", lambda: align(size=112.5)),
    ("size", lambda: F.template_landmarks("dlib", (np.nan, 5))),
    ("size", lambda: F.resize_aligned(GREY, (1, 2, 3))),
    ("100×112", lambda: F.resize_aligned(GREY[:, :100], (112, 112))),
    (r"shape \(112, 112\)", lambda: F.inpaint(GREY[..., 0], NONE)),
    (r"bool of the image's shape \(112, 112\)", lambda: F.inpaint(GREY, NONE[:9])),
    ("but got uint8", lambda: F.inpaint(GREY, NONE.astype(np.uint8))),
    ("'telea', 'navier-stokes' or 'biharmonic'", lambda: F.inpaint(GREY, NONE, method="learned")),
    ("at least 1 pixel", lambda: F.inpaint(GREY, NONE, radius=np.nan)),
    ("nothing is left", lambda: F.inpaint(GREY, ~NONE)),
    ("sigma must be finite and not negative", lambda: F.add_noise(GREY, -1.0)),
    ("sigma must be finite", lambda: F.blur(GREY, np.nan)),
    (r"shape \(112, 112\)", lambda: F.blur(GREY[..., 0], 1.0)),
    ("from 1 to the image's 112 rows", lambda: F.reduce_resolution(GREY, 0)),
    ("shorter side, 112", lambda: F.cover_with_block(GREY, 113)),
    ("'black' or 'mean'", lambda: F.cover_with_block(GREY, 10, fill="red")),
    ("middle must be from 0 to 1", lambda: F.cover_with_block(GREY, 10, middle=1.1)),
    ("above 0 and at most 1", lambda: F.cover_lower_part(GREY, 0.0)),
    ("side", lambda: F.cover_eye(GREY, POINTS, "middle")),
    ("over", lambda: F.square(GREY, POINTS, "chin")),
    ("size must be at least 1", lambda: F.square(GREY, POINTS, "nose", size=0)),
    ("color", lambda: F.square(GREY, POINTS, "nose", color=(0, 0, 256))),
    ("color", lambda: F.surgical_mask(GREY, POINTS, color=(0, 0))),
    ("top", lambda: F.surgical_mask(GREY, POINTS, top=-1)),
    ("transmittance", lambda: F.sunglasses(GREY, POINTS, transmittance=1.5)),
    ("uint8", lambda: F.sunglasses(GREY.astype(float), POINTS)),
    ("over", lambda: F.hand(GREY, POINTS, "nose")),
    ("give color", lambda: F.hand(GREY, POINTS + 500)),
    ("height", lambda: F.headgear(GREY, POINTS, height=3)),
    ("two different eyes", lambda: F.headgear(GREY, np.zeros((5, 2)))),
    ("severity must be 1, 2 or 3", lambda: S.NONCOMPLIANCES["blur"](GREY, POINTS, 0)),
    ("stops", lambda: S.change_exposure(GREY, np.nan)),
    ("shade", lambda: S.light_from_side(GREY, POINTS, 1.2)),
    ("quality", lambda: S.compress_jpeg(GREY, 0)),
    ("degrees", lambda: S.rotate_in_plane(GREY, np.inf)),
    ("RGB", lambda: S.rotate_in_plane(GREY[..., 0], 1)),
]


@pytest.mark.parametrize(("message", "call"), REFUSED)
def test_what_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("absent", "extra", "call"),
    [
        ("PIL", "faces", lambda: F.load_image("a.png")),
        ("dlib", "faces", lambda: F.detect_faces(GREY)),
        ("face_recognition_models", "faces", lambda: F.detect_faces(GREY)),
        ("cv2", "metrics", lambda: F.inpaint(GREY, SPOT)),
        ("skimage.restoration", "metrics", lambda: F.inpaint(GREY, SPOT, method="biharmonic")),
    ],
)
def test_without_an_extra_the_error_says_what_to_install(monkeypatch, absent, extra, call):
    detect_module._detector_and_predictor.cache_clear()
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'captum-plq\[{extra}\]'"):
        call()
