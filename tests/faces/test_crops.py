"""Crops from files: aligned ones and detected ones, and files that cannot be used."""

import numpy as np
import pytest

from captum_plq.faces import align_face, detect_faces, list_images, read_crop, read_crops

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 20, 3), np.uint8)
        (tmp_path / f"p{i}").mkdir()
        Image.fromarray(pixels).save(tmp_path / f"p{i}" / "a.png")
    (tmp_path / "p1" / "b.JPG").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("neither")
    return tmp_path


def test_images_are_listed_in_order_by_their_endings(folder):
    names = [str(path.relative_to(folder)) for path in list_images(folder)]
    assert names == ["p0/a.png", "p1/a.png", "p1/b.JPG", "p2/a.png"]
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        list_images(folder / "empty")
    with pytest.raises(FileNotFoundError, match="no folder"):
        list_images(folder / "nowhere")


def test_a_bad_file_is_noted_and_the_rest_goes_on(folder):
    left_out: dict[str, str] = {}
    options = {"template": "arcface", "size": (24, 20), "aligned": True}
    found = list(read_crops(list_images(folder), left_out, **options))
    assert [path.parent.name for path, _ in found] == ["p0", "p1", "p2"]
    for i, (_, crop) in enumerate(found):
        expected = np.random.default_rng(i).integers(0, 256, (24, 20, 3), np.uint8)
        np.testing.assert_array_equal(crop, expected)
    (name,) = left_out
    assert name.endswith("b.JPG")
    assert name not in left_out[name]


def test_a_missing_extra_is_not_blamed_on_the_files(folder, monkeypatch):
    def missing(*_, **__):
        raise ImportError("install the extra")

    monkeypatch.setattr("captum_plq.faces.crops.load_image", missing)
    with pytest.raises(ImportError, match="extra"):
        list(read_crops(list_images(folder), {}, template="arcface", size=(24, 20)))


def test_a_wrong_template_is_not_blamed_on_the_files(folder):
    with pytest.raises(ValueError, match="template"):
        next(read_crops(list_images(folder), {}, template="mtcnn", size=(24, 20)))


def test_the_surest_face_is_cut_out(tmp_path):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    portrait = data.astronaut()
    Image.fromarray(portrait).save(tmp_path / "a.png")
    crop = read_crop(tmp_path / "a.png", template="dlib", size=(150, 150))
    face = detect_faces(portrait)[0]
    np.testing.assert_array_equal(crop, align_face(portrait, face, template="dlib", size=150))
    Image.fromarray(portrait[:100, :100]).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="No face"):
        read_crop(tmp_path / "b.png", template="dlib", size=(150, 150))
