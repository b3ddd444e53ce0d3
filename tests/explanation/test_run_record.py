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


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_are_on_the_disk_as_they_are_noted_and_become_a_summary(tmp_path, monkeypatch):
    folder, synced = tmp_path / "new", []
    monkeypatch.setattr(os, "fsync", synced.append)
    with RunRecord(folder, 2) as record:
        record.explained({"image": NAME, "quality": 0.5})
        record.failed("b.jpg", f"{NAME} is bad: Ω")
        rows = (folder / "summary.jsonl").read_text("utf-8").splitlines()
        assert len(synced) == 2
    explained, failed = {"image": NAME, "quality": 0.5}, {"image": "b.jpg"}
    assert json.loads(rows[0]) == {"explained": explained}
    assert len(rows) == 2
    failed["reason"] = f"{NAME} is bad: Ω"
    assert summary(folder) == {"explained": [explained], "failed": [failed]}
    assert os.fsencode(NAME) == os.fsencode(summary(folder)["explained"][0]["image"])
    assert names(folder) == ["summary.json"]
    assert (record.failures, record.replaces) == (1, False)


def test_a_summary_is_replaced_only_by_one_with_rows(tmp_path):
    for image in ("first", "second"):
        with RunRecord(tmp_path, 1) as record:
            record.explained({"image": image})
        assert summary(tmp_path) == {"explained": [{"image": image}], "failed": []}
    assert record.replaces
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, 1):
        raise KeyboardInterrupt
    assert summary(tmp_path)["explained"] == [{"image": "second"}]
    with pytest.raises(KeyboardInterrupt), RunRecord(tmp_path, 5) as record:  # noqa: PT012
        record.failed("third", "why")
        record.explained({"image": "fourth"})
        record.explained({"image": "of several faces"}, last=False)
        raise KeyboardInterrupt
    found = summary(tmp_path)
    assert (len(found["explained"]), len(found["failed"])) == (2, 1)
    assert (found["interrupted"], found["not_reached"]) == ("KeyboardInterrupt", 3)


def test_a_full_disk_leaves_the_old_summary_and_the_rows(tmp_path, monkeypatch):
    with RunRecord(tmp_path, 1) as record:
        record.explained({"image": "first"})
    before = summary(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    write = os.write
    with pytest.raises(OSError, match="No"), RunRecord(tmp_path, 1) as record:  # noqa: PT012
        record.explained({"image": "second"})
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(OSError, match="no space is left"):
            record.explained({"image": "half"})
        monkeypatch.setattr(os, "replace", full)
    monkeypatch.undo()
    assert summary(tmp_path) == before
    row = json.loads((tmp_path / "summary.jsonl").read_text())
    assert row == {"explained": {"image": "second"}}
    assert names(tmp_path) == ["summary.json", "summary.jsonl"]


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
    kept = tmp_path / "summary-2.jsonl"
    for left in (kept, None):
        with RunRecord(tmp_path, 1) as record:
            record.explained({"image": "new"})
        assert summary(tmp_path)["explained"] == [{"image": "new"}]
        assert record.left_by_another == left
        assert json.loads(kept.read_text()) == {"explained": {"image": "done"}}
        assert names(tmp_path) == ["summary-2.jsonl", "summary.json"]


def test_one_run_at_a_time_where_folders_can_be_locked(tmp_path, monkeypatch):
    with folder_lock(tmp_path):
        with pytest.raises(ValueError, match=f"process {os.getpid()}"), RunRecord(tmp_path, 1):
            pass
        assert not (tmp_path / "summary.jsonl").exists()
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UserWarning, match="cannot be locked"), RunRecord(tmp_path, 1):
        pass
