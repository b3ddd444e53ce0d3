"""Sources: what is listed, in which order, and how it is read."""

import io
import os
import sys
import tarfile

import pytest
from PIL import Image

from captum_plq.errors import MissingExtraError
from captum_plq.faces import ImageError
from captum_plq.preparation import list_entries, list_photos, read_entry

pa = pytest.importorskip("pyarrow")


def png(side=20):
    sink = io.BytesIO()
    Image.new("RGB", (side, side)).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def folder(tmp_path):
    for name in ("b/2.png", "a/1.png", "a/notes.txt", "3.JPG"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    return tmp_path / "photos"


def paths(*asked):
    return [entry.path for entry in list_entries(*asked)]


def test_a_folder_a_pattern_and_an_image(folder, monkeypatch):
    assert paths(folder) == ["3.JPG", "a/1.png", "b/2.png"]
    monkeypatch.chdir(folder.parent)
    assert paths("photos/**/*.png") == ["photos/a/1.png", "photos/b/2.png"]
    assert paths(folder / "3.JPG") == ["3.JPG"]
    for entry in list_entries("photos/*/*.png"):
        assert read_entry(entry) == png()


def test_lists_and_tables(folder):
    text = f"\ufeffphotos/a/1.png\r\n\n{folder}/3.JPG\nphotos/gone.png\n"
    lines = folder.parent / "list.txt"
    lines.write_text(text, "utf-8")
    expected = ["photos/a/1.png", f"{folder}/3.JPG", "photos/gone.png"]
    assert paths(lines) == expected
    assert [entry.index for entry in list_entries(lines)] == [0, 1, 2]
    read = list_entries(lines)
    assert read_entry(read[1]) == png()
    with pytest.raises(ImageError) as refused:
        read_entry(read[2])
    assert refused.value.reason == "missing"
    table = pa.table({"id": [1, 2, 3], "path": expected})
    pa.parquet = pytest.importorskip("pyarrow.parquet")
    pa.parquet.write_table(table, folder.parent / "t.parquet")
    pytest.importorskip("pyarrow.csv").write_csv(table, folder.parent / "t.csv")
    assert paths(folder.parent / "t.parquet") == paths(folder.parent / "t.csv") == expected
    other = folder.parent / "other.csv"
    other.write_text("id,where\n7,photos/3.JPG\n8,\n")
    assert paths(other, "where") == ["photos/3.JPG", ""]
    with pytest.raises(ValueError, match=r"its columns are id, where: give --column"):
        list_entries(other)
    with pytest.raises(ValueError, match="there is no 'file'"):
        list_entries(other, "file")


def add(archive, name, data=b"", kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = len(data), kind, link
    archive.addfile(member, io.BytesIO(data))


EVIL = {
    "../../evil.png": (png(), tarfile.REGTYPE, ""),
    "/etc/evil.png": (png(), tarfile.REGTYPE, ""),
    "link.png": (b"", tarfile.SYMTYPE, "/etc/passwd"),
    "hard.png": (b"", tarfile.LNKTYPE, "../../evil.png"),
    "fifo.png": (b"", tarfile.FIFOTYPE, ""),
    "device.png": (b"", tarfile.CHRTYPE, ""),
    "empty.png": (b"", tarfile.REGTYPE, ""),
    "a.json": (b"{}", tarfile.REGTYPE, ""),
    "last.png": (png(), tarfile.REGTYPE, ""),
}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as file:
        for name, parts in EVIL.items():
            add(file, name, *parts)
    return path


def test_an_archive_is_read_in_place(archive):
    entries = list_entries(archive)
    names = [name for name in EVIL if name.endswith(".png")]
    assert [entry.path for entry in entries] == [f"evil.tar::{name}" for name in names]
    assert {entry.file for entry in entries} == {str(archive)}
    reasons = {}
    for entry in entries:
        try:
            assert read_entry(entry) == png()
        except ImageError as error:
            reasons[entry.path.partition("::")[2]] = error.reason
    special = dict.fromkeys(("link.png", "hard.png", "fifo.png", "device.png"), "not_a_file")
    assert reasons == {**special, "empty.png": "empty"}


def test_an_archive_that_is_cut_off_or_none(archive, tmp_path):
    whole, sound = archive.read_bytes(), [entry.path for entry in list_entries(archive)]
    archive.write_bytes(whole[: whole.rindex(b"\x89PNG") + 20])
    *_, last = list_entries(archive)
    assert last.path == "evil.tar::last.png"
    with pytest.raises(ImageError, match="is cut off") as refused:
        read_entry(last)
    assert refused.value.reason == "damaged"
    header = whole.rindex(b"last.png")  # its header follows a.json
    for cut in (header, header + 100, header - 600):  # also within a.json, and its header
        archive.write_bytes(whole[:cut])
        *images, last = list_entries(archive)
        assert [entry.path for entry in images] == sound[:-1]
        assert last.path == "evil.tar::what follows"
        with pytest.raises(ImageError, match="is cut off: its archive ends before it"):
            read_entry(last)
    archive.write_bytes(whole[:header] + b"x" * 512 + whole[header + 512 :])
    assert [entry.path for entry in list_entries(archive)][-1] == "evil.tar::what follows"
    archive.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="not a tar archive, or is damaged"):
        list_entries(archive)
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(ValueError, match="is compressed"):
        list_entries(tmp_path / "a.tar.gz")


def test_several_archives(archive, tmp_path):
    (tmp_path / "f.tar").write_bytes(archive.read_bytes())
    entries = list_entries(tmp_path / "*.tar")
    assert len(entries) == 16
    assert entries[8].path.endswith("f.tar::../../evil.png")
    assert entries.anchor() == str(tmp_path)
    assert entries.digest() != list_entries(archive).digest()
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match="images and archives"):
        list_entries(tmp_path / "*.*")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a POSIX file system")
def test_what_is_no_source(tmp_path, folder):
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").touch()
    for name, kind, message in (
        ("nowhere", FileNotFoundError, "There is no folder"),
        ("no*where", ValueError, "matches no file"),
        ("fifo.txt", ValueError, "no regular file"),
        ("empty.txt", ValueError, "lists no images"),
        ("empty", ValueError, "holds no images"),
        ("notes.md", ValueError, "no list, table or archive by its name"),
    ):
        with pytest.raises(kind, match=message):
            list_entries(tmp_path / name)
    with pytest.raises(ValueError, match="no regular file"):
        list_entries("/dev/zero")


def test_names_that_are_not_utf_8(tmp_path):
    name = os.fsdecode(b"\xff.png")
    try:
        (tmp_path / name).write_bytes(png())
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (entry,) = list_entries(tmp_path)
    assert os.fsencode(entry.path) == b"\xff.png"
    assert entry.text == "\\xff.png"
    assert read_entry(entry) == png()


def test_the_anchor_is_the_deepest_folder_of_all(tmp_path, folder):
    lines = tmp_path / "list.txt"
    lines.write_text("photos/a/1.png\nphotos/b/2.png\n")
    assert list_entries(lines).anchor() == str(folder)
    lines.write_text(f"photos/a/1.png\n{folder}/a/../b/2.png\n")
    assert folder.is_relative_to(list_entries(lines).anchor())
    assert list_entries(folder / "3.JPG").anchor() == str(folder)


def test_several_sources_are_named_as_seen_from_here(folder, archive, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (folder / "list.txt").write_text("a/1.png\n/elsewhere/2.png\n")
    (folder / "notes.md").write_text("no image")
    given = ["gone.png", "photos", "photos/list.txt", "evil.tar", "*/3.JPG", "photos/notes.md"]
    entries = list_photos(given)
    found = [entry.path for entry in entries]
    expected = ["gone.png", "photos/3.JPG", "photos/a/1.png", "photos/b/2.png"]
    expected += ["photos/a/1.png", "/elsewhere/2.png"]
    expected += [entry.path for entry in list_entries("evil.tar")]
    assert found == [*expected, "photos/3.JPG", "photos/notes.md"]
    assert [entry.index for entry in entries] == list(range(len(found)))
    for index in (1, 4, found.index("evil.tar::last.png"), len(found) - 2):
        assert read_entry(entries[index]) == png()
    assert entries.anchor() == os.sep
    again = list_photos(given[::-1])
    assert (len(again), again.digest() == entries.digest()) == (len(entries), False)


def test_results_of_earlier_runs_are_no_photos(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    for source in ("photos", "photos/**/*.*"):
        names = [entry.path for entry in list_photos([source], results="photos/b")]
        assert "photos/a/1.png" in names
        assert not any(name.startswith("photos/b") for name in names)
    assert len(list_photos(["photos/b/2.png"], results="photos/b")) == 1  # named by itself
    with pytest.raises(ValueError, match="would lie among the photos of photos/b"):
        list_photos(["photos/b"], results="photos/b")
    with pytest.raises(ValueError, match="but the results of earlier runs"):
        list_photos(["photos/b"], results="photos")


def test_only_tables_need_pyarrow(folder, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (folder / "t.csv").write_text("path\na/1.png\n")
    assert len(list_photos([folder, folder / "3.JPG", f"{folder}/*/*.png"])) == 6
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[gallery\]'"):
        list_photos([folder / "t.csv"])
