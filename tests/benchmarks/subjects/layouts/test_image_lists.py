"""Lists of pairs of images: each layout as it should be, and its bad inputs."""

import pickle

import pytest

from benchmarks.subjects.layouts.image_lists import read_image_list
from benchmarks.subjects.layouts.pair import Pair

LFW = "2\t1\nAnn\t1\t12\nAnn\t1\tBob_Ray\t3\nCy\t2\t1\nCy\t2\tDee\t1\n"
TWOS = "Ann_0001.jpg 1\nAnn_0002.jpg 1\nBob_1.jpg 2\nBob_2.jpg 2\nAnn_0001.jpg 0\nBob_1.jpg 0\n"


@pytest.fixture
def read(tmp_path):
    def of(text, name="pairs.txt"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_image_list(tmp_path / name)

    return of


def test_csv(read):
    found = read("note,fold,first,second,mated\n,1,a/1.png,a/2.png,1\nx,2,a/1.png,b/1.png,0\n")
    assert found == [
        Pair("1", "a/1.png", "a/2.png", True, ("a", "a")),
        Pair("2", "a/1.png", "b/1.png", False, ("a", "b")),
    ]


def test_lfw(read):
    found = read(LFW)
    assert found[0] == Pair("1", "Ann/Ann_0001.jpg", "Ann/Ann_0012.jpg", True, ("Ann", "Ann"))
    other = Pair("1", "Ann/Ann_0001.jpg", "Bob_Ray/Bob_Ray_0003.jpg", False, ("Ann", "Bob_Ray"))
    assert found[1] == other
    assert [pair.fold for pair in found] == ["1", "1", "2", "2"]
    assert [pair.mated for pair in found] == [True, False] * 2
    assert len(read("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")) == 2  # as pairsDevTest.txt


def test_twos_tell_people_by_name(read):
    found = read(TWOS)
    assert [pair.mated for pair in found] == [True, True, False]
    assert found[2] == Pair("0", "Ann_0001.jpg", "Bob_1.jpg", False, ("Ann", "Bob"))
    assert [pair.fold for pair in found] == ["0", "5", "0"]
    many = "".join("a_1.jpg 1\na_2.jpg 1\n" for _ in range(20)) + "a_1.jpg 0\nb_1.jpg 0\n" * 20
    folds = [str(i // 2) for i in range(20)]
    assert [pair.fold for pair in read(many)] == folds * 2


def test_threes_tell_people_by_names_of_agedb_or_not_at_all(read):
    found = read("1_Ann_20_f.jpg 2_Ann_50_f.jpg 1\n1_Ann_20_f.jpg 3_Bob_50_m.jpg 0\n")
    assert [pair.people for pair in found] == [("Ann", "Ann"), ("Ann", "Bob")]
    numbered = read("imgs/0.jpg imgs/1.jpg 1\nimgs/2.jpg imgs/3.jpg 0\n")
    assert [pair.people for pair in numbered] == [("", "")] * 2
    assert [pair.fold for pair in numbered] == ["0", "5"]


def test_names_that_contradict_the_list_do_not_tell_people(read):
    found = read("Ann_1.jpg Ann_2.jpg 1\nAnn_1.jpg Bob_1.jpg 0\nAnn_1.jpg Bob_2.jpg 1\n")
    assert {pair.people for pair in found} == {("", "")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LFW + "Ann\t1\t2\n", "2 folds of 1 mated .* but 5 lines follow"),
        ("0\t0\n", "0 folds"),
        (LFW.replace("Ann\t1\t12", "Ann\t1\tx"), "line 2: a pair here is 'name i j'"),
        (LFW.replace("Cy\t2\tDee\t1", "Cy\t2\t1"), "line 5: a pair here is 'name i name j'"),
        (LFW.replace("Dee", "../Dee"), "line 5: .* may lead out of the folder"),
        (TWOS.removesuffix("Bob_1.jpg 0\n"), "two lines for each pair, but has 5"),
        (TWOS.replace("Ann_0002.jpg 1", "Ann_0002.jpg 0"), "line 1: a pair is two lines"),
        (TWOS.replace("Bob_2.jpg 2", "Bob_2.jpg"), "line 3: a pair is two lines"),
        (TWOS.replace("Bob_1", "/Bob_1"), "line 3: '/Bob_1.jpg' may lead out"),
        ("a b 1\na c\n", "line 2: a pair is 'image image 1'"),
        ("a b 1\na c 2\n", "line 2: a pair is 'image image 1'"),
        ("a b 1\na c 1\n", "gives 2, 2 of them mated"),
        ("a b 1\na ..\\c 0\n", "may lead out"),
        ("a b 1\na C:c 0\n", "may lead out"),
        ("fold,first,second,mated\n1,a,../b,1\n", "line 2: '../b' may lead out"),
        ("one two three four\n", "no layout read here"),
        ("a_1.jpg b_1.jpg\n", "begins with 'a_1.jpg b_1.jpg'"),
        (b"a b 1\nM\xfcller c 0\n", "not a text file in UTF-8"),
        ("", "lacks fold"),
    ],
)
def test_a_bad_list_is_refused(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(("name", "protocol"), [("agedb_30.bin", 0), ("pairs.txt", 4)])
def test_a_pickle_is_never_loaded(read, name, protocol):
    with pytest.raises(ValueError, match="unpack it to a folder"):
        read(pickle.dumps(Bomb(), protocol), name)
