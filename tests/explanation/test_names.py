"""Names of results: none overwrites another's, an image, or somebody else's file."""

import os
import unicodedata
from pathlib import Path

import pytest

from captum_plq.explanation.names import result_names
from captum_plq.explanation.result import RESULT_ENDINGS


def names(*images, directory="nowhere", **options):
    return result_names([Path(image) for image in images], Path(directory), **options)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (["a.jpg", "a.png", "x/a.jpg", "a-2.jpg"], ["a", "a-2", "a-3", "a-2-2"]),
        (["a-2.jpg", "A.jpg", "a.jpg"], ["a-2", "A", "a-3"]),
        (["é.jpg", unicodedata.normalize("NFD", "é.jpg")], ["é", "e\u0301-2"]),
        (["contact-sheet.jpg", "b.jpg"], ["contact-sheet-2", "b"]),
        (["summary.jpg", ".hidden.jpg", "_hidden.jpg"], ["summary-2", "_hidden", "_hidden-2"]),
        (["new\nline.jpg", os.fsdecode(b"\xff.jpg")], ["new\nline", os.fsdecode(b"\xff")]),
    ],
)
def test_names(images, expected):
    assert names(*images) == expected


@pytest.mark.parametrize(
    "images",
    [
        ["..jpg", "...jpg", "....jpg", "_.jpg"],
        [
            "a.jpg",
            "a-face1.jpg",
            "a-face1-2.jpg",
            "a-faces.jpg",
            "b-face2.jpg",
            "b.jpg",
            "summary-face1.jpg",
        ],
        ["x" * 250 + ".jpg", "y/" + "x" * 251 + ".jpg", "é" * 125 + ".png"],
    ],
)
def test_odd_names_give_files_that_can_be_made_and_differ(images, tmp_path):
    every = ["summary.json"]
    for name in names(*images, directory=tmp_path, faces=True):
        for face in ("", "-faces", "-face1", "-face2", "-face999"):
            every += [f"{name}{face}{ending}" for ending in RESULT_ENDINGS]
    assert len({name.casefold() for name in every}) == len(every)
    for name in every:
        (tmp_path / name).write_bytes(b"")


def test_only_an_earlier_result_is_replaced(tmp_path):
    earlier = [f"a{ending}" for ending in RESULT_ENDINGS]
    for name in (*earlier, "b.json", "c.png", "d-face1.png", "e.png"):  # notes, and photos
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a.json").write_text('{"files": {"figure": "a.png", "arrays": "a.npz"}}')
    for name in "ef":  # of results without figure and arrays; e.png is somebody else's
        (tmp_path / f"{name}.json").write_text('{"files": {}}')
    found = names("a.jpg", "b.jpg", "e.jpg", "f.jpg", directory=tmp_path)
    assert found == ["a", "b-2", "e-2", "f"]
    images = [tmp_path / "c.png", tmp_path / "d.jpg", tmp_path / "d-face1.png"]
    assert result_names(images, tmp_path, faces=True)[:2] == ["c-2", "d-2"]


def test_many_images_of_one_name_take_no_time_that_grows():
    assert len(set(names(*(f"{i}/0.jpg" for i in range(5_000))))) == 5_000
