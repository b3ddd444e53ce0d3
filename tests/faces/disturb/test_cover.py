import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from captum_plq.faces import (
    align_face,
    blur,
    cover_eye,
    detect_faces,
    landmarks_in_chip,
    surgical_mask,
)

# An upright, symmetrical face at 112×112: eye corners (right, then left) and base of the nose.
POINTS = np.array([(79.5, 53.0), (65.5, 53.0), (31.5, 53.0), (45.5, 53.0), (55.5, 79.0)])
LEFT_EYE, RIGHT_EYE = (38.5, 53.0), (72.5, 53.0)
GREY = np.full((112, 112, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def noise():
    image = np.random.default_rng(0).integers(60, 200, (112, 112, 3), dtype=np.uint8)
    image.flags.writeable = False
    return image


@pytest.mark.parametrize(
    "disturb",
    [
        lambda chip: cover_eye(chip, POINTS, "left"),
        lambda chip: cover_eye(chip, POINTS, "right", size=31, color=(255, 0, 0)),
        lambda chip: surgical_mask(chip, POINTS),
        lambda chip: surgical_mask(chip, POINTS, color=(0, 0, 0)),
    ],
)
def test_exactly_the_masked_pixels_change(noise, disturb):
    before = noise.copy()
    image, mask = disturb(noise)
    np.testing.assert_array_equal(noise, before)
    assert image.shape == noise.shape
    assert image.dtype == np.uint8
    assert mask.shape == noise.shape[:2]
    assert mask.dtype == np.bool_
    changed = (image != noise).any(axis=2)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.98  # the rest had that colour, or is barely touched
    assert not np.shares_memory(image, noise)


@pytest.mark.parametrize(
    ("side", "covered", "free"), [("left", LEFT_EYE, RIGHT_EYE), ("right", RIGHT_EYE, LEFT_EYE)]
)
def test_the_named_eye_is_covered(side, covered, free):
    image, mask = cover_eye(GREY, POINTS, side, color=(1, 2, 3))
    assert (image[mask] == (1, 2, 3)).all()
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 24 * 24  # 0.7 of 34 px
    assert np.ptp(rows) == np.ptp(columns) == 23
    np.testing.assert_allclose((columns.mean(), rows.mean()), covered, atol=0.5)
    assert mask[53, int(covered[0]) - 7 : int(covered[0]) + 8].all()  # from corner to corner
    assert not mask[53, int(free[0]) - 7 : int(free[0]) + 8].any()


@pytest.mark.parametrize("size", [1, 2, 25, 40])
def test_size_of_the_square(size):
    _, mask = cover_eye(GREY, POINTS, "left", size=size)
    assert mask.sum() == size**2


def test_square_is_cut_off_at_the_border():
    image, mask = cover_eye(GREY, POINTS - (38.5, 53.0), "left", size=21)
    assert mask.sum() == 11 * 11
    assert mask[:11, :11].all()
    image, mask = cover_eye(GREY, POINTS - (300, 0), "left")
    assert not mask.any()
    np.testing.assert_array_equal(image, GREY)


def test_surgical_mask_covers_nose_mouth_and_chin_but_no_eyes():
    image, mask = surgical_mask(GREY, POINTS, color=(10, 200, 30))
    # ArcFace's tip of the nose and corners of the mouth, and the chin at the crop's lower edge.
    for x, y in [(56, 72), (42, 92), (71, 92), (56, 111), (30, 85), (82, 85)]:
        assert (image[y, x] == (10, 200, 30)).all()
    for x, y in [(38, 53), (73, 53), (56, 53), (32, 58), (80, 58), (10, 90), (102, 90)]:
        assert not mask[y, x]
    top = np.argmax(mask, axis=0)
    assert 58 < top[56] < 70  # on the bridge of the nose
    assert top[30] > top[56] + 5  # lower on the cheeks
    assert mask[80].sum() > mask[105].sum() > 20  # narrower towards the chin


def test_surgical_mask_of_a_symmetrical_face_is_symmetrical():
    _, mask = surgical_mask(GREY, POINTS)
    about_the_nose = mask[:, :112][:, ::-1]  # x → 111 − x, and the nose is at 55.5
    assert (mask != about_the_nose).mean() < 0.005


def test_surgical_mask_turns_with_the_face():
    _, mask = surgical_mask(GREY, POINTS)
    turned = np.stack([111 - POINTS[:, 1], POINTS[:, 0]], axis=1)  # a quarter, clockwise
    _, turned_mask = surgical_mask(GREY, turned)
    assert (np.rot90(mask, -1) != turned_mask).mean() < 0.005


def test_surgical_mask_grows_with_the_chip():
    _, mask = surgical_mask(GREY, POINTS)
    _, double = surgical_mask(np.zeros((224, 224, 3), np.uint8), 2 * POINTS + 0.5)
    assert abs(double.mean() - mask.mean()) < 0.01


def test_surgical_mask_leans_with_a_turned_head():
    def chin(points):
        _, mask = surgical_mask(np.zeros((160, 112, 3), np.uint8), points)
        return np.nonzero(mask[np.nonzero(mask.any(axis=1))[0][-3]])[0].mean()

    assert chin(POINTS + np.array([[0, 0]] * 4 + [[8, 0]])) > chin(POINTS) + 2


def test_border_of_the_surgical_mask_is_antialiased():
    image, mask = surgical_mask(np.zeros_like(GREY), POINTS, color=(255, 255, 255))
    between = (image[..., 0] > 0) & (image[..., 0] < 255)
    assert 50 < between.sum() < 400
    assert mask[between].all()
    assert (image[mask & ~between] == 255).all()


@pytest.mark.parametrize(("template", "size"), [("arcface", 112), ("dlib", 150)])
def test_on_a_photograph(astronaut, template, size):
    face = detect_faces(astronaut)[0]
    chip = align_face(astronaut, face, template=template, size=size)
    points = landmarks_in_chip(face, template=template, size=size)
    x, y = np.rint(points).astype(int).T
    mask = surgical_mask(chip, points).mask
    assert mask[y, x].tolist() == [False, False, False, False, True]
    assert 0.15 < mask.mean() < 0.4
    assert cover_eye(chip, points, "right").mask[y, x].tolist() == [True, True] + [False] * 3
    assert cover_eye(chip, points, "left").mask[y, x].tolist() == [False] * 2 + [True] * 2 + [False]


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0, 6.0])
def test_blur_is_gaussian(astronaut, sigma):
    inside = np.s_[24:-24, 24:-24]
    blurred = blur(astronaut, sigma)[inside]

    def distance(other_sigma):
        exact = gaussian_filter(astronaut.astype(float), (other_sigma, other_sigma, 0))[inside]
        return np.abs(blurred - exact)

    assert distance(sigma).mean() < 0.8
    assert np.percentile(distance(sigma), 99.9) < 5
    assert distance(1.1 * sigma).mean() > 1.3 * distance(sigma).mean()
    assert distance(0.9 * sigma).mean() > 1.3 * distance(sigma).mean()


def test_blur_leaves_its_input(noise):
    before = noise.copy()
    np.testing.assert_array_equal(blur(noise, 0), noise)
    assert not np.shares_memory(blur(noise, 0), noise)
    assert blur(noise, 3).std() < 0.3 * noise.std()
    np.testing.assert_array_equal(noise, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cover_eye(GREY, POINTS, "middle"), "side"),
        (lambda: cover_eye(GREY, POINTS, "left", size=0), "size"),
        (lambda: cover_eye(GREY, POINTS, "left", color=(0, 0, 256)), "color"),
        (lambda: surgical_mask(GREY, POINTS, color=(0, 0)), "color"),
        (lambda: surgical_mask(GREY, POINTS[:4]), "landmarks"),
        (lambda: surgical_mask(GREY / 255, POINTS), "uint8"),
        (lambda: blur(GREY[..., 0], 1.0), r"\(H, W, 3\)"),
        (lambda: blur(GREY, -1.0), "sigma"),
        (lambda: blur(GREY, float("nan")), "sigma"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
