"""Which reader a list gets, what is read of it, and who may not take it."""

import pytest

from benchmarks.subjects.pairs import Pair, PairList, read_list, read_pairs, read_pairs_of_folders


@pytest.fixture
def many(tmp_path):
    """Fifty mated pairs of fifty people and as many others, in AgeDB's lines without names."""
    lines = [f"{2 * i}.jpg {2 * i + 1}.jpg {int(i < 50)}" for i in range(100)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path / "list.txt"


def test_a_limit_draws_of_each_kind_and_keeps_the_order(many):
    found = read_list(many, 7, seed=3).pairs
    assert [sum(pair.mated is kind for pair in found) for kind in (True, False)] == [7, 7]
    everything = read_list(many).pairs
    assert found == [pair for pair in everything if pair in found]
    assert found == read_list(many, 7, seed=3).pairs != read_list(many, 7, seed=4).pairs
    assert read_list(many, 1000).pairs == everything


def test_without_people_the_others_are_read_too():
    pairs = [Pair("", "a", "b", True), Pair("", "c", "b", True), Pair("", "d", "e", False)]
    assert PairList(pairs).images() == ["a", "b", "c", "d", "e"]
    one, other = PairList(pairs).people_of(pairs[:2])
    assert one == other
    told = PairList([Pair("", p.first, p.second, p.mated, ("x", "y")) for p in pairs])
    assert told.images() == ["a", "b", "c"]
    assert told.people_of(pairs[:0]) == []


def test_folders_are_of_cfp_or_of_ijb(tmp_path):
    with pytest.raises(ValueError, match=r"neither \*/same\.txt"):
        read_list(tmp_path)
    (tmp_path / "ijbb_face_tid_mid.txt").write_text("1.jpg 1 1\n2.jpg 2 2\n3.jpg 3 3\n")
    (tmp_path / "ijbb_template_pair_label.txt").write_text("1 2 1\n1 3 0\n")
    listed = read_list(tmp_path)
    assert listed.images() == ["1.jpg", "2.jpg", "3.jpg"]
    assert not listed.tells_people
    with pytest.raises(ValueError, match="which only edc compares"):
        read_pairs(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_list(tmp_path / "nowhere.txt")


def test_who_takes_folders_for_people_refuses_others(tmp_path, many):
    with pytest.raises(ValueError, match=r"a folder for each person, .* 0\.jpg and 1\.jpg, mated"):
        read_pairs_of_folders(many)
    (tmp_path / "pairs.txt").write_text("2 1\nA 1 2\nA 1 B 1\nC 1 2\nC 1 D 1\n")
    assert len(read_pairs_of_folders(tmp_path / "pairs.txt")) == 4
