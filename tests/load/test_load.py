"""The load test itself, for a short time, and that it can fail."""

import asyncio

import pytest

for module in ("fastapi", "uvicorn", "httpx2", "cv2", "dlib", "skimage"):
    pytest.importorskip(module, reason="needs the extra [web], and scikit-image")

from tests.load.__main__ import main  # noqa: E402
from tests.load.clients import Found, Kind, _ask, kinds  # noqa: E402


@pytest.mark.slow
def test_a_server_bears_many_clients(capsys):
    assert main(["--clients", "20", "--seconds", "30"]) == 0
    assert capsys.readouterr().out.endswith("\n0 problems\n")


class Answer:
    text, headers = "", {"retry-after": "9"}

    def __init__(self, status):
        self.status_code = status

    async def request(self, *_, **__):
        return self


def found(status, kind):
    result = Found()
    pause = asyncio.run(_ask(Answer(status), "x", kind, result))
    return result.errors, pause


def test_any_answer_but_the_expected_one_and_429_is_an_error():
    photo, page = Kind(1, 200, "/api/photo", b"x"), Kind(1, 200, "/")
    assert found(200, photo) == ([], 0)
    assert found(429, photo) == ([], 2)
    assert found(429, page)[0]
    assert found(503, photo)[0]
    assert found(200, Kind(1, 422, "/api/photo", b"x"))[0]


def test_good_and_bad_photos_what_ifs_and_the_page_are_asked_for():
    statuses = {kind.status for kind in kinds().values()}
    assert {200, 400, 413, 415, 422} == statuses
