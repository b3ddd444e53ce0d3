"""Forms: what is taken of them, what is refused, and that all of it stays in memory."""

import asyncio
import tempfile

import pytest
from starlette.requests import Request

from captum_plq.web import RefusedError
from captum_plq.web.upload import Body, read_upload

BOUNDARY = "limit"


def form(*parts):
    """The bytes of a form of (headers, content)."""
    body = b"".join(
        b"--%s\r\n%s\r\n\r\n%s\r\n" % (BOUNDARY.encode(), head.encode(), content)
        for head, content in parts
    )
    return body + b"--%s--\r\n" % BOUNDARY.encode()


PHOTO = 'Content-Disposition: form-data; name="photo"; filename="{}"'
FIELD = 'Content-Disposition: form-data; name="{}"'


def request(messages, kind=f"multipart/form-data; boundary={BOUNDARY}"):
    """A request that brings messages, and then never anything again."""
    waiting = list(messages)

    async def receive():
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


def parts_of(body, size=1000):
    chunks = [body[i : i + size] for i in range(0, len(body), size)] or [b""]
    return [
        {"type": "http.request", "body": chunk, "more_body": i < len(chunks) - 1}
        for i, chunk in enumerate(chunks)
    ]


def read(body, max_bytes=10_000, **options):
    messages = body if isinstance(body, list) else parts_of(body)
    given = Body(request(messages, **options), max_bytes)
    return asyncio.run(read_upload(given, 0.3))


def test_photo_and_fields_are_read():
    body = form((PHOTO.format("a.jpg"), b"\x00\r\n--x"), (FIELD.format("region"), b"mouth"))
    upload = read(body)
    assert upload.photo == b"\x00\r\n--x"
    assert upload.fields == {"region": "mouth"}


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "C:\\x.jpg", "fotó 😀.jpg", "a" * 255, "x\x00y", '"; x="']
)
def test_the_name_of_a_file_does_not_matter(name):
    assert read(form((PHOTO.format(name), b"data"))).photo == b"data"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "holds no photo"),
        (b"\0" * 500, "cannot be read"),
        (b"--limit", "holds no photo"),
        (form(), "holds no photo"),
        (form((FIELD.format("other"), b"x")), "holds no photo"),
        (form((FIELD.format("photo"), b"x")), "is text and not a file"),
        (form((PHOTO.format("a"), b"")), "is empty"),
        (form((PHOTO.format("a"), b"x"), (PHOTO.format("b"), b"y")), "2 photos"),
        (form(*[(PHOTO.format("a"), b"x")] * 50), "cannot be read"),
        (form(*[(FIELD.format("a"), b"x")] * 50), "cannot be read"),
        (form((FIELD.format("photo"), b"x" * 5000)), "cannot be read"),
        (form((PHOTO.format("a"), b"x" * 500))[:400], "holds no photo"),
        (form(("Content-Type: image/png", b"x")), "cannot be read"),
        (form(("Content-Disposition", b"x")), "cannot be read"),
        (form((PHOTO.format("a" * 9000), b"x")), "cannot be read"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_in_a_sentence(body, words):
    with pytest.raises(RefusedError, match=words) as refused:
        read(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "kind", ["", "image/jpeg", "multipart/form-data", "application/x-www-form-urlencoded", "?;="]
)
def test_what_is_no_form_is_refused(kind):
    with pytest.raises(RefusedError, match=r"holds no photo|cannot be read") as refused:
        read(form((PHOTO.format("a"), b"x")), kind=kind)
    assert refused.value.status == 400


@pytest.mark.parametrize("length", [10_001, 100_000, 1_000_000])
def test_too_long_a_photo_is_refused(length):
    with pytest.raises(RefusedError, match=r"longer than 0\.00954 MiB") as refused:
        read(form((PHOTO.format("a"), b"x" * length)))
    assert refused.value.status == 413
    assert len(read(form((PHOTO.format("a"), b"x" * 10_000))).photo) == 10_000


def test_no_more_is_read_than_is_needed_to_refuse():
    messages = parts_of(form((PHOTO.format("a"), b"x" * 1_000_000)))
    given = Body(request(messages), 10_000)

    async def refused_and_left():
        with pytest.raises(RefusedError):
            await read_upload(given, 1)
        left = given._receive.__closure__[0].cell_contents
        before = len(left)
        await given.read_past(0.2)
        return before, len(left)

    before, after = asyncio.run(refused_and_left())
    assert before > 900
    assert 0 < after < before  # the sender is heard out, but not for ever


def test_what_comes_too_slowly_or_breaks_off_is_refused():
    begun = parts_of(form((PHOTO.format("a"), b"x" * 3000)))[:2]
    with pytest.raises(RefusedError, match=r"did not arrive within 0\.3 seconds") as refused:
        read(begun)
    assert refused.value.status == 408
    with pytest.raises(RefusedError, match="broken off"):
        read([*begun, {"type": "http.disconnect"}])


def test_nothing_goes_to_a_temporary_file(monkeypatch):
    def rollover(_):
        raise AssertionError("a photo went to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    body = form((PHOTO.format("a"), b"x" * 3_000_000))
    assert len(read(body, max_bytes=3_000_000).photo) == 3_000_000
    with pytest.raises(RefusedError):
        read(body, max_bytes=2_000_000)
