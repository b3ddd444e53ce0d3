"""Photos of aligned crops: what is cut off is what was asked for."""

import numpy as np
import pytest

pytest.importorskip("PIL.Image", reason="needs the extra [faces]")

from benchmarks.protocols.photos.making import SIDES, cut, photo_of
from captum_plq.faces import face_regions, sample_face

FACE = ~face_regions("arcface", 112)["background"]


def test_a_photo_is_the_crop_enlarged_with_a_margin_that_goes_on():
    crop = sample_face().chip
    alone, nothing = photo_of(crop, margin=False)
    photo, around = photo_of(crop)
    assert (alone.shape, nothing, around) == ((224, 224, 3), 0, 56)
    assert np.array_equal(photo[around:-around, around:-around], alone)
    assert (photo[:, : around + 1] == photo[:, [around]]).all()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_share_of_the_face_is_missing_at_the_side(side, share):
    crop = sample_face().chip
    whole, around = photo_of(crop)
    part = cut(crop, "arcface", side, share)
    y, x = (np.array(whole.shape) - part.shape)[:2].tolist()
    assert (x > 0, y > 0) == (side in ("left", "right"), side in ("top", "bottom"))
    rows = slice(y, None) if side == "top" else slice(part.shape[0])
    columns = slice(x, None) if side == "left" else slice(part.shape[1])
    assert np.array_equal(part, whole[rows, columns])
    face = np.zeros(whole.shape[:2], dtype=bool)
    face[around:-around, around:-around] = FACE.repeat(2, 0).repeat(2, 1)
    assert face[rows, columns].sum() / face.sum() == pytest.approx(1 - share, abs=0.02)
