"""The record of a run: nothing that was done is lost, and no two runs mix."""

import json
import multiprocessing
import os
import signal

import pytest

from captum_plq.explanation.run_record import RunRecord, folder_lock

NAME = os.fsdecode(b"na\xff\xfeme\n\x1b[31m.jpg")


def summary(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


def some_rows(record):
    record.explained({"image": NAME, "quality": 0.5})
    record.failed("b.jpg", f"{NAME} is bad: Ω")


def test_rows_are_on_the_disk_as_they_are_noted_and_become_a_summary(tmp_path):
    folder = tmp_path / "new"
    with RunRecord(folder, 2) as record:
        some_rows(record)
        lines = (folder / "summary.jsonl").read_text("utf-8").splitlines()
        assert json.loads(lines[0]) == {"explained": {"image": NAME, "quality": 0.5}}
        assert len(lines) == 2
    found = summary(folder)
    assert found == {
        "explained": [{"image": NAME, "quality": 0.5}],
        "failed": [{"image": "b.jpg", "reason": f"{NAME} is bad: Ω"}],
    }
    assert os.fsencode(found["explained"][0]["image"]) == b"na\xff\xfeme\n\x1b[31m.jpg"
    assert [path.name for path in folder.iterdir()] == ["summary.json"]
    assert (record.failures, record.replaces) == (1, False)


def test_an_interrupted_run_says_so(tmp_path):
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, 5) as record:  # noqa: PT012
        some_rows(record)
        record.explained({"image": "of several faces"}, last=False)
        raise KeyboardInterrupt
    found = summary(tmp_path)
    assert (len(found["explained"]), len(found["failed"])) == (2, 1)
    assert (found["interrupted"], found["not_reached"]) == ("KeyboardInterrupt", 3)


def test_an_earlier_summary_is_replaced_only_by_one_with_rows(tmp_path):
    with RunRecord(tmp_path, 1) as record:
        record.explained({"image": "first"})
    before = summary(tmp_path)
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, 1):
        raise KeyboardInterrupt
    assert summary(tmp_path) == before
    with RunRecord(tmp_path, 1) as record:
        record.explained({"image": "second"})
    assert record.replaces
    assert summary(tmp_path)["explained"] == [{"image": "second"}]


def test_a_summary_that_cannot_be_written_leaves_the_old_one_and_the_rows(tmp_path, monkeypatch):
    with RunRecord(tmp_path, 1) as record:
        record.explained({"image": "first"})
    before = summary(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No"), RunRecord(tmp_path, 1) as record:  # noqa: PT012
        record.explained({"image": "second"})
        monkeypatch.setattr(os, "replace", full)
    monkeypatch.undo()
    assert summary(tmp_path) == before
    assert "second" in (tmp_path / "summary.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["summary.json", "summary.jsonl"]


def die(folder):
    with RunRecord(folder, 2) as record:
        record.explained({"image": "done"})
        os.open(folder / f".captum-plq-{os.getpid()}-0.tmp", os.O_CREAT)  # half a figure
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_run_leaves_its_rows_and_does_not_block(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for number in (2, 3):
        with RunRecord(tmp_path, 1) as record:
            record.explained({"image": "new"})
        assert summary(tmp_path)["explained"] == [{"image": "new"}]
        kept = tmp_path / "summary-2.jsonl"
        assert record.left_by_another == (kept if number == 2 else None)
        assert json.loads(kept.read_text()) == {"explained": {"image": "done"}}
        assert {path.name for path in tmp_path.iterdir()} == {"summary.json", kept.name}


def test_one_run_at_a_time(tmp_path):
    with folder_lock(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), RunRecord(tmp_path, 1):
            pass
        assert not (tmp_path / "summary.jsonl").exists()
    with RunRecord(tmp_path, 1):
        pass


@pytest.mark.parametrize("place", ["file", "file/below", "link"])
def test_a_folder_that_is_none_is_refused(tmp_path, place):
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    with pytest.raises(ValueError, match="is a file, not a folder"), RunRecord(tmp_path / place, 1):
        pass
    assert (tmp_path / "file").read_text() == "x"
