"""Who is drawn into which set, of small images whose pixels tell which file they are."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.subjects.face_sets import ONE_FACE, FaceSets, face_sets, quick_face_sets
from captum_plq.faces import sample_face
from captum_plq.models import ModelSpec

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
SPEC = ModelSpec("small", (24, 20), mean=(127.5,) * 3, std=(127.5,) * 3)
CHIP = ModelSpec("chip", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3)
PEOPLE, SHOTS, LOOSE = 8, 3, 3


def save(path, colour, size=(24, 20)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Eight people with three shots each, and three that are one loose image each."""
    for person in range(PEOPLE):
        for shot in range(SHOTS):
            save(tmp_path / f"person{person}" / f"{shot}.png", (person, shot, 7))
    for image in range(LOOSE):
        save(tmp_path / f"loose{image}.png", (100 + image, 0, 7))
    return tmp_path


def colour_of(name):
    if name.startswith("loose"):
        return [100 + int(name.removeprefix("loose").removesuffix(".png")), 0, 7]
    person, shot = name.removeprefix("person").removesuffix(".png").split("/")
    return [int(person), int(shot), 7]


def people_of(names):
    return [name.split("/")[0] for name in names]


def both(sets):
    return [(sets.reference, sets.reference_names), (sets.images, sets.names)]


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_drawn_twice_and_the_pixels_are_theirs(folder, seed):
    everyone = PEOPLE + LOOSE
    sets = face_sets(folder, SPEC, 4, everyone - 4, seed)
    people = people_of(sets.names + sets.reference_names)
    assert len(people) == everyone
    assert len(set(people)) == everyone
    for (images, names), count in zip(both(sets), (everyone - 4, 4), strict=True):
        assert images.shape == (count, 3, 24, 20)
        assert images.dtype == torch.uint8
        for image, name in zip(images, names, strict=True):
            assert image.flatten(1).unique(dim=1).flatten().tolist() == colour_of(name)
    assert sets.about == folder.name
    assert sets.warning == ""


def test_people_in_subfolders_of_subfolders(tmp_path):
    for group in ("a", "b"):
        for person in range(2):
            for shot in range(2):
                save(tmp_path / group / f"p{person}" / f"{shot}.png", (person, shot, 0))
    sets = face_sets(tmp_path, SPEC, 2, 2)
    people = {str(Path(name).parent) for name in sets.names + sets.reference_names}
    assert people == {"a/p0", "a/p1", "b/p0", "b/p1"}


@pytest.mark.parametrize("broken", [False, True])
def test_more_faces_leave_the_reference_and_are_added(folder, broken):
    if broken:
        for i in range(0, PEOPLE, 2):
            (folder / f"person{i}" / "1.png").write_bytes(b"no image")
    everyone = face_sets(folder, SPEC, PEOPLE + LOOSE - 4, 4, seed=3)
    for faces in range(1, PEOPLE + LOOSE - 4):
        sets = face_sets(folder, SPEC, faces, 4, seed=3)
        assert sets.reference_names == everyone.reference_names
        assert torch.equal(sets.reference, everyone.reference)
        assert sets.names == everyone.names[:faces]
        assert torch.equal(sets.images, everyone.images[:faces])


def test_the_seed_draws_people_and_shots(folder):
    drawn = {}
    for seed in range(12):
        sets = face_sets(folder, SPEC, 3, 3, seed)
        again = face_sets(folder, SPEC, 3, 3, seed)
        assert (again.names, again.reference_names) == (sets.names, sets.reference_names)
        assert again.digest == sets.digest
        drawn[sets.digest] = sets
    assert len(drawn) == 12
    seen = {name for sets in drawn.values() for name in sets.names}
    assert len({name.split("/")[1] for name in seen if "/" in name}) == SHOTS
    assert len(set(people_of(seen))) > PEOPLE
    default = face_sets(folder, SPEC, 3, 3)
    assert default.digest == face_sets(folder, SPEC, 3, 3, 0).digest


@pytest.mark.parametrize("seed", range(4))
def test_unusable_images_are_skipped_for_the_persons_next(folder, seed):
    (folder / "loose1.png").write_bytes(b"no image")
    for shot in range(SHOTS):
        (folder / "person3" / f"{shot}.png").write_bytes(b"")
    for shot in range(SHOTS - 1):
        save(folder / "person5" / f"{shot}.png", 9, size=(8, 8))  # too small for any face
    (folder / "person6" / "notes.txt").write_text("not even called one")
    usable = PEOPLE + LOOSE - 2
    sets = face_sets(folder, SPEC, usable - 2, 2, seed)
    names = sets.names + sets.reference_names
    assert len(set(people_of(names))) == len(names) == usable
    assert not {"person3", "loose1.png"} & set(people_of(names))
    assert "person5/2.png" in names
    message = f"{folder.name} holds usable faces of 9 people, but 8 to evaluate and 2 for the ref"
    with pytest.raises(ValueError, match=message):
        face_sets(folder, SPEC, usable - 1, 2, seed)


def test_images_without_a_face_are_skipped(folder):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    save(folder / "loose0.png", 90, size=(40, 40))
    names = face_sets(folder, SPEC, PEOPLE, 2).names
    assert "loose0.png" not in names
    with pytest.raises(ValueError, match="of 10 people, but 9 to"):
        face_sets(folder, SPEC, PEOPLE + 1, 2)


@pytest.mark.parametrize(("faces", "reference"), [(0, 2), (1, 1), (-1, 5), (3, 0)])
def test_too_small_numbers(folder, faces, reference):
    with pytest.raises(ValueError, match=rf"1 face and 2 reference.*\({faces}, {reference}\)"):
        face_sets(folder, SPEC, faces, reference)
    with pytest.raises(ValueError, match=rf"200 variants.*not \({faces}, {reference}\)"):
        quick_face_sets(CHIP, faces, reference)


def test_folders_without_images(folder):
    with pytest.raises(FileNotFoundError, match="no folder"):
        face_sets(folder / "nowhere", SPEC, 1, 2)
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no images"):
        face_sets(folder / "empty", SPEC, 1, 2)


def test_a_missing_extra_is_not_taken_for_a_bad_image(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"captum-plq\[faces\]"):
        face_sets(folder, SPEC, 1, 2)
    with pytest.raises(ImportError, match=r"captum-plq\[faces\]"):
        quick_face_sets(CHIP, 1, 2)


def test_the_folder_one_stands_in_has_a_name_too(folder, monkeypatch):
    monkeypatch.chdir(folder / "person0")
    save(folder / "person0" / "3.png", 1)
    assert face_sets(Path("."), SPEC, 1, 2).about == "person0"
    above = face_sets(Path(".."), SPEC, 1, 2)
    assert above.about == folder.name
    assert above.digest == face_sets(folder, SPEC, 1, 2).digest


# --- digest --------------------------------------------------------------------------------


def small_sets(**changed):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (5, 3, 4, 4), generator=generator).byte()
    sets = FaceSets(pixels[2:], ("c", "d", "e"), pixels[:2], ("a", "b"), "a folder")
    return dataclasses.replace(sets, **changed)


def one_pixel_more(pixels, *place):
    changed = pixels.clone()
    changed[place] += 1
    return changed


def test_the_digest_knows_each_pixel_and_name():
    sets = small_sets()
    assert len(sets.digest) == 16
    int(sets.digest, 16)
    different = [
        small_sets(images=one_pixel_more(sets.images, 0, 0, 0, 0)),
        small_sets(images=one_pixel_more(sets.images, 2, 2, 3, 3)),
        small_sets(reference=one_pixel_more(sets.reference, 0, 0, 0, 0)),
        small_sets(reference=one_pixel_more(sets.reference, 1, 2, 3, 3)),
        small_sets(images=sets.images.flip(0)),
        small_sets(images=sets.images.mT),
        small_sets(names=("c", "d", "f")),
        small_sets(names=("d", "c", "e")),
        small_sets(reference_names=("a", "c")),
        small_sets(names=("c", "d", "e", "a"), reference_names=("b",)),
        FaceSets(sets.reference, ("a", "b"), sets.images, ("c", "d", "e"), "a folder"),
    ]
    assert len({sets.digest, *(other.digest for other in different)}) == len(different) + 1


def test_the_digest_knows_nothing_else():
    sets = small_sets()
    last = sets.images.contiguous(memory_format=torch.channels_last)
    assert small_sets(images=last, about="elsewhere", warning="careful").digest == sets.digest
    assert small_sets(reference=sets.reference.mT.contiguous().mT).digest == sets.digest


def test_the_digest_tells_of_a_changed_file(folder):
    before = face_sets(folder, SPEC, 2, 2)
    assert face_sets(folder, SPEC, 2, 2).digest == before.digest
    pixels = before.images[1].permute(1, 2, 0).numpy().copy()
    pixels[3, 4, 1] += 1
    Image.fromarray(pixels).save(folder / before.names[1])
    after = face_sets(folder, SPEC, 2, 2)
    assert after.names == before.names
    assert after.digest != before.digest


# --- the quick set -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_variant():
    return quick_face_sets(CHIP, 150, 50)


def test_all_variants_are_different(every_variant):
    pixels = torch.cat([every_variant.reference, every_variant.images])
    assert pixels.shape == (200, 3, 112, 112)
    assert pixels.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in pixels}) == 200
    assert len(set(every_variant.names + every_variant.reference_names)) == 200
    assert len(every_variant.names) == len(every_variant.images) == 150
    assert every_variant.warning == ONE_FACE
    assert "ONE face" in ONE_FACE
    assert every_variant.about == "the sample face"


def test_variants_are_what_their_names_say(every_variant):
    chip = sample_face().chip.astype(int)
    plain, apart = 0, {"blur": [], "noise": [], "fewer pixels": []}
    for images, names in both(every_variant):
        for image, name in zip(images.permute(0, 2, 3, 1).numpy(), names, strict=True):
            which, shift, how = name.split(", ")
            down, right = map(int, shift.split())
            rows = [min(max(row - down, 0), 111) for row in range(112)]
            columns = [min(max(column - right, 0), 111) for column in range(112)]
            if which == "sample mirrored":
                columns = [111 - column for column in columns]
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


def test_the_quick_set_has_200_at_most(every_variant):
    most = quick_face_sets(CHIP, 198, 2)
    assert most.images.shape[0] == 198
    order = every_variant.reference_names + every_variant.names
    assert most.reference_names + most.names == order
    with pytest.raises(ValueError, match=r"200 variants.*not \(198, 3\)"):
        quick_face_sets(CHIP, 198, 3)
    with pytest.raises(ValueError, match=r"200 variants.*not \(199, 2\)"):
        quick_face_sets(CHIP, 199, 2)


def test_the_quick_set_is_drawn_by_its_seed():
    default = quick_face_sets(CHIP)
    assert (len(default.images), len(default.reference)) == (8, 16)
    assert default.digest == quick_face_sets(CHIP, 8, 16, 0).digest
    assert len({quick_face_sets(CHIP, seed=seed).digest for seed in range(5)}) == 5
    fewer = quick_face_sets(CHIP, 3)
    assert fewer.reference_names == default.reference_names
    assert torch.equal(fewer.reference, default.reference)
    assert fewer.names == default.names[:3]
    assert torch.equal(fewer.images, default.images[:3])


def test_drawing_leaves_the_random_state(folder):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    face_sets(folder, SPEC, 2, 2)
    quick_face_sets(CHIP, 2, 2)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])
