"""The page and the CSV: whole, escaped, and with the faces that were scored."""

import csv
import io
import re
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from captum_plq.faces import REGIONS, sample_face
from captum_plq.gallery.inspect import inspect_result, pictures_of, render_page, write_csv
from captum_plq.gallery.inspect.pictures import RowPicture
from captum_plq.gallery.schema import lost_column
from captum_plq.quality import LEAST_TOLD
from tests.gallery.inspect.conftest import FACES, HOSTILE, QUALITY, ok_row, refused, write_result


class Page(HTMLParser):
    """Tags with what they say, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def maps_of(chips):
    return np.full((len(chips), 7, 7), -0.01, np.float32)


def test_pictures_are_the_faces_that_were_scored(gallery):
    found = inspect_result(gallery)
    rows = [*found.lowest, *found.highest]
    (first,) = [p for p in pictures_of(rows, gallery, maps_of) if p.row["index"] == 0]
    np.testing.assert_array_equal(first.chip, sample_face().chip)
    assert first.map.shape == (112, 112, 3)
    assert first.map[56, 56, 0] > first.map[56, 56, 2] + 50  # orange takes
    assert all(picture.map is None for picture in pictures_of(rows, gallery))


def test_a_photo_that_is_gone_or_another_one_is_not_shown(gallery):
    rows = inspect_result(gallery, each=FACES).lowest
    photos = gallery.directory.parent / "photos"
    by_path = {row["path"]: row for row in rows}
    gone, other = sorted(by_path)[:2]
    (photos / gone).unlink()
    (photos / other).write_bytes((photos / other).read_bytes() + b" ")
    found = pictures_of([by_path[gone], by_path[other]], gallery, maps_of)
    assert [picture.chip for picture in found] == [None, None]
    assert "does not exist" in found[0].problem
    assert "has changed since" in found[1].problem


@pytest.mark.parametrize("kind", ["npz", "zip"])
def test_maps_that_the_run_kept_are_shown_and_not_computed(gallery, kind):
    row = min(inspect_result(gallery).lowest, key=lambda row: row["index"])
    index, shard = row["index"], row["index"] // 4
    folder = gallery.directory / "maps"
    folder.mkdir()
    if kind == "npz":
        given = {"maps": np.full((1, 7, 7), 0.01, np.float16), "index": [index], "face": [1]}
        np.savez(folder / f"part-{shard:05}.npz", **given)
    else:
        Image.new("RGB", (112, 112), (90, 0, 200)).save(picture := io.BytesIO(), "PNG")
        with zipfile.ZipFile(folder / f"part-{shard:05}.zip", "w") as archive:
            archive.writestr(f"{index:09}-1.png", picture.getvalue())
    (found,) = pictures_of([row], gallery, pytest.fail)
    assert found.map[56, 56, 2] > found.map[56, 56, 0] + 30  # purple adds


def test_the_page_needs_nothing_and_escapes_names(gallery):
    inspection = inspect_result(gallery)
    both = (inspection.lowest, inspection.highest)
    pictures = [pictures_of(rows, gallery, maps_of) for rows in both]
    text = render_page(inspection, *pictures, title="<i>mine", notes=["a < b"])
    page = Page(text)
    assert not page.open  # every tag is closed, in order
    images = page.named("img")
    assert len(images) == 2 * FACES
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in images)
    assert not page.named("script")
    assert not page.named("link")
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import", text)
    assert "i" not in dict(page.tags)
    assert all("onerror" not in attributes for _, attributes in page.tags)
    for shown in (
        "told: dark, blurred",
        "retake: 2",
        HOSTILE,
        "is <b>no_face</b> & so on.",
        "<i>mine",
        "a < b",
    ):
        assert shown in page.text
    assert f"Q {QUALITY.min():.3f} ± 0.002" in page.text
    assert re.search(r"largest loss: (nose|mouth), 0.0", page.text)
    (viewport,) = [m for m in page.named("meta") if m.get("name") == "viewport"]
    assert "width=device-width" in viewport["content"]


def test_a_region_is_named_from_the_limit_that_explain_has(tmp_path):
    shown = []
    for loss in (LEAST_TOLD, 0.9 * LEAST_TOLD):
        (tmp_path / str(loss)).mkdir()
        row = {**ok_row(2, tmp_path), **dict.fromkeys(map(lost_column, REGIONS), loss)}
        found = inspect_result(write_result(tmp_path / str(loss), [row]))
        shown.append("largest loss" in render_page(found, [RowPicture(row, None, None, "")]))
    assert shown == [True, False]


def test_the_page_of_nothing(tmp_path):
    page = Page(render_page(inspect_result(write_result(tmp_path, [refused(0, "a", "empty")]))))
    assert not page.open
    assert "0 faces with a quality" in page.text
    assert not page.named("img")


def test_csv_has_every_row_and_a_column_for_each_number(gallery, tmp_path):
    assert write_csv(gallery, tmp_path / "all.csv") == FACES + 3
    with (tmp_path / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = gallery.table()
    assert [row["path"] for row in rows] == table["path"].to_pylist()
    assert rows[0]["path"] == HOSTILE
    expected = table["quality"].to_pylist()
    for row, quality in zip(rows, expected, strict=True):
        assert (row["quality"] == "") == (quality is None)
        if quality is not None:
            assert float(row["quality"]) == pytest.approx(quality, rel=1e-6)
    assert {"landmark_1_x", "landmark_5_y"} <= set(rows[0])
    (found,) = [row for row in rows if row["box_left"]]
    box = [found[f"box_{side}"] for side in ("left", "top", "right", "bottom")]
    assert (found["index"], box) == ("5", ["1", "2", "30", "40"])
    told = {row["index"]: (row["causes"], row["weak"]) for row in rows}
    assert told["1"] == ("dark;blurred", "true;false")
    assert told["2"] == told[str(FACES)] == ("", "")
