"""Who is drawn into which set, of small images whose pixels tell which file they are."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.subjects.face_sets import (
    ONE_FACE,
    FaceSets,
    face_sets,
    load_faces,
    quick_face_sets,
)
from captum_plq.faces import align_face, detect_faces, sample_face
from captum_plq.models import ModelSpec
from tests.benchmarks.conftest import SPEC, save

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
CHIP = ModelSpec("chip", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3)
EVERYONE = 11


def colour_of(name):
    if name.startswith("loose"):
        return [100 + int(name.removeprefix("loose").removesuffix(".png")), 0, 7]
    person, shot = name.removeprefix("person").removesuffix(".png").split("/")
    return [int(person), int(shot), 7]


def people_of(names):
    return [name.split("/")[0] for name in names]


@pytest.mark.parametrize("seed", [0, 3])
def test_nobody_is_drawn_twice_and_the_pixels_are_theirs(folder, seed):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    sets = face_sets(folder, SPEC, 4, EVERYONE - 4, seed)
    people = people_of(sets.names + sets.reference_names)
    assert len(people) == len(set(people)) == EVERYONE
    for images, names in ((sets.images, sets.names), (sets.reference, sets.reference_names)):
        assert images.shape == (len(names), 3, 24, 20)
        assert images.dtype == torch.uint8
        for image, name in zip(images, names, strict=True):
            assert image.flatten(1).unique(dim=1).flatten().tolist() == colour_of(name)
    assert (sets.about, sets.warning) == (folder.name, "")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_people_in_subfolders_of_subfolders(tmp_path):
    people = {f"{group}/p{person}" for group in "ab" for person in range(2)}
    for person in people:
        for shot in range(2):
            save(tmp_path / person / f"{shot}.png", shot)
    sets = face_sets(tmp_path, SPEC, 2, 2)
    assert {str(Path(name).parent) for name in sets.names + sets.reference_names} == people


def test_more_faces_leave_the_reference_and_are_added(folder):
    for i in range(0, 8, 2):
        (folder / f"person{i}" / "1.png").write_bytes(b"no image")
    everyone = face_sets(folder, SPEC, EVERYONE - 4, 4, seed=3)
    for faces in (1, 4):
        sets = face_sets(folder, SPEC, faces, 4, seed=3)
        assert sets.reference_names == everyone.reference_names
        assert torch.equal(sets.reference, everyone.reference)
        assert sets.names == everyone.names[:faces]
        assert torch.equal(sets.images, everyone.images[:faces])


def test_the_seed_draws_people_and_shots(folder):
    drawn = {seed: face_sets(folder, SPEC, 3, 3, seed) for seed in range(12)}
    assert len({sets.digest for sets in drawn.values()}) == 12
    assert face_sets(folder, SPEC, 3, 3).digest == drawn[0].digest
    seen = {name for sets in drawn.values() for name in sets.names}
    assert len({name.split("/")[1] for name in seen if "/" in name}) == 3
    assert len(set(people_of(seen))) > 8


def test_unusable_images_are_skipped_for_the_persons_next(folder):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    (folder / "loose1.png").write_bytes(b"no image")
    for shot in range(3):
        (folder / "person3" / f"{shot}.png").write_bytes(b"")
    save(folder / "person5" / "0.png", 9, size=(8, 8))  # too small for any face
    save(folder / "person5" / "1.png", 90, size=(40, 40))  # no face in it
    (folder / "person6" / "notes.txt").write_text("not even called one")
    sets = face_sets(folder, SPEC, 7, 2, seed=1)
    names = sets.names + sets.reference_names
    assert len(set(people_of(names))) == len(names) == 9
    assert not {"person3", "loose1.png"} & set(people_of(names))
    assert "person5/2.png" in names
    message = f"{folder.name} holds usable faces of 9 people, but 8 to evaluate and 2 for the ref"
    with pytest.raises(ValueError, match=message):
        face_sets(folder, SPEC, 8, 2, seed=1)


def test_what_cannot_be_drawn_is_refused(folder, monkeypatch):
    for few in ((0, 2), (1, 1)):
        with pytest.raises(ValueError, match=r"1 face and 2 reference"):
            face_sets(folder, SPEC, *few)
    for number in ((0, 2), (1, 1), (198, 3)):
        with pytest.raises(ValueError, match=r"200 variants.*not \("):
            quick_face_sets(CHIP, *number)
    (folder / "empty").mkdir()
    for draw in (load_faces, lambda directory, spec, count: face_sets(directory, spec, count, 2)):
        with pytest.raises(FileNotFoundError, match="no folder"):
            draw(folder / "nowhere", SPEC, 1)
        with pytest.raises(ValueError, match="holds no images"):
            draw(folder / "empty", SPEC, 1)
    monkeypatch.setitem(sys.modules, "PIL", None)  # not taken for a bad image
    with pytest.raises(ImportError, match=r"captum-plq\[faces\]"):
        face_sets(folder, SPEC, 1, 2)


def test_the_folder_one_stands_in_has_a_name_too(folder, monkeypatch):
    monkeypatch.chdir(folder / "person0")
    above = face_sets(Path(".."), SPEC, 1, 2)
    assert above.about == folder.name
    assert above.digest == face_sets(folder, SPEC, 1, 2).digest


def small_sets(**changed):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5, 3, 4, 4), generator=generator).byte()
    sets = FaceSets(pixels[2:], ("c", "d", "e"), pixels[:2], ("a", "b"), "a folder")
    return dataclasses.replace(sets, **changed)


def test_the_digest_knows_each_pixel_and_name_and_nothing_else():
    sets = small_sets()
    images, reference = sets.images.clone(), sets.reference.clone()
    images[2, 2, 3, 3] += 1
    reference[0, 0, 0, 0] += 1
    different = [
        small_sets(images=images),
        small_sets(reference=reference),
        small_sets(images=sets.images.flip(0)),
        small_sets(images=sets.images.mT),
        small_sets(names=("d", "c", "e")),
        small_sets(reference_names=("a", "c")),
        small_sets(names=("c", "d", "e", "a"), reference_names=("b",)),
        FaceSets(sets.reference, ("a", "b"), sets.images, ("c", "d", "e"), "a folder"),
    ]
    assert len({sets.digest, *(other.digest for other in different)}) == len(different) + 1
    last = sets.images.contiguous(memory_format=torch.channels_last)
    assert small_sets(images=last, about="elsewhere", warning="careful").digest == sets.digest
    assert len(sets.digest) == 16


# --- the quick set


def test_variants_are_what_their_names_say():
    sets = quick_face_sets(CHIP, 150, 50)
    pixels = torch.cat([sets.reference, sets.images])
    names = sets.reference_names + sets.names
    assert len({image.numpy().tobytes() for image in pixels}) == len(set(names)) == 200
    assert (sets.warning, sets.about) == (ONE_FACE, "the sample face")
    chip = sample_face().chip.astype(int)
    plain, apart = 0, {"blur": [], "noise": [], "fewer pixels": []}
    for image, name in zip(pixels.permute(0, 2, 3, 1).numpy(), names, strict=True):
        which, shift, how = name.split(", ")
        down, right = map(int, shift.split())
        rows, columns = ((np.arange(112) - by).clip(0, 111) for by in (down, right))
        if which == "sample mirrored":
            columns = 111 - columns
        expected = chip[rows][:, columns]
        if how == "as it is":
            np.testing.assert_array_equal(image, expected)
            plain += 1
        else:
            apart[how].append(image - expected)
    assert plain == 50
    for how, differences in apart.items():
        assert len(differences) == 50
        for difference in differences:  # mild, but there; on the whole as bright
            assert 0.5 < np.abs(difference).mean() < 8, how
            assert np.abs(difference.mean()) < 1.5, how
    assert np.std(apart["noise"]) == pytest.approx(5, abs=0.3)


def test_the_quick_set_is_drawn_by_its_seed():
    default = quick_face_sets(CHIP)
    assert (len(default.images), len(default.reference)) == (8, 16)
    assert (
        default.digest
        == quick_face_sets(CHIP, 8, 16, 0).digest
        != (quick_face_sets(CHIP, seed=1).digest)
    )
    fewer = quick_face_sets(CHIP, 3)
    assert fewer.reference_names == default.reference_names
    assert torch.equal(fewer.images, default.images[:3])


# --- faces alone


def test_people_come_before_second_shots(folder):
    faces = load_faces(folder, SPEC, 19)
    assert len(set(faces.names)) == 19
    people = [Path(name).parent for name in faces.names]
    assert len(set(people[:9])) == len(set(people[9:18])) == 9
    for image, name in zip(faces.images, faces.names, strict=True):
        assert image.flatten(1).unique(dim=1).flatten().tolist() == colour_of(name)
    assert load_faces(folder, SPEC, 5).names == faces.names[:5]
    assert len({load_faces(folder, SPEC, 5, seed).names for seed in range(10)}) > 5
    (folder / "person0" / "0.png").write_bytes(b"no image")
    rest = load_faces(folder, SPEC, 26)
    assert rest.unusable == 1
    assert "person0/0.png" not in rest.names
    with pytest.raises(ValueError, match=r"holds 26 usable faces, fewer than the 27 .*\(1 images"):
        load_faces(folder, SPEC, 27)


@pytest.mark.parametrize("tight", [False, True])
def test_faces_in_other_sizes_are_found_and_aligned(tmp_path, tight):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    portrait = data.astronaut()
    face = detect_faces(portrait)[0]
    chip = align_face(portrait, face, template="arcface", size=112)
    shown = align_face(portrait, face, template="arcface", size=160) if tight else portrait
    Image.fromarray(shown).save(tmp_path / "a.png")
    (image,) = load_faces(tmp_path, CHIP, 1).images.permute(0, 2, 3, 1).float().numpy()
    assert np.abs(image - chip.astype(float))[16:96, 16:96].mean() < 12
