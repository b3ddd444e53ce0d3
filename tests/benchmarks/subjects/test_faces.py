import numpy as np
import pytest

from benchmarks.subjects.face_sets import load_faces
from captum_plq.models import ModelSpec

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
SPEC = ModelSpec("small", (24, 20), mean=(127.5,) * 3, std=(127.5,) * 3)


def save(path, value, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for person in range(4):
        for shot in range(3):
            save(tmp_path / f"person{person}" / f"{shot}.png", 10 * person + shot)
    return tmp_path


def test_people_come_before_second_shots(folder):
    faces = load_faces(folder, SPEC, 8)
    people = [name.split("/")[0] for name in faces.names]
    assert sorted(people[:4]) == sorted(people[4:]) == [f"person{i}" for i in range(4)]
    assert len(set(faces.names)) == 8
    assert faces.images.shape == (8, 3, 24, 20)
    for name, image in zip(faces.names, faces.images, strict=True):
        person, shot = name.removeprefix("person").removesuffix(".png").split("/")
        assert image.unique().tolist() == [10 * int(person) + int(shot)]


def test_the_seed_draws_the_same_files(folder):
    assert load_faces(folder, SPEC, 5).names == load_faces(folder, SPEC, 5).names
    drawn = {tuple(load_faces(folder, SPEC, 5, seed).names) for seed in range(10)}
    assert len(drawn) > 5


def test_what_cannot_be_used_is_left_out_with_its_reason(folder):
    (folder / "person0" / "0.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not even called one")
    faces = load_faces(folder, SPEC, 11)
    assert faces.unusable == 1
    assert "person0/0.png" not in faces.names
    with pytest.raises(ValueError, match=r"holds 11 usable faces, fewer than the 12 .*\(1 images"):
        load_faces(folder, SPEC, 12)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_faces(tmp_path / "nowhere", SPEC, 1)


@pytest.mark.parametrize("tight", [False, True])
def test_faces_in_other_sizes_are_found_and_aligned(tmp_path, tight):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    from captum_plq.faces import align_face, detect_faces

    portrait = data.astronaut()
    face = detect_faces(portrait)[0]
    spec = ModelSpec("arc", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3)
    chip = align_face(portrait, face, template="arcface", size=112)
    shown = align_face(portrait, face, template="arcface", size=160) if tight else portrait
    Image.fromarray(shown).save(tmp_path / "a.png")
    (image,) = load_faces(tmp_path, spec, 1).images.permute(0, 2, 3, 1).float().numpy()
    assert np.abs(image - chip.astype(float))[16:96, 16:96].mean() < 12
