import dlib
import face_recognition_models
import numpy as np
import pytest
from PIL import Image

from captum_plq import faces

# The published template: eye centres, tip of the nose, corners of the mouth, at 112×112.
ARCFACE = [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j]
ARCFACE = np.array([*ARCFACE, 70.7299 + 92.2041j])
TEMPLATE = faces.template_landmarks("arcface", 112)


def complex_plane(points):
    return points[:, 0] + 1j * points[:, 1]


def similarity(source, target):
    """Least-squares turn, scale and shift as a map of complex numbers."""
    a, b = complex_plane(np.asarray(source)), complex_plane(np.asarray(target))
    factor = np.vdot(a - a.mean(), b - b.mean()) / np.vdot(a - a.mean(), a - a.mean())
    return lambda z: (z - a.mean()) * factor + b.mean()


def turned_face(scale, degrees, shift):
    """A face whose landmarks are the template's, turned, scaled, moved and shaken a little."""
    points = complex_plane(TEMPLATE + np.random.default_rng(0).normal(0, 1, (5, 2)))
    points = points * scale * np.exp(1j * np.radians(degrees)) + complex(*shift)
    return faces.Face((0, 0, 1, 1), 1.0, np.stack([points.real, points.imag], axis=1))


@pytest.mark.parametrize(
    ("side", "degrees", "size"), [(512, 0, 112), (512, -20, 224), (512, 15, 150), (1900, 0, 150)]
)
def test_dlib_template_equals_get_face_chip(astronaut, side, degrees, size):
    image = Image.fromarray(astronaut).resize((side, side)).rotate(degrees, Image.BICUBIC)
    image = np.array(image)
    path = face_recognition_models.pose_predictor_five_point_model_location()
    for face in faces.detect_faces(image):
        shape = dlib.shape_predictor(path)(image, dlib.rectangle(*face.box))
        expected = dlib.get_face_chip(image, shape, size=size, padding=0.25)
        chip = faces.align_face(image, face, template="dlib", size=size)
        np.testing.assert_array_equal(chip, expected)


@pytest.mark.parametrize(
    ("template", "size"), [("dlib", 150), ("arcface", 112), ("arcface", (112, 96))]
)
@pytest.mark.parametrize(
    ("scale", "degrees", "tolerance"),
    [(0.8, 10, 0.05), (1.4, -20, 0.05), (4.0, 15, 0.5)],  # 4: through dlib's pyramid
)
def test_a_spot_lands_where_landmarks_in_chip_says(template, size, scale, degrees, tolerance):
    face = turned_face(scale, degrees, (90 * scale, 90 * scale))
    expected = faces.landmarks_in_chip(face, template=template, size=size)
    y, x = np.mgrid[: int(300 * scale), : int(300 * scale)]
    for (spot_x, spot_y), (chip_x, chip_y) in zip(face.landmarks, expected, strict=True):
        spot = np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / (2 * (1.5 * scale) ** 2))
        image = np.repeat((255 * spot).astype(np.uint8)[..., None], 3, axis=2)
        chip = faces.align_face(image, face, template=template, size=size)[..., 0].astype(float)
        rows, columns = np.mgrid[: chip.shape[0], : chip.shape[1]]
        found = (chip * columns).sum() / chip.sum(), (chip * rows).sum() / chip.sum()
        np.testing.assert_allclose(found, (chip_x, chip_y), atol=tolerance)


@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_arcface_landmarks_are_the_least_squares_fit_of_the_template(degrees):
    face = turned_face(2.3, degrees, (300, 200))
    points = faces.landmarks_in_chip(face, template="arcface", size=112)
    # dlib fits the template to the image, not the image to the template.
    back = similarity(TEMPLATE, face.landmarks)(complex_plane(points))
    np.testing.assert_allclose(back, complex_plane(face.landmarks), atol=1e-6)
    assert 0.1 < np.abs(points - TEMPLATE).max() < 5
    double = faces.landmarks_in_chip(face, template="arcface", size=224)
    np.testing.assert_allclose(double, 2 * points, atol=1e-6)


def test_a_narrow_chip_is_the_middle_of_the_square_one_and_black_beyond_the_image(astronaut):
    face = faces.detect_faces(astronaut)[0]
    square = faces.align_face(astronaut, face, template="arcface", size=112)
    narrow = faces.align_face(astronaut, face, template="arcface", size=(112, np.int64(96)))
    assert np.abs(narrow.astype(int) - square[:, 8:104]).max() <= 1
    moved = faces.Face(face.box, face.score, face.landmarks - (190, 0))
    chip = faces.align_face(astronaut, moved, template="arcface", size=112)
    assert (chip[20:90, :10] == 0).all()
    assert chip[:, 60:].mean() > 30


def test_dlib_landmarks_in_aligned_faces_are_the_templates(lfw, to_aligned, astronaut):
    """The crops of LFW are aligned: done anew, the published points should stay in place."""
    detected = [faces.detect_faces(image)[0] for image in lfw]
    originals = [to_aligned(face.landmarks) for face in detected]
    assert np.abs(np.median(originals, axis=0) - TEMPLATE).max() < 1.2
    errors = []
    for face, original in zip(detected, originals, strict=True):
        chip = faces.landmarks_in_chip(face, template="arcface", size=112)
        errors.append(np.abs(similarity(original, chip)(ARCFACE) - ARCFACE))
    assert np.median(errors) < 2.1
    found = faces.landmarks_in_chip(faces.detect_faces(astronaut)[0], template="dlib", size=150)
    np.testing.assert_allclose(faces.template_landmarks("dlib", 150), found, atol=3.0)


def test_an_aligned_image_is_resized_only_if_it_must_be(astronaut):
    chip = astronaut[:112, :112]
    np.testing.assert_array_equal(faces.resize_aligned(chip, (112, 112)), chip)
    larger = faces.resize_aligned(chip, (150, 150))
    assert larger.shape == (150, 150, 3)
    back = faces.resize_aligned(larger, (112, 112)).astype(float)
    assert np.abs(back - chip).mean() < 2.0
