"""Eighty files and requests that the page may get: a sentence each, and nothing left behind."""

import re
import tempfile

import pytest
from skimage import data

from tests.web import files

PORTRAIT = data.astronaut()[:300, 80:380].copy()
REFUSED = files.refused(PORTRAIT)
PHOTOS = files.photos(PORTRAIT)


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path, monkeypatch):
    """A folder for temporary files stays empty, and none is made and removed."""
    folder, made = tmp_path / "temporary", []
    folder.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", lambda self: made.append(self))
    yield
    assert tempfile.gettempdir() == str(folder)
    assert [*folder.iterdir(), *(tmp_path / "here").iterdir(), *made] == []


def assert_a_sentence(answer):
    told = answer.json()
    assert list(told) == ["error"]
    sentence = told["error"]
    assert re.fullmatch(r"[A-Z][^\n]{20,299}\.", sentence), sentence
    assert not re.search(r"Traceback|Error\b|site-packages|0x[0-9a-f]{6}|<_io", sentence), sentence
    assert not re.search(r"\.( [A-Z]|$).*\. ", sentence), f"more than one: {sentence}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_assessed_gets_one_sentence(client, post, caplog, name):
    content, status = REFUSED[name]
    answer = post(client, content, name)
    assert answer.status_code == status, answer.text
    assert_a_sentence(answer)
    assert caplog.text == ""  # no fault of the server


JARGON = (
    r"[Cc]hunk|IDAT|checksum|marker|codestream|decoder|bytes|Pillow|Plugin|PNG file|Corrupt|b'|"
    r"Truncated|floating|bits?\b|segment|scans|\("
)


@pytest.mark.parametrize("name", [name for name, (_, status) in REFUSED.items() if status == 422])
def test_a_damaged_file_is_told_without_the_words_of_a_library(client, post, name):
    sentence = post(client, REFUSED[name][0], name).json()["error"]
    assert not re.search(JARGON, sentence), sentence


@pytest.mark.parametrize("name", PHOTOS)
def test_what_holds_a_face_is_assessed_however_it_is_kept(client, post, name):
    answer = post(client, PHOTOS[name], name)
    assert answer.status_code == 200, answer.text
    assert answer.json()["quality"] > 0.5
    assert ("several" in name) == any("2 faces" in x for x in answer.json()["warnings"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../../../etc/cron.d/x.jpg", "image/jpeg"),
        ("C:\\windows\\x.jpg", "image/jpeg"),
        ("fotó 😀.jpg", "image/jpeg"),
        ("<script>.jpg", "text/html"),
        ("x.exe", "application/x-msdownload"),
        ("x" * 250 + ".jpg", "image/jpeg"),
        ("-rf *.jpg", "nonsense"),
    ],
)
def test_name_and_type_that_a_client_gives_do_not_matter(client, good, name, kind):
    answer = client.post("/api/photo", files={"photo": (name, good, kind)})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({}, 400),
        ({"content": b"raw bytes", "headers": {"Content-Type": "image/jpeg"}}, 400),
        ({"json": {"photo": "data:image/png;base64,AAAA"}}, 400),
        ({"data": {"photo": "a string"}}, 400),
        ({"files": {"picture": ("a.jpg", b"x")}}, 400),
        ({"files": [("photo", ("a.jpg", b"x")), ("photo", ("b.jpg", b"y"))]}, 400),
        ({"files": [("photo", (f"{i}.jpg", b"x")) for i in range(40)]}, 400),
        ({"files": {"photo": ("a.jpg", b"x")}, "data": {f"f{i}": "x" for i in range(99)}}, 400),
        (
            {
                "content": b"--x\r\n" * 5000,
                "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            },
            400,
        ),
        (
            {"content": b"\0" * 99, "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
        ),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        (
            {
                "content": b"x",
                "headers": {"Content-Type": "multipart/form-data; boundary=" + "x" * 999},
            },
            400,
        ),
    ],
)
def test_a_request_without_one_photo_gets_one_sentence(client, request_, status):
    for path in ("/api/photo", "/api/what-if"):
        answer = client.post(path, **request_)
        assert answer.status_code == status, answer.text
        assert_a_sentence(answer)


def test_a_body_in_chunks_whose_length_is_not_told_is_cut_off(client):
    def long():
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a"\r\n\r\n'
        for _ in range(500):
            yield b"x" * 2**16

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = client.post("/api/photo", content=long(), headers=kind)
    assert answer.status_code == 413
    assert_a_sentence(answer)


@pytest.mark.parametrize("region", [None, "beard", "<b>", "'; drop", "mouth,,", "m" * 900])
def test_what_if_of_a_bad_region_gets_one_sentence(client, post, good, region):
    fields = {} if region is None else {"region": region}
    answer = post(client, good, path="/api/what-if", data=fields)
    assert answer.status_code == 422
    assert_a_sentence(answer)


def test_what_if_of_a_bad_file_is_answered_as_the_photo_is(client, post):
    for name in ("empty.jpg", "half.jpg", "huge.png", "paper.pdf", "noise.png"):
        content, status = REFUSED[name]
        answer = post(client, content, name, path="/api/what-if", data={"region": "mouth"})
        assert answer.status_code == status
        assert_a_sentence(answer)


def test_after_all_of_them_a_good_photo_is_answered_as_before(client, post, good):
    answer = post(client, good)
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "nothing to correct"


def test_there_are_more_than_thirty_kinds():
    assert len(REFUSED) >= 45
    assert len(PHOTOS) >= 15
