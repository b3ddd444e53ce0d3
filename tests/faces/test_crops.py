"""Crops from files and folders: aligned ones and detected ones, and files that cannot be used."""

import os

import numpy as np
import pytest
from PIL import Image

from captum_plq import faces

OPTIONS = {"template": "arcface", "size": (24, 20), "aligned": True}


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (24, 20, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        (tmp_path / f"p{i}").mkdir()
        Image.fromarray(pixels(i)).save(tmp_path / f"p{i}" / "a.png")
    (tmp_path / "p1" / "b.JPG").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("neither")
    return tmp_path


def test_images_are_listed_in_order_by_their_endings(folder):
    names = [str(path.relative_to(folder)) for path in faces.list_images(folder)]
    assert names == ["p0/a.png", "p1/a.png", "p1/b.JPG", "p2/a.png"]
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        faces.list_images(folder / "empty")
    with pytest.raises(FileNotFoundError, match="no folder"):
        faces.list_images(folder / "nowhere")


def test_images_are_drawn_of_all_people_before_second_ones(tmp_path):
    for person, count in (("a", 3), ("b", 1), ("c", 2)):
        (tmp_path / person).mkdir()
        for i in range(count):
            (tmp_path / person / f"{i}.jpg").touch()
    drawn = [faces.draw_images(tmp_path, seed) for seed in (0, 0, 1)]
    orders = [[path.relative_to(tmp_path) for path in paths] for paths in drawn]
    assert orders[0] == orders[1] != orders[2]
    for order in orders:
        assert {p.parent.name for p in order[:3]} == {"a", "b", "c"}
        assert {p.parent.name for p in order[3:5]} == {"a", "c"}
        assert len(set(order)) == 6


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")
def test_a_bad_file_is_noted_and_the_rest_goes_on(folder):
    os.mkfifo(folder / "b.jpg")
    (folder / "d.jpg").mkdir()
    (folder / "e.heic").write_bytes(b"\0\0\0\x18ftypheic")
    left_out: dict[str, str] = {}
    found = list(faces.read_crops(faces.list_images(folder), left_out, **OPTIONS))
    assert [path.parent.name for path, _ in found] == ["p0", "p1", "p2"]
    for i, (_, crop) in enumerate(found):
        np.testing.assert_array_equal(crop, pixels(i))
    words = {"p1/b.JPG": "not an image", "b.jpg": "pipe", "d.jpg": "directory", "e.heic": "HEIC"}
    assert len(left_out) == len(words)
    for name, word in words.items():
        reason = left_out[str(folder / name)]
        assert word in reason
        assert name not in reason


def test_what_is_wrong_for_every_file_is_not_blamed_on_one(folder, monkeypatch):
    with pytest.raises(ValueError, match="template"):
        next(faces.read_crops(faces.list_images(folder), {}, template="mtcnn", size=(24, 20)))

    def missing(*_, **__):
        raise ImportError("install the extra")

    monkeypatch.setattr("captum_plq.faces.crops.load_image", missing)
    with pytest.raises(ImportError, match="extra"):
        list(faces.read_crops(faces.list_images(folder), {}, **OPTIONS))


def test_the_surest_face_is_cut_out(tmp_path, astronaut):
    options = {"template": "dlib", "size": (150, 150)}
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    expected = faces.align_face(astronaut, faces.detect_faces(astronaut)[0], **options)
    np.testing.assert_array_equal(faces.read_crop(tmp_path / "a.png", **options), expected)
    Image.fromarray(astronaut[:100, :100]).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="No face"):
        faces.read_crop(tmp_path / "b.png", **options)


def test_the_sample_is_what_detection_and_alignment_find_in_the_portrait(astronaut):
    face = faces.detect_faces(astronaut)[0]
    chip, landmarks = faces.sample_face()
    options = {"template": "arcface", "size": 112}
    np.testing.assert_array_equal(chip, faces.align_face(astronaut, face, **options))
    np.testing.assert_allclose(landmarks, faces.landmarks_in_chip(face, **options), atol=0.01)
    chip[:] = landmarks[:] = 0  # each call gives its own
    assert faces.sample_face().chip.any()
    assert faces.sample_face().landmarks.all()
