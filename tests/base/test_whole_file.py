"""A file is written whole, or what was there stays."""

import json
import os

import pytest

from captum_plq._base.whole_file import require_writable, whole_file, write_json


def test_a_name_that_is_not_utf8_survives(tmp_path):
    name = os.fsdecode(b"\xff\xfe.jpg")
    write_json(tmp_path / "a.json", {"image": name, "é": "Ω"})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert '"é": "Ω"' in text
    assert os.fsencode(json.loads(text)["image"]) == b"\xff\xfe.jpg"


def test_a_block_that_raises_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    with pytest.raises(TypeError):
        write_json(path, {"new": object()})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_only_regular_files_are_replaced(tmp_path):
    (tmp_path / "target.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("target.json")
    write_json(tmp_path / "link.json", {"a": 1})
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "target.json").read_text()) == {"a": 1}
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match="is no regular file"), whole_file(path):
            pass
        with pytest.raises(ValueError, match="to write"):
            require_writable(path, b"{")


def test_only_a_file_of_the_same_kind_in_a_folder_is_replaced(tmp_path):
    for name, content in (("a.json", b"{}"), ("empty", b""), ("photo.jpg", b"\xff\xd8")):
        (tmp_path / name).write_bytes(content)
    for name in ("a.json", "empty", "new/b.json"):
        require_writable(tmp_path / name, b"{")
    with pytest.raises(ValueError, match="of another kind"):
        require_writable(tmp_path / "photo.jpg", b"{")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    for name in ("photo.jpg/b.json", "photo.jpg/below/b.json", "link/b.json"):
        with pytest.raises(ValueError, match="is a file, not a folder"):
            require_writable(tmp_path / name, b"{")
