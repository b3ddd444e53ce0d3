"""What holds for every disturbance: a new picture, the same each time, and a mask that is true."""

import numpy as np
import pytest

from captum_plq import faces as F
from captum_plq.faces.disturb.standards import NONCOMPLIANCES
from tests.faces.disturb.upright import POINTS

OCCLUDERS = {
    "square": lambda chip, points: F.square(chip, points, "nose"),
    "eye": lambda chip, points: F.cover_eye(chip, points, "right", size=31, color=(255, 0, 0)),
    "sunglasses": F.sunglasses,
    "frame": lambda chip, points: F.sunglasses(chip, points, transmittance=1.0),
    "mask": F.surgical_mask,
    "low mask": lambda chip, points: F.surgical_mask(chip, points, top=1.1, color=(0, 0, 0)),
    "hand": lambda chip, points: F.hand(chip, points, "left cheek", color=(0, 120, 250)),
    "headgear": F.headgear,
}
DEGRADED = {
    "noise": lambda chip, _: F.add_noise(chip, 20.0),
    "resolution": lambda chip, _: F.reduce_resolution(chip, 16),
    "block": lambda chip, _: F.cover_with_block(chip, 30),
    "lower part": lambda chip, _: F.cover_lower_part(chip),
    "blur": lambda chip, _: F.blur(chip, 2.0),
    **{
        f"standard {name}": lambda chip, _, f=f: f(chip, 3)
        for name, f in F.STANDARD_DEGRADATIONS.items()
    },
}
BY_SEVERITY = {
    f"{kind} {severity}": lambda chip, points, f=f, severity=severity: f(chip, points, severity)
    for kind, f in NONCOMPLIANCES.items()
    for severity in (1, 2, 3)
}
EVERY = {**OCCLUDERS, **DEGRADED, **BY_SEVERITY}


@pytest.mark.parametrize("name", EVERY)
def test_a_new_picture_that_differs_under_its_mask_alone(name):
    chip = np.random.default_rng(0).integers(60, 200, (112, 112, 3), dtype=np.uint8)
    before, state = chip.copy(), np.random.get_state()[1].copy()
    chip.flags.writeable = False
    found, again = (EVERY[name](chip, POINTS) for _ in range(2))
    image, mask = found if isinstance(found, tuple) else (found, None)
    np.testing.assert_array_equal(chip, before)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert (image.shape, image.dtype) == (chip.shape, np.uint8)
    assert not np.shares_memory(image, chip)
    np.testing.assert_array_equal(again[0] if isinstance(found, tuple) else again, image)
    changed = (image != chip).any(axis=2)
    assert changed.mean() > 0.005
    assert (mask is not None) == (name in OCCLUDERS or name[:-2] in ("headgear", "glasses", "mask"))
    if mask is not None:
        assert (mask.shape, mask.dtype) == (chip.shape[:2], np.bool_)
        assert not changed[~mask].any()
        if name in OCCLUDERS and name != "frame":  # through whose lenses all is seen
            assert changed[mask].mean() > 0.98


@pytest.mark.parametrize("name", OCCLUDERS)
def test_occluders_turn_with_the_face_and_grow_with_the_chip(name):
    grey = np.full((112, 112, 3), 90, np.uint8)
    _, mask = OCCLUDERS[name](grey, POINTS)
    assert mask.mean() > 0.01
    if name not in ("square", "eye"):  # whose sides are along the picture's
        turned = np.stack([111 - POINTS[:, 1], POINTS[:, 0]], axis=1)  # a quarter, clockwise
        _, turned_mask = OCCLUDERS[name](grey, turned)
        assert (np.rot90(mask, -1) != turned_mask).mean() < 0.01
    if name != "eye":  # the size of which is given
        _, double = OCCLUDERS[name](np.zeros((224, 224, 3), np.uint8), 2 * POINTS + 0.5)
        assert abs(double.mean() - mask.mean()) < 0.015


@pytest.mark.parametrize("kind", NONCOMPLIANCES)
def test_noncompliance_is_worse_by_degrees_and_the_same_at_another_size(kind):
    chip, points = F.sample_face().chip, F.template_landmarks("arcface", 112)
    images = [NONCOMPLIANCES[kind](chip, points, s)[0].astype(float) for s in (1, 2, 3)]
    gaps = [np.abs(image - chip).mean() for image in images]
    assert 0.2 < gaps[0] < gaps[1] < gaps[2]
    if kind != "JPEG":
        double = chip.repeat(2, axis=0).repeat(2, axis=1)
        large = NONCOMPLIANCES[kind](double, 2 * points + 0.5, 2)[0].astype(float)
        assert np.abs(large.reshape(112, 2, 112, 2, 3).mean(axis=(1, 3)) - images[1]).mean() < 4
