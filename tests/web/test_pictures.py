"""Map, colours and outlines, against what they are drawn from."""

import base64
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from captum_plq.faces import REGIONS, face_regions
from captum_plq.web.pictures import data_url, map_scale, overlay, region_outlines

GREY = np.full((112, 112, 3), 128, np.uint8)


def test_a_data_url_holds_the_pixels():
    pixels = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
    kind, _, text = data_url(pixels).partition(",")
    assert kind == "data:image/png;base64"
    assert np.array_equal(np.array(Image.open(BytesIO(base64.b64decode(text)))), pixels)


def test_the_map_is_clear_where_nothing_is_unusual_and_orange_where_it_is_bad():
    zscores = np.zeros((7, 7), dtype=np.float32)
    zscores[0, 0], zscores[6, 6], zscores[0, 6] = -6, 6, -3
    picture = overlay(zscores, GREY, (336, 336))
    red, _, blue, shown = (picture[0, 0, i].astype(int) for i in range(4))
    assert red > blue + 40
    assert shown > 220
    assert picture[-1, -1, 2] > picture[-1, -1, 0]
    assert picture[168, 168, 3] == 0
    assert abs(int(picture[0, -1, 3]) - shown / 2) <= 2


def test_the_map_follows_the_edges_of_the_face():
    zscores, face = np.zeros((7, 7), dtype=np.float32), GREY.copy()
    zscores[:, :2], face[:, :30] = -6, 0
    shown = overlay(zscores, face, (336, 336))[168, :, 3].astype(int)
    assert shown[:84].min() > shown[96:].max() + 100


def test_the_scale_is_absolute():
    zscores = np.full((7, 7), -60, dtype=np.float32)
    worst = overlay(zscores, GREY, (112, 112))[50, 50, :3]
    assert f"#{bytes(worst.tolist()).hex()}" == map_scale()["colours"][0]
    assert len(map_scale()["colours"]) == 11


def test_outlines_hold_their_regions():
    size = (336, 336)
    outlines = region_outlines("arcface", size)
    assert tuple(outlines) == REGIONS
    for name, area in face_regions("arcface", size).items():
        drawn = Image.new("1", size)
        for piece in outlines[name]:
            points = [(x * 336 - 0.5, y * 336 - 0.5) for x, y in piece]
            ImageDraw.Draw(drawn).polygon(points, fill=1, outline=1)
        both = np.asarray(drawn) & area
        assert both.sum() > 0.95 * area.sum(), name
        assert both.sum() > 0.93 * np.asarray(drawn).sum(), name
