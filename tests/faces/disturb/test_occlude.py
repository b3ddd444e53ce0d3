import numpy as np
import pytest

from captum_plq import faces
from tests.faces.disturb.upright import POINTS

GREY = np.full((112, 112, 3), 90, np.uint8)
LEFT_EYE, RIGHT_EYE, MOUTH = (38, 53), (72, 53), (56, 92)


def holds(mask, *places):
    return [bool(mask[y, x]) for x, y in places]


@pytest.mark.parametrize(
    ("over", "x", "y"),
    [
        ("left eye", 38.5, 53.0),
        ("right eye", 72.5, 53.0),
        ("nose", 55.5, 53 + 0.70 * 26),
        ("mouth", 55.5, 53 + 1.49 * 26),
        ("left cheek", 55.5 - 0.62 * 34, 53 + 0.95 * 26),
        ("right cheek", 55.5 + 0.62 * 34, 53 + 0.95 * 26),
        ("forehead", 55.5, 27.0),
    ],
)
def test_a_square_lies_on_the_named_part(over, x, y):
    image, mask = faces.square(GREY, POINTS, over, color=(1, 2, 3))
    assert (image[mask] == (1, 2, 3)).all()
    rows, columns = np.nonzero(mask)
    assert mask.sum() == 24 * 24  # 0.7 of 34 px
    assert np.ptp(rows) == np.ptp(columns) == 23
    np.testing.assert_allclose((columns.mean(), rows.mean()), (x, y), atol=0.5)
    if over.endswith("eye"):
        assert (faces.cover_eye(GREY, POINTS, over.split()[0]).mask == mask).all()


def test_a_square_has_its_size_and_is_cut_off_at_the_border():
    for size in (1, 2, 25, 40):
        assert faces.cover_eye(GREY, POINTS, "left", size=size).mask.sum() == size**2
    _, mask = faces.cover_eye(GREY, POINTS - (38.5, 53.0), "left", size=21)
    assert mask.sum() == mask[:11, :11].sum() == 11 * 11
    image, mask = faces.cover_eye(GREY, POINTS - (300, 0), "left")
    assert not mask.any()
    np.testing.assert_array_equal(image, GREY)


def test_a_surgical_mask_covers_nose_mouth_and_chin_but_no_eyes():
    image, mask = faces.surgical_mask(GREY, POINTS, color=(10, 200, 30))
    # ArcFace's tip of the nose and corners of the mouth, and the chin at the crop's lower edge.
    for x, y in [(56, 72), (42, 92), (71, 92), (56, 111), (30, 85), (82, 85)]:
        assert (image[y, x] == (10, 200, 30)).all()
    free = [LEFT_EYE, RIGHT_EYE, (56, 53), (32, 58), (80, 58), (10, 90), (102, 90)]
    assert not any(holds(mask, *free))
    top = np.argmax(mask, axis=0)
    assert 58 < top[56] < 70  # on the bridge of the nose
    assert top[30] > top[56] + 5  # lower on the cheeks
    assert mask[80].sum() > mask[105].sum() > 20  # narrower towards the chin
    assert (mask != mask[:, :112][:, ::-1]).mean() < 0.005  # x → 111 − x; the nose is at 55.5
    between = (image != GREY).any(axis=2) & (image != (10, 200, 30)).any(axis=2)
    assert 50 < between.sum() < 400  # antialiased


def test_a_surgical_mask_leans_with_a_turned_head_and_may_hang_below_the_nose():
    def chin(points):
        _, mask = faces.surgical_mask(np.zeros((160, 112, 3), np.uint8), points)
        return np.nonzero(mask[np.nonzero(mask.any(axis=1))[0][-3]])[0].mean()

    assert chin(POINTS + np.array([[0, 0]] * 4 + [[8, 0]])) > chin(POINTS) + 2
    _, high = faces.surgical_mask(GREY, POINTS)
    _, low = faces.surgical_mask(GREY, POINTS, top=1.1)
    assert holds(high, (56, 72), MOUTH) == [True, True]
    assert holds(low, (56, 72), MOUTH) == [False, True]
    assert (low & ~high).sum() < 0.01 * low.sum()
    np.testing.assert_allclose(np.argmax(low[:, 56]), 53 + 1.1 * 26, atol=1)


@pytest.mark.parametrize(("template", "size"), [("arcface", 112), ("dlib", 150)])
def test_on_a_photograph(astronaut, template, size):
    face = faces.detect_faces(astronaut)[0]
    chip = faces.align_face(astronaut, face, template=template, size=size)
    points = faces.landmarks_in_chip(face, template=template, size=size)
    places = np.rint(points).astype(int)
    mask = faces.surgical_mask(chip, points).mask
    assert holds(mask, *places) == [False] * 4 + [True]
    assert 0.15 < mask.mean() < 0.4
    assert holds(faces.cover_eye(chip, points, "right").mask, *places) == [True] * 2 + [False] * 3
    assert holds(faces.sunglasses(chip, points).mask, *places) == [True] * 4 + [False]


def test_sunglasses_cover_both_eyes_and_nothing_below():
    image, mask = faces.sunglasses(GREY, POINTS)
    bridge = (56, 48)
    assert all(holds(mask, LEFT_EYE, RIGHT_EYE, bridge))
    assert not any(holds(mask, (56, 72), MOUTH, (56, 30), (38, 72)))
    assert (image[53, 38] == (18, 18, 20)).all()
    assert (mask != mask[:, :112][:, ::-1]).mean() < 0.005


def test_lenses_let_light_through_by_its_amount_not_by_the_pixel_value():
    # A grey of 188 is half the light of white in sRGB.
    white = np.full_like(GREY, 255)
    half, _ = faces.sunglasses(white, POINTS, transmittance=0.5, color=(0, 0, 0))
    assert abs(int(half[53, 38, 0]) - 188) <= 1
    clear, mask = faces.sunglasses(white, POINTS, transmittance=1.0)
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
def test_a_hand_lies_over_the_named_part(over, covered, free):
    x, y = covered
    for seed in range(6):
        _, mask = faces.hand(GREY, POINTS, over, seed=seed)
        assert mask[y - 5 : y + 6, x - 5 : x + 6].mean() > 0.6  # the rest is between two fingers
        assert not any(holds(mask, *free))


def test_a_hand_takes_the_colour_of_the_face_and_follows_its_seed():
    face = np.full_like(GREY, (210, 160, 130))
    image, mask = faces.hand(face, POINTS, color=None, seed=0)
    assert image[mask].max(axis=0).tolist() == [210, 160, 130]  # at most as bright as the skin
    assert image[mask].min(axis=0)[0] < 190  # darker at its edges
    assert (faces.hand(face, POINTS, seed=1).mask != mask).any()


def test_headgear_covers_the_forehead_above_its_edge():
    _, mask = faces.headgear(GREY, POINTS, height=0.8)
    column = np.nonzero(mask[:, 56])[0]
    np.testing.assert_allclose(column.max(), 53 - 0.8 * 26, atol=1)
    assert column.min() == 0
    assert not any(holds(mask, LEFT_EYE, RIGHT_EYE, MOUTH))
    assert faces.headgear(GREY, POINTS, height=1.4).mask.sum() < mask.sum()
