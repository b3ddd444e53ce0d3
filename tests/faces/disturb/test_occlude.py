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


BRIDGE, TIP, CHIN, BROW = (56, 48), (56, 72), (56, 111), (56, 30)
SIDES = [(30, 85), (82, 85)]
COVERS = [  # what is drawn, with what options, what it covers and what it leaves free
    (faces.surgical_mask, {}, [TIP, (42, 92), (71, 92), CHIN, *SIDES],
     [LEFT_EYE, RIGHT_EYE, (56, 53), (32, 58), (80, 58), (10, 90), (102, 90)]),
    (faces.surgical_mask, {"top": 1.1}, [MOUTH, CHIN], [TIP, LEFT_EYE, RIGHT_EYE]),
    (faces.sunglasses, {}, [LEFT_EYE, RIGHT_EYE, BRIDGE], [TIP, MOUTH, BROW, (38, 72)]),
    (faces.headgear, {"height": 0.8}, [BROW, (56, 0)], [LEFT_EYE, RIGHT_EYE, MOUTH]),
    *(
        (faces.hand, {"over": over, "seed": seed}, [], free)
        for over, free in (
            ("mouth", [LEFT_EYE, RIGHT_EYE]),
            ("left cheek", [RIGHT_EYE, (90, 78)]),
            ("right cheek", [LEFT_EYE, (22, 78)]),
        )
        for seed in range(6)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("draw", "options", "covered", "free"), COVERS)
def test_each_covers_its_part_of_the_face_and_nothing_else(draw, options, covered, free):
    _, mask = draw(GREY, POINTS, **options)
    assert all(holds(mask, *covered))
    assert not any(holds(mask, *free))
    if draw is faces.hand:  # between two fingers some may show
        x, y = {"mouth": MOUTH, "left cheek": (34, 78), "right cheek": (77, 78)}[options["over"]]
        assert mask[y - 5 : y + 6, x - 5 : x + 6].mean() > 0.6
    elif draw is not faces.headgear:
        assert (mask != mask[:, :112][:, ::-1]).mean() < 0.005  # x → 111 − x; the nose is at 55.5


def test_a_surgical_mask_is_a_mask():
    image, mask = faces.surgical_mask(GREY, POINTS, color=(10, 200, 30))
    top = np.argmax(mask, axis=0)
    assert 58 < top[56] < 70  # on the bridge of the nose
    assert top[30] > top[56] + 5  # lower on the cheeks
    assert mask[80].sum() > mask[105].sum() > 20  # narrower towards the chin
    between = (image != GREY).any(axis=2) & (image != (10, 200, 30)).any(axis=2)
    assert 50 < between.sum() < 400  # antialiased
    _, low = faces.surgical_mask(GREY, POINTS, top=1.1)
    assert (low & ~mask).sum() < 0.01 * low.sum()
    np.testing.assert_allclose(np.argmax(low[:, 56]), 53 + 1.1 * 26, atol=1)


def test_a_surgical_mask_leans_with_a_turned_head():
    def chin(points):
        _, mask = faces.surgical_mask(np.zeros((160, 112, 3), np.uint8), points)
        return np.nonzero(mask[np.nonzero(mask.any(axis=1))[0][-3]])[0].mean()

    assert chin(POINTS + np.array([[0, 0]] * 4 + [[8, 0]])) > chin(POINTS) + 2


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


def test_lenses_let_light_through_by_its_amount_not_by_the_pixel_value():
    # A grey of 188 is half the light of white in sRGB.
    white = np.full_like(GREY, 255)
    half, _ = faces.sunglasses(white, POINTS, transmittance=0.5, color=(0, 0, 0))
    assert abs(int(half[53, 38, 0]) - 188) <= 1
    clear, mask = faces.sunglasses(white, POINTS, transmittance=1.0)
    assert (clear[53, 38] == 255).all()
    assert mask[53, 38]
    assert (clear[mask] < 255).any()
    assert (faces.sunglasses(GREY, POINTS).image[53, 38] == (18, 18, 20)).all()


def test_a_hand_takes_the_colour_of_the_face_and_follows_its_seed():
    face = np.full_like(GREY, (210, 160, 130))
    image, mask = faces.hand(face, POINTS, color=None, seed=0)
    assert image[mask].max(axis=0).tolist() == [210, 160, 130]  # at most as bright as the skin
    assert image[mask].min(axis=0)[0] < 190  # darker at its edges
    assert (faces.hand(face, POINTS, seed=1).mask != mask).any()


def test_headgear_ends_above_the_eyes_where_it_is_told():
    _, mask = faces.headgear(GREY, POINTS, height=0.8)
    np.testing.assert_allclose(np.nonzero(mask[:, 56])[0].max(), 53 - 0.8 * 26, atol=1)
    assert faces.headgear(GREY, POINTS, height=1.4).mask.sum() < mask.sum()
