import numpy as np
import pytest

from captum_plq.faces import (
    cover_eye,
    detect_faces,
    hand,
    headgear,
    landmarks_in_chip,
    sample_face,
    square,
    sunglasses,
    surgical_mask,
    template_landmarks,
)

# An upright, symmetrical face at 112×112: eye corners (right, then left) and base of the nose.
# The eyes are 34 px apart, at (38.5, 53) and (72.5, 53); from them to the nose it is 26 px.
POINTS = np.array([(79.5, 53.0), (65.5, 53.0), (31.5, 53.0), (45.5, 53.0), (55.5, 79.0)])
GREY = np.full((112, 112, 3), 90, np.uint8)
LEFT_EYE, RIGHT_EYE, MOUTH = (38, 53), (72, 53), (56, 92)

OCCLUDERS = {
    "square": lambda chip, points: square(chip, points, "nose"),
    "sunglasses": sunglasses,
    "frame": lambda chip, points: sunglasses(chip, points, transmittance=1.0),
    "mask": lambda chip, points: surgical_mask(chip, points, top=1.1),
    "hand": lambda chip, points: hand(chip, points, "left cheek", color=(0, 120, 250)),
    "headgear": headgear,
}


@pytest.fixture(scope="module")
def noise():
    image = np.random.default_rng(0).integers(60, 200, (112, 112, 3), dtype=np.uint8)
    image.flags.writeable = False
    return image


def holds(mask, *places):
    return [bool(mask[y, x]) for x, y in places]


@pytest.mark.parametrize("name", [name for name in OCCLUDERS if name != "frame"])
def test_exactly_the_masked_pixels_change(noise, name):
    image, mask = OCCLUDERS[name](noise, POINTS)
    assert (image.shape, image.dtype) == (noise.shape, np.uint8)
    assert (mask.shape, mask.dtype) == (noise.shape[:2], np.bool_)
    changed = (image != noise).any(axis=2)
    assert not changed[~mask].any()
    assert changed[mask].mean() > 0.98
    assert not np.shares_memory(image, noise)


@pytest.mark.parametrize("name", OCCLUDERS)
def test_all_turn_with_the_face(name):
    if name == "square":
        pytest.skip("its sides are along the picture's")
    _, mask = OCCLUDERS[name](GREY, POINTS)
    turned = np.stack([111 - POINTS[:, 1], POINTS[:, 0]], axis=1)  # a quarter, clockwise
    _, turned_mask = OCCLUDERS[name](GREY, turned)
    assert (np.rot90(mask, -1) != turned_mask).mean() < 0.01


@pytest.mark.parametrize("name", OCCLUDERS)
def test_all_grow_with_the_chip(name):
    _, mask = OCCLUDERS[name](GREY, POINTS)
    _, double = OCCLUDERS[name](np.zeros((224, 224, 3), np.uint8), 2 * POINTS + 0.5)
    assert mask.mean() > 0.01
    assert abs(double.mean() - mask.mean()) < 0.015


@pytest.mark.parametrize(
    ("over", "x", "y"),
    [
        ("left eye", 38.5, 53.0),
        ("nose", 55.5, 53 + 0.70 * 26),
        ("mouth", 55.5, 53 + 1.49 * 26),
        ("right cheek", 55.5 + 0.62 * 34, 53 + 0.95 * 26),
        ("forehead", 55.5, 27.0),
    ],
)
def test_square_lies_on_the_named_part(over, x, y):
    image, mask = square(GREY, POINTS, over, color=(1, 2, 3))
    assert (image[mask] == (1, 2, 3)).all()
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 24 * 24  # 0.7 of 34 px
    np.testing.assert_allclose((columns.mean(), rows.mean()), (x, y), atol=0.5)


def test_square_over_an_eye_is_that_of_cover_eye():
    for side in ("left", "right"):
        mine, theirs = square(GREY, POINTS, f"{side} eye"), cover_eye(GREY, POINTS, side)
        np.testing.assert_array_equal(mine.image, theirs.image)
        np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_sunglasses_cover_both_eyes_and_nothing_below():
    image, mask = sunglasses(GREY, POINTS)
    assert holds(mask, LEFT_EYE, RIGHT_EYE, (56, 48)) == [True] * 3  # the last is the bridge
    assert holds(mask, (56, 72), MOUTH, (56, 30), (38, 72)) == [False] * 4
    assert (image[53, 38] == (18, 18, 20)).all()
    assert (mask != mask[:, :112][:, ::-1]).mean() < 0.005


def test_lenses_let_light_through_by_its_amount_not_by_the_pixel_value():
    # A grey of 188 is half the light of white in sRGB: half of that again is 137.
    white = np.full_like(GREY, 255)
    assert abs(int(sunglasses(white, POINTS, transmittance=0.5, color=(0, 0, 0))[0][53, 38, 0])
               - 188) <= 1  # fmt: skip
    clear, mask = sunglasses(white, POINTS, transmittance=1.0)
    assert (clear[53, 38] == 255).all()
    assert mask[53, 38]
    assert (clear[mask] < 255).any()


@pytest.mark.parametrize(
    ("over", "covered", "free"),
    [
        ("mouth", MOUTH, [LEFT_EYE, RIGHT_EYE]),
        ("left cheek", (34, 78), [RIGHT_EYE, (90, 78)]),
        ("right cheek", (77, 78), [LEFT_EYE, (22, 78)]),
    ],
)
@pytest.mark.parametrize("seed", range(6))
def test_hand_lies_over_the_named_part(over, covered, free, seed):
    _, mask = hand(GREY, POINTS, over, seed=seed)
    x, y = covered
    assert mask[y - 5 : y + 6, x - 5 : x + 6].mean() > 0.6  # the rest is between two fingers
    assert holds(mask, *free) == [False] * len(free)


def test_hand_takes_the_colour_of_the_face_and_follows_its_seed():
    face = np.full_like(GREY, (210, 160, 130))
    image, mask = hand(face, POINTS, color=None)
    assert image[mask].max(axis=0).tolist() == [210, 160, 130]  # at most as bright as the skin
    assert image[mask].min(axis=0)[0] < 190  # darker at its edges
    again, other = hand(face, POINTS, seed=0), hand(face, POINTS, seed=1)
    np.testing.assert_array_equal(again.mask, mask)
    assert (other.mask != mask).any()


def test_hand_draws_nothing_from_the_global_random_state():
    before = np.random.get_state()[1].copy()
    hand(GREY, POINTS, seed=5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_headgear_covers_the_forehead_above_its_edge():
    _, mask = headgear(GREY, POINTS, height=0.8)
    column = np.nonzero(mask[:, 56])[0]
    np.testing.assert_allclose(column.max(), 53 - 0.8 * 26, atol=1)
    assert column.min() == 0
    assert holds(mask, LEFT_EYE, RIGHT_EYE, MOUTH) == [False] * 3
    assert headgear(GREY, POINTS, height=1.4).mask.sum() < mask.sum()


def test_a_surgical_mask_that_hangs_low_frees_the_nose():
    _, high = surgical_mask(GREY, POINTS)
    _, low = surgical_mask(GREY, POINTS, top=1.1)
    assert holds(high, (56, 72), MOUTH) == [True, True]
    assert holds(low, (56, 72), MOUTH) == [False, True]
    assert (low & ~high).sum() < 0.01 * low.sum()
    np.testing.assert_allclose(np.argmax(low[:, 56]), 53 + 1.1 * 26, atol=1)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: square(GREY, POINTS, "chin"), "over"),
        (lambda: square(GREY, POINTS, "nose", size=0), "size must be at least 1"),
        (lambda: square(GREY, POINTS, "nose", color=(0, 0, 256)), "color"),
        (lambda: sunglasses(GREY, POINTS, transmittance=1.5), "transmittance"),
        (lambda: hand(GREY, POINTS, "nose"), "over"),
        (lambda: hand(GREY, POINTS + 500), "give color"),
        (lambda: headgear(GREY, POINTS, height=3), "height"),
        (lambda: surgical_mask(GREY, POINTS, top=-1), "top"),
        (lambda: sunglasses(GREY.astype(float), POINTS), "uint8"),
        (lambda: headgear(GREY, np.zeros((5, 2))), "two different eyes"),
        (lambda: template_landmarks("arcface", 1), "at least 2 pixels"),
        (lambda: template_landmarks("other", 112), "template"),
    ],
)
def test_what_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()


def test_template_landmarks_are_where_an_aligned_face_has_them():
    found = sample_face().landmarks
    np.testing.assert_allclose(template_landmarks("arcface", 112), found, atol=1.0)
    # ArcFace's grid: pixel 0 is a centre, so a side of 224 is not quite twice one of 112.
    np.testing.assert_allclose(
        template_landmarks("arcface", 224) / 2, template_landmarks("arcface", 112), atol=1.0
    )


def test_template_landmarks_of_dlib_are_where_dlib_puts_them(astronaut):
    face = detect_faces(astronaut)[0]
    found = landmarks_in_chip(face, template="dlib", size=150)
    np.testing.assert_allclose(template_landmarks("dlib", 150), found, atol=3.0)


def test_template_landmarks_of_lfw(lfw, to_aligned):
    expected = template_landmarks("arcface", 112)
    gaps = np.array(
        [to_aligned(faces[0].landmarks) - expected for faces in map(detect_faces, lfw) if faces]
    )
    assert len(gaps) > 30

    assert (np.sqrt((gaps**2).mean(axis=0)) < 4).all()
