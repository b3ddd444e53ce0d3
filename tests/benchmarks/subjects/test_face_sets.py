"""Who is drawn into which set, of small images whose pixels tell which file they are."""

import dataclasses
import sys
from hashlib import md5
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch

from benchmarks.subjects.face_sets import ONE_FACE, FaceSets, face_sets, quick_face_sets
from captum_plq.faces import align_face, detect_faces, sample_face
from captum_plq.models import ModelSpec

Image = pytest.importorskip("PIL.Image", reason="needs the extra [faces]")
SMALL = ModelSpec("small", (24, 20), mean=(127.5,) * 3, std=(127.5,) * 3)
CHIP = ModelSpec("chip", (112, 112), mean=(127.5,) * 3, std=(127.5,) * 3)
NAMES = [f"{x}/{shot}.png" for x in (*"abcdef", "group/g", "group/h") for shot in range(3)]
NAMES += [f"loose{image}.png" for image in range(3)]
EVERYONE = 11


def save(path, colour, size=SMALL.input_size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), colour, np.uint8)).save(path)


def colour_of(name):
    return list(md5(name.encode()).digest()[:3])


@pytest.fixture
def folder(tmp_path):
    """Eight people with three shots each, two in a subfolder; three are one loose image each."""
    for name in NAMES:
        save(tmp_path / "faces" / name, colour_of(name))
    return tmp_path / "faces"


def assert_own_pixels(images, names):
    for image, name in zip(images, names, strict=True):
        assert image.flatten(1).unique(dim=1).flatten().tolist() == colour_of(name)


def people_of(names):
    return [name if name.startswith("loose") else str(PurePath(name).parent) for name in names]


@pytest.mark.parametrize("seed", [0, 3])
def test_nobody_is_drawn_twice_and_the_pixels_are_theirs(folder, seed, monkeypatch):
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    monkeypatch.chdir(folder / "a")
    sets = face_sets(Path(".."), SMALL, 4, EVERYONE - 4, seed)
    people = people_of(sets.names + sets.reference_names)
    assert len(people) == len(set(people)) == EVERYONE
    assert (sets.images.shape, sets.about) == ((4, 3, 24, 20), "faces")
    assert_own_pixels(sets.images, sets.names)
    assert_own_pixels(sets.reference, sets.reference_names)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])


def test_more_faces_leave_the_reference_and_are_added(folder):
    everyone, sets = (face_sets(folder, SMALL, faces, 4, seed=3) for faces in (EVERYONE - 4, 4))
    assert torch.equal(sets.reference, everyone.reference)
    assert sets.names == everyone.names[:4]
    assert torch.equal(sets.images, everyone.images[:4])


def test_the_seed_draws_people_and_shots(folder):
    drawn = {seed: face_sets(folder, SMALL, 3, 3, seed) for seed in range(12)}
    assert len({sets.digest for sets in drawn.values()}) == 12
    assert face_sets(folder, SMALL, 3, 3).digest == drawn[0].digest
    seen = {name for sets in drawn.values() for name in sets.names}
    assert {PurePath(name).name for name in seen} > {"0.png", "1.png", "2.png"}
    assert len(set(people_of(seen))) > 8


def test_unusable_images_are_skipped_for_the_persons_next(folder):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    (folder / "loose1.png").write_bytes(b"no image")
    for shot in range(3):
        (folder / "d" / f"{shot}.png").write_bytes(b"")
    save(folder / "e" / "0.png", 9, size=(8, 8))  # too small for any face
    save(folder / "e" / "1.png", 90, size=(40, 40))  # no face in it
    sets = face_sets(folder, SMALL, 7, 2, seed=1)
    names = sets.names + sets.reference_names
    assert set(people_of(names)) == set(people_of(NAMES)) - {"d", "loose1.png"}
    assert "e/2.png" in names
    with pytest.raises(ValueError, match=r"of 9 people, .* where 10 are asked for, one of each"):
        face_sets(folder, SMALL, 8, 2, seed=1)


def test_people_come_before_second_shots(folder):
    faces = face_sets(folder, SMALL, 19, 0, one_each=False)
    people = [PurePath(name).parent for name in faces.names]
    assert len(set(people[:9])) == len(set(people[9:18])) == 9
    assert len(set(faces.names)) == 19
    assert_own_pixels(faces.images, faces.names)
    assert face_sets(folder, SMALL, 5, 0, one_each=False).names == faces.names[:5]
    (folder / "a" / "0.png").write_bytes(b"no image")
    assert face_sets(folder, SMALL, 26, 0, one_each=False).unusable == 1
    with pytest.raises(ValueError, match=r"26 in all where 27 are asked for: .* 1 images"):
        face_sets(folder, SMALL, 27, 0, one_each=False)


def test_what_cannot_be_drawn_is_refused(folder, monkeypatch):
    for few in ((0, 2), (1, 1)):
        with pytest.raises(ValueError, match=r"1 face and 2 reference"):
            face_sets(folder, SMALL, *few)
    for number in ((0, 2), (1, 1), (198, 3)):
        with pytest.raises(ValueError, match=r"200 variants.*not \("):
            quick_face_sets(CHIP, *number)
    monkeypatch.setitem(sys.modules, "PIL", None)  # not taken for a bad image
    with pytest.raises(ImportError, match=r"captum-plq\[faces\]"):
        face_sets(folder, SMALL, 1, 2)


def test_the_digest_knows_each_pixel_and_name_and_nothing_else():
    pixels = torch.randint(256, (5, 3, 4, 4), generator=torch.Generator().manual_seed(0)).byte()
    sets = FaceSets(pixels[2:], ("c", "d", "e"), pixels[:2], ("a", "b"), "a folder")
    images, reference = sets.images.clone(), sets.reference.clone()
    images[2, 2, 3, 3] += 1
    reference[0, 0, 0, 0] += 1
    changes = [
        {"images": images},
        {"reference": reference},
        {"images": sets.images.mT},
        {"names": ("d", "c", "e")},
        {"names": ("c", "d", "e", "a"), "reference_names": ("b",)},
    ]
    different = [dataclasses.replace(sets, **change).digest for change in changes]
    assert len({sets.digest, *different}) == len(changes) + 1
    last = sets.images.contiguous(memory_format=torch.channels_last)
    same = dataclasses.replace(sets, images=last, about="elsewhere", warning="careful")
    assert same.digest == sets.digest


def test_the_quick_set_is_variants_that_are_what_their_names_say():
    sets = quick_face_sets(CHIP, 150, 50)
    pixels = torch.cat([sets.reference, sets.images])
    names = sets.reference_names + sets.names
    assert len({image.numpy().tobytes() for image in pixels}) == len(set(names)) == 200
    assert (sets.warning, sets.about) == (ONE_FACE, "the sample face")
    chip = sample_face().chip.astype(int)
    apart = {"as it is": [], "blur": [], "noise": [], "fewer pixels": []}
    for image, name in zip(pixels.permute(0, 2, 3, 1).numpy(), names, strict=True):
        which, shift, how = name.split(", ")
        down, right = map(int, shift.split())
        rows, columns = ((np.arange(112) - by).clip(0, 111) for by in (down, right))
        if which == "sample mirrored":
            columns = 111 - columns
        apart[how].append(image - chip[rows][:, columns])
    assert [len(differences) for differences in apart.values()] == [50] * 4
    assert not np.any(apart.pop("as it is"))
    for difference in (x for differences in apart.values() for x in differences):
        assert 0.5 < np.abs(difference).mean() < 8  # mild, but there; on the whole as bright
        assert np.abs(difference.mean()) < 1.5
    assert np.std(apart["noise"]) == pytest.approx(5, abs=0.3)
    default, fewer = quick_face_sets(CHIP), quick_face_sets(CHIP, 3)
    assert default.digest == quick_face_sets(CHIP, 8, 16, 0).digest
    assert default.digest != quick_face_sets(CHIP, seed=1).digest
    assert fewer.reference_names == default.reference_names
    assert torch.equal(fewer.images, default.images[:3])


@pytest.mark.parametrize("tight", [False, True])
def test_faces_in_other_sizes_are_found_and_aligned(tmp_path, tight):
    pytest.importorskip("dlib", reason="needs the extra [faces]")
    portrait = pytest.importorskip("skimage.data", reason="needs scikit-image").astronaut()
    face = detect_faces(portrait)[0]
    chip = align_face(portrait, face, template="arcface", size=112)
    shown = align_face(portrait, face, template="arcface", size=160) if tight else portrait
    Image.fromarray(shown).save(tmp_path / "a.png")
    (image,) = face_sets(tmp_path, CHIP, 1, 0).images.permute(0, 2, 3, 1).float().numpy()
    assert np.abs(image - chip.astype(float))[16:96, 16:96].mean() < 12
