import dlib
import face_recognition_models
import numpy as np
import pytest
from PIL import Image

from captum_plq.faces import (
    Face,
    NoFaceError,
    align_face,
    detect_faces,
    landmarks_in_chip,
    resize_aligned,
)
from captum_plq.faces import align as align_module

# The published template: eye centres, tip of the nose, corners of the mouth, at 112×112.
ARCFACE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)


def complex_plane(points):
    return points[:, 0] + 1j * points[:, 1]


def similarity(source, target):
    """Least-squares turn, scale and shift as a map of complex numbers."""
    a, b = complex_plane(np.asarray(source)), complex_plane(np.asarray(target))
    factor = np.vdot(a - a.mean(), b - b.mean()) / np.vdot(a - a.mean(), a - a.mean())
    return lambda z: (z - a.mean()) * factor + b.mean()


def turned_face(scale, degrees, shift, seed=0):
    """A face whose landmarks are the template's, turned, scaled, moved and shaken a little."""
    points = complex_plane(align_module._ARCFACE_POINTS)
    points = points + complex_plane(np.random.default_rng(seed).normal(0, 1, (5, 2)))
    points = points * scale * np.exp(1j * np.radians(degrees)) + complex(*shift)
    return Face((0, 0, 1, 1), 1.0, np.stack([points.real, points.imag], axis=1))


def assert_equals_dlib(image, size):
    faces = detect_faces(image)
    path = face_recognition_models.pose_predictor_five_point_model_location()
    for face in faces:
        shape = dlib.shape_predictor(path)(image, dlib.rectangle(*face.box))
        expected = dlib.get_face_chip(image, shape, size=size, padding=0.25)
        chip = align_face(image, face, template="dlib", size=size)
        assert chip.dtype == np.uint8
        np.testing.assert_array_equal(chip, expected)


@pytest.mark.parametrize("size", [112, 150, 224])
@pytest.mark.parametrize("degrees", [0, 15, -20])
def test_dlib_template_equals_get_face_chip(astronaut, size, degrees):
    image = np.array(Image.fromarray(astronaut).rotate(degrees, Image.BICUBIC))
    assert_equals_dlib(image, size)


def test_dlib_template_equals_get_face_chip_when_shrinking(astronaut):
    assert_equals_dlib(np.array(Image.fromarray(astronaut).resize((1900, 1800))), 150)


def test_dlib_template_equals_get_face_chip_on_lfw(lfw):
    for image in lfw[:10]:
        assert_equals_dlib(image, 150)


@pytest.mark.parametrize("template", ["dlib", "arcface"])
@pytest.mark.parametrize("size", [112, 150, (112, 96), (96, 112)])
@pytest.mark.parametrize(
    ("scale", "degrees", "tolerance"),
    [(0.8, 10, 0.05), (1.4, -20, 0.05), (4.0, 15, 0.5)],  # 4: through dlib's pyramid
)
def test_a_spot_lands_where_landmarks_in_chip_says(template, size, scale, degrees, tolerance):
    face = turned_face(scale, degrees, (90 * scale, 90 * scale))
    expected = landmarks_in_chip(face, template=template, size=size)
    y, x = np.mgrid[: int(300 * scale), : int(300 * scale)]
    for (spot_x, spot_y), (chip_x, chip_y) in zip(face.landmarks, expected, strict=True):
        spot = np.exp(-((x - spot_x) ** 2 + (y - spot_y) ** 2) / (2 * (1.5 * scale) ** 2))
        image = np.repeat((255 * spot).astype(np.uint8)[..., None], 3, axis=2)
        chip = align_face(image, face, template=template, size=size)[..., 0].astype(float)
        rows, columns = np.mgrid[: chip.shape[0], : chip.shape[1]]
        found = (chip * columns).sum() / chip.sum(), (chip * rows).sum() / chip.sum()
        np.testing.assert_allclose(found, (chip_x, chip_y), atol=tolerance)


@pytest.mark.parametrize("degrees", [0, 30, -75])
def test_arcface_landmarks_are_the_least_squares_fit(degrees):
    face = turned_face(2.3, degrees, (300, 200))
    points = landmarks_in_chip(face, template="arcface", size=112)
    # dlib fits the template to the image, not the image to the template.
    to_image = similarity(align_module._ARCFACE_POINTS, face.landmarks)
    back = to_image(complex_plane(points))
    np.testing.assert_allclose(back, complex_plane(face.landmarks), atol=1e-6)
    assert 0.1 < np.abs(points - align_module._ARCFACE_POINTS).max() < 5
    double = landmarks_in_chip(face, template="arcface", size=224)
    np.testing.assert_allclose(double, 2 * points, atol=1e-6)


def test_narrow_chip_is_the_middle_of_the_square_one(astronaut):
    face = detect_faces(astronaut)[0]
    square = align_face(astronaut, face, template="arcface", size=112)
    narrow = align_face(astronaut, face, template="arcface", size=(112, 96))
    assert narrow.shape == (112, 96, 3)
    assert np.abs(narrow.astype(int) - square[:, 8:104]).max() <= 1
    points = landmarks_in_chip(face, template="arcface", size=(112, 96))
    in_square = landmarks_in_chip(face, template="arcface", size=112)
    np.testing.assert_allclose(points + np.array([8, 0]), in_square, atol=1e-6)


def test_beyond_the_image_is_black_and_the_image_stays(astronaut):
    before = astronaut.copy()
    face = detect_faces(astronaut)[0]
    moved = Face(face.box, face.score, face.landmarks - (190, 0))
    chip = align_face(astronaut, moved, template="arcface", size=112)
    assert (chip[20:90, :10] == 0).all()
    assert chip[:, 60:].mean() > 30
    np.testing.assert_array_equal(astronaut, before)


@pytest.fixture(scope="module")
def lfw_faces(lfw, to_aligned):
    """Image, face, and the face's landmarks in the aligned 112×112 crop it came from."""
    found = []
    for image in lfw:
        try:
            face = detect_faces(image)[0]
        except NoFaceError:
            continue
        found.append((image, face, to_aligned(face.landmarks)))
    assert len(found) >= 35
    return found


def test_arcface_points_are_where_dlib_puts_them_in_aligned_faces(lfw_faces):
    measured = np.median([points for _, _, points in lfw_faces], axis=0)
    assert np.abs(measured - align_module._ARCFACE_POINTS).max() < 1.2


def test_realigned_faces_land_on_the_arcface_template(lfw_faces):
    """The crops were aligned already: done anew, the published points should stay in place."""
    errors = []
    for _, face, original in lfw_faces:
        chip = landmarks_in_chip(face, template="arcface", size=112)
        landed = similarity(original, chip)(complex_plane(ARCFACE))
        errors.append(np.abs(landed - complex_plane(ARCFACE)))
    assert np.median(errors) < 2.1


def test_realigned_chips_look_like_the_originals(lfw_faces):
    distances = {"arcface": [], "dlib": []}
    for image, face, _ in lfw_faces[:15]:
        original = np.array(Image.fromarray(image).resize((168, 168), Image.BOX))[28:140, 28:140]
        for template, values in distances.items():
            chip = align_face(image, face, template=template, size=112)
            values.append(np.abs(chip.astype(float) - original).mean())
    assert np.median(distances["arcface"]) < 15 < np.median(distances["dlib"])


def test_unknown_template_and_bad_sizes_are_refused(astronaut):
    face = turned_face(1.0, 0, (100, 100))
    with pytest.raises(ValueError, match="template"):
        align_face(astronaut, face, template="mtcnn", size=112)
    for size in (0, 1, -5, (112, 0), 10**6, 112.5, (float("nan"), 5), (1, 2, 3)):
        with pytest.raises(ValueError, match="size"):
            align_face(astronaut, face, template="arcface", size=size)
        with pytest.raises(ValueError, match="size"):
            resize_aligned(astronaut, size)
    assert align_face(astronaut, face, template="arcface", size=np.int64(20)).shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.zeros((68, 2)), "five finite points"),
        (np.full((5, 2), np.nan), "five finite points"),
        (np.ones((5, 2)), "two different eyes"),
        (np.random.default_rng(0).random((5, 2)), "in pixels"),  # fractions of the image
        (np.random.default_rng(0).random((5, 2)) * 1e300, "in pixels"),
    ],
)
def test_bad_landmarks_are_refused(astronaut, landmarks, message):
    face = Face((0, 0, 1, 1), 1.0, landmarks)
    with pytest.raises(ValueError, match=message):
        align_face(astronaut, face, template="arcface", size=112)
    with pytest.raises(ValueError, match=message):
        landmarks_in_chip(face, template="dlib", size=150)


def test_landmarks_of_another_image_are_refused(astronaut):
    """They gave a black chip."""
    with pytest.raises(ValueError, match="None of the face's landmarks lies in the image"):
        align_face(astronaut, turned_face(1.0, 0, (5000, 100)), template="dlib", size=150)


def test_bad_image_is_refused(astronaut):
    face = turned_face(1.0, 0, (100, 100))
    with pytest.raises(ValueError, match="uint8"):
        align_face(astronaut / 255, face, template="arcface", size=112)


def test_an_aligned_image_is_resized_only_if_it_must_be(astronaut):
    chip = astronaut[:112, :112]
    np.testing.assert_array_equal(resize_aligned(chip, (112, 112)), chip)
    larger = resize_aligned(chip, (150, 150))
    assert larger.shape == (150, 150, 3)
    back = resize_aligned(larger, (112, 112)).astype(float)
    assert np.abs(back - chip).mean() < 2.0


@pytest.mark.parametrize("shape", [(112, 100), (100, 112), (224, 112)])
def test_an_aligned_image_of_other_proportions_is_refused(astronaut, shape):
    with pytest.raises(ValueError, match=f"{shape[1]}×{shape[0]}"):
        resize_aligned(astronaut[: shape[0], : shape[1]], (112, 112))
