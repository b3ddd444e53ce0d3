"""Templates of IJB-C: the lists, and what embeddings and qualities become."""

import pytest
import torch

from benchmarks.subjects.layouts import templates
from benchmarks.subjects.layouts.pair import Pair
from benchmarks.subjects.layouts.templates import connected, pooled, read_templates

IMAGES = "1.jpg 1 7\n2.jpg 1 7\n3.jpg 1 8\n4.jpg 2 9\n5.jpg 3 1\n6.jpg 4 2\n7.jpg 5 2\n"
LABELS = "1 2 1\n3 4 1\n1 3 0\n2 3 0\n2 4 0\n1 5 0\n"


@pytest.fixture
def read(tmp_path):
    def of(images=IMAGES, labels=LABELS, **given):
        (tmp_path / "ijbc_face_tid_mid.txt").write_text(images)
        (tmp_path / "ijbc_template_pair_label.txt").write_text(labels)
        return read_templates(tmp_path, **given)

    return of


def test_pairs_and_images_of_templates(read):
    pairs, images = read()
    assert pairs[0] == Pair("", "1", "2", True)
    assert [pair.mated for pair in pairs] == [True] * 2 + [False] * 4
    assert images["1"] == [("1.jpg", "7"), ("2.jpg", "7"), ("3.jpg", "8")]
    assert set(images) == {*"12345"}


def test_a_limit_keeps_the_others_between_its_templates(read):
    labels = "".join(f"{i} {i + 20} 1\n" for i in range(20))
    labels += "".join(f"{i} {j + 20} 0\n" for i in range(20) for j in range(20) if i != j)
    lines = "".join(f"{i}.jpg {i} {i}\n" for i in range(40))
    pairs, images = read(lines, labels, limit=5, seed=1)
    assert [sum(pair.mated is kind for pair in pairs) for kind in (True, False)] == [5, 20]
    assert len(images) == 10
    assert read(lines, labels, limit=5, seed=1)[0] == pairs != read(lines, labels, limit=5)[0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": "1.jpg 1\n"}, "line 1: needs 'image template medium'"),
        ({"images": "../1.jpg 1 1\n"}, "may lead out"),
        ({"images": IMAGES.replace("4.jpg 2", "4.jpg 6")}, "1 templates without images, such as 2"),
        ({"labels": LABELS + "1 2 x\n"}, "line 7: needs 'template template label'"),
        ({"labels": "1 2 1\n"}, "gives 1, 1 of them mated"),
    ],
)
def test_bad_files_are_refused(read, given, message):
    with pytest.raises(ValueError, match=message):
        read(**given)


def test_too_many_pairs_are_refused_before_they_are_held(read, monkeypatch):
    monkeypatch.setattr(templates, "_AT_MOST", 3)
    with pytest.raises(ValueError, match="--pairs-limit"):
        read()
    assert len(read(limit=2)[0]) == 5


def test_media_count_once_whatever_their_images():
    units = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    values = {"e": units, "q": torch.tensor([1.0, 3, 8, 5], dtype=torch.float64)}
    of = {
        "t": [("a", "7"), ("b", "7"), ("c", "8"), ("gone", "8")],
        "u": [("d", "1")],
        "v": [("x", "")],
    }
    names, found = pooled(values, list("abcd"), of, "e")
    assert names == ["t", "u"]
    assert found["q"].tolist() == [5, 5]
    root = 0.5**0.5
    torch.testing.assert_close(found["e"], units.new_tensor([[root, root], [0, -1]]))
    with pytest.raises(ValueError, match="template t cancel out"):
        pooled(values, list("abcd"), {"t": [("c", "1"), ("d", "2")]}, "e")


def test_pairs_that_share_an_image_show_one_person():
    mated = [Pair("", *names, True) for names in ("ab", "cd", "be", "fc")]
    a, c, *others = connected(mated)
    assert a != c
    assert others == [a, c]
