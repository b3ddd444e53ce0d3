"""The record of a run: nothing that was done is lost, and no two runs mix."""

import json
import multiprocessing
import os
import signal

import pytest

from captum_plq._base.folder_lock import folder_lock
from captum_plq.explanation.run_record import FacePlace, RunRecord

NAME = os.fsdecode(b"na\xff\xfeme\n\x1b[31m.jpg")
SAME = {"parameters": {"passes": 5, "write": ("figure",)}}


def opened(folder, images, identity=SAME):
    return RunRecord(folder, images, identity)


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_are_on_the_disk_as_they_are_noted_and_become_a_summary(tmp_path, monkeypatch):
    folder, synced = tmp_path / "new", []
    monkeypatch.setattr(os, "fsync", synced.append)
    with opened(folder, 2) as record:
        record.failed(FacePlace(1, 0), "b.jpg", f"{NAME} is bad: Ω")
        record.explained(FacePlace(0), {"image": NAME, "quality": 0.5})
        header, *rows = (folder / "summary.jsonl").read_text("utf-8").splitlines()
        assert len(synced) == 2
    explained, failed = {"image": NAME, "quality": 0.5}, {"image": "b.jpg"}
    failed["reason"] = f"{NAME} is bad: Ω"
    assert json.loads(header)["identity"] == {"parameters": {"passes": 5, "write": ["figure"]}}
    assert [json.loads(row) for row in rows] == [
        {"at": [1, 0, 1], "failed": failed},
        {"at": [0, 1, 1], "explained": explained},
    ]
    assert summary(folder) == {"explained": [explained], "failed": [failed]}
    assert os.fsencode(NAME) == os.fsencode(summary(folder)["explained"][0]["image"])
    assert names(folder) == ["summary.json"]
    assert (record.failures, record.replaces) == (1, False)


def test_the_summary_is_in_the_order_of_the_photos_and_their_faces(tmp_path):
    places = [FacePlace(2), FacePlace(0, 2, 2), FacePlace(10), FacePlace(0, 1, 2)]
    with opened(tmp_path, 11) as record:
        for place in places:
            record.explained(place, {"image": place})
        assert record.reached == 3
    assert summary(tmp_path)["explained"] == [{"image": list(place)} for place in sorted(places)]


def test_a_summary_is_replaced_only_by_one_with_rows(tmp_path):
    for image in ("first", "second"):
        with opened(tmp_path, 1) as record:
            record.explained(FacePlace(0), {"image": image})
        assert summary(tmp_path) == {"explained": [{"image": image}], "failed": []}
    assert record.replaces
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 1):
        raise KeyboardInterrupt
    assert names(tmp_path) == ["summary.json"]
    assert summary(tmp_path)["explained"] == [{"image": "second"}]
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 5) as record:  # noqa: PT012
        record.failed(FacePlace(0, 0), "third", "why")
        record.explained(FacePlace(1), {"image": "fourth"})
        record.explained(FacePlace(2, 1, 2), {"image": "of several faces"})
        raise KeyboardInterrupt
    found = summary(tmp_path)
    assert (len(found["explained"]), len(found["failed"])) == (2, 1)
    assert (found["interrupted"], found["not_reached"]) == ("KeyboardInterrupt", 3)


def test_the_next_run_goes_on_and_tries_again_what_failed(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 4) as record:  # noqa: PT012
        record.failed(FacePlace(0, 0), "a", "why")
        record.explained(FacePlace(1), {"image": "b"})
        record.explained(FacePlace(2, 2, 2), {"image": "c"})
        record.explained(FacePlace(3), {"image": "d"})
        raise KeyboardInterrupt
    with (tmp_path / "summary.jsonl").open("ab") as file:
        file.write(b'{"at": [0, 1')
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), opened(tmp_path, 4) as record:  # noqa: PT012
            assert (record.complete(), record.reached, record.failures) == ([1, 3], 2, 0)
            assert record.rows(2) == {FacePlace(2, 2, 2): {"image": "c"}}
            assert record.rows(0) == {}
            raise KeyboardInterrupt
    with opened(tmp_path, 4) as record:
        record.forget(1)
        assert (record.rows(1), record.reached) == ({}, 1)
        record.explained(FacePlace(0), {"image": "a"})
        record.failed(FacePlace(1, 0), "b", "is gone")
        record.explained(FacePlace(2, 1, 2), {"image": "c, too"})
        assert record.reached == 4
    assert summary(tmp_path) == {
        "explained": [{"image": image} for image in ("a", "c, too", "c", "d")],
        "failed": [{"image": "b", "reason": "is gone"}],
    }


def test_what_was_forgotten_is_not_found_by_the_run_after(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path, 1) as record:  # noqa: PT012
        record.explained(FacePlace(0, 2, 2), {"image": "old"})
        record.forget(0)
        record.explained(FacePlace(0, 1, 1), {"image": "new"})
        raise KeyboardInterrupt
    with opened(tmp_path, 1) as record:
        assert record.rows(0) == {FacePlace(0, 1, 1): {"image": "new"}}
    assert summary(tmp_path)["explained"] == [{"image": "new"}]


def test_a_full_disk_leaves_the_old_summary_and_the_rows(tmp_path, monkeypatch):
    with opened(tmp_path, 1) as record:
        record.explained(FacePlace(0), {"image": "first"})
    before = summary(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    write = os.write
    with pytest.raises(OSError, match="No"), opened(tmp_path, 1) as record:  # noqa: PT012
        record.explained(FacePlace(0), {"image": "second"})
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(OSError, match="no space is left"):
            record.explained(FacePlace(1), {"image": "half"})
        monkeypatch.setattr(os, "replace", full)
    monkeypatch.undo()
    assert summary(tmp_path) == before
    _, row = (tmp_path / "summary.jsonl").read_text().splitlines()
    assert json.loads(row)["explained"] == {"image": "second"}
    assert names(tmp_path) == ["summary.json", "summary.jsonl"]


def die(folder):
    with opened(folder, 2) as record:
        record.explained(FacePlace(0), {"image": "done"})
        os.open(folder / f".captum-plq-{os.getpid()}-0.tmp", os.O_CREAT)  # half a figure
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_leaves_its_rows_and_does_not_block(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    kept = tmp_path / "summary-2.jsonl"
    for left in (kept, None):
        with opened(tmp_path, 1, {"parameters": {**SAME["parameters"], "passes": 6}}) as record:
            record.explained(FacePlace(0), {"image": "new"})
        assert summary(tmp_path)["explained"] == [{"image": "new"}]
        assert record.left_by_another == left
        assert record.differs == ("passes 5, not 6" if left else "")
        assert json.loads(kept.read_text().splitlines()[1])["explained"] == {"image": "done"}
        assert names(tmp_path) == ["summary-2.jsonl", "summary.json"]


@pytest.mark.parametrize("at", ["[9, 1, 1]", "[-1, 1, 1]", "[0, 3, 2]", "[0]", "7", "[[], 1, 1]"])
def test_a_row_that_others_have_written_is_passed_over(tmp_path, at):
    outside = tmp_path / "photo.png"
    outside.touch()
    results = tmp_path / "results"
    with pytest.raises(KeyboardInterrupt), opened(results, 2) as record:  # noqa: PT012
        record.explained(FacePlace(1), {"image": "b"})
        raise KeyboardInterrupt
    with (results / "summary.jsonl").open("a") as file:
        file.write(f'{{"at": {at}, "explained": {{"image": "x"}}}}\n{{"forget": [1]}}\n')
        file.write('{"begun": "../photo"}\n')
    with opened(results, 2) as record:
        assert record.complete() == [1]
        assert outside.exists()


@pytest.mark.parametrize("text", ["", '{"format": "captum-plq expl', '{"format": "other"}\n'])
def test_a_file_without_rows_is_not_kept(tmp_path, text):
    (tmp_path / "summary.jsonl").write_text(text)
    with opened(tmp_path, 1) as record:
        record.explained(FacePlace(0), {"image": "new"})
    assert names(tmp_path) == ["summary.json"]


def test_one_run_at_a_time(tmp_path):
    with folder_lock(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), opened(tmp_path, 1):
            pass
        assert not (tmp_path / "summary.jsonl").exists()


def test_the_result_of_a_gallery_is_left_alone(tmp_path):
    (tmp_path / "shards.jsonl").touch()
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(ValueError, match="holds a result of `captum-plq score`"):
        opened(tmp_path, 1).__enter__()
    assert (tmp_path / "summary.json").read_text() == "{}"
    assert names(tmp_path) == ["shards.jsonl", "summary.json"]
