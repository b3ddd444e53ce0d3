"""Photos that are kept, and those that are not."""

import json
import stat
from pathlib import Path

import pytest

from captum_plq.web.keep import Keeper


def test_a_photo_is_kept_as_it_was_sent_beside_its_answer(tmp_path, good):
    folder = tmp_path / "kept"
    Keeper(folder).keep(good, {"verdict": "retake", "face": "data:", "map": None, "quality": 0.5})
    image, record = sorted(folder.iterdir(), key=lambda path: path.suffix)
    assert (image.suffix, record.suffix) == (".jpeg", ".json")
    assert image.stem == record.stem
    assert image.read_bytes() == good
    told = json.loads(record.read_text("utf-8"))
    assert {"verdict", "quality", "time"} == set(told)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_server_keeps_only_what_it_is_told_to(serve, post, tmp_path, good, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert post(serve(), good).status_code == 200
    assert list(tmp_path.iterdir()) == []
    client = serve(keep=tmp_path / "kept")
    assert client.get("/api/about").json()["keeps"] is True
    for _ in range(2):
        assert post(client, good, name="../../../evil.jpg").json()["warnings"] == []
    assert post(client, good, path="/api/what-if", data={"region": "mouth"}).status_code == 200
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert len(list((tmp_path / "kept").iterdir())) == 4


def test_a_photo_that_cannot_be_kept_is_answered_all_the_same(serve, post, tmp_path, good, caplog):
    client = serve(keep=tmp_path / "kept")
    (tmp_path / "kept").rmdir()
    answer = post(client, good)
    assert answer.status_code == 200
    assert "could not be written" in answer.json()["warnings"][0]
    assert "could not be kept" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(serve, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (file, file / "below", Path("/proc")):
        with pytest.raises(OSError, match=r"cannot be kept in .*: name a folder"):
            serve(keep=folder)
