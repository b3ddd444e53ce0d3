"""CFP's folder of splits."""

import pytest

from benchmarks.subjects.layouts.cfp import read_cfp
from benchmarks.subjects.layouts.pair import Pair


@pytest.fixture
def protocol(tmp_path):
    root = tmp_path / "Protocol"
    for kind, view in (("F", "frontal"), ("P", "profile")):
        lines = [
            f"{2 * p + i + 1} ../Data/Images/00{p + 1}/{view}/0{i + 1}.jpg"
            for p in range(2)
            for i in range(2)
        ]
        root.mkdir(exist_ok=True)
        (root / f"Pair_list_{kind}.txt").write_text("\r\n".join(lines))
        for fold in ("01", "02"):
            folder = root / "Split" / f"F{kind}" / fold
            folder.mkdir(parents=True)
            (folder / "same.txt").write_text("1,2\n3,4\n")
            (folder / "diff.txt").write_text("1,3\n")
    return root


def test_frontal_and_profile(protocol):
    found = read_cfp(protocol / "Split" / "FP")
    people = "Data/Images/001", "Data/Images/002"
    first = "Data/Images/001/frontal/01.jpg"
    assert len(found) == 6
    assert found[0] == Pair("01", first, "Data/Images/001/profile/02.jpg", True, people[:1] * 2)
    assert found[2] == Pair("01", first, "Data/Images/002/profile/01.jpg", False, people)
    assert [pair.fold for pair in found] == ["01"] * 3 + ["02"] * 3


def test_frontal_only_needs_no_profiles(protocol):
    (protocol / "Pair_list_P.txt").unlink()
    (first, *_) = read_cfp(protocol / "Split" / "FF")
    assert first.second == "Data/Images/001/frontal/02.jpg"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("Split/FP/02/same.txt", "1,9\n", "line 1: a pair is 'i,j'"),
        ("Split/FP/02/same.txt", "1\n", "a pair is 'i,j'"),
        ("Split/FP/02/same.txt", "1,2,3\n", "a pair is 'i,j'"),
        ("Split/FP/02/same.txt", "1,3\n", "2 folders of people, but same.txt"),
        ("Split/FP/02/diff.txt", "1,2\n", "1 folders of people, but diff.txt"),
        ("Pair_list_F.txt", "one ../Data/a.jpg\n", "'number image'"),
        ("Pair_list_F.txt", "1 ../../a/b/c.jpg\n", "may lead out"),
        ("Pair_list_F.txt", "1 /a/b/c.jpg\n", "may lead out"),
    ],
)
def test_bad_files_are_refused(protocol, file, text, message):
    (protocol / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_cfp(protocol / "Split" / "FP")


def test_a_missing_file_is_named(protocol):
    (protocol / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"diff\.txt"):
        read_cfp(protocol / "Split" / "FP")
