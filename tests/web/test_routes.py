"""What is answered at which address, with an assessor that computes nothing or fails."""

import asyncio
import threading
import time

import httpx2
import pytest

from captum_plq.faces import ImageError
from captum_plq.web import WebSettings, create_app
from tests.web.conftest import URL, Stub


def test_page_static_files_and_facts(serve):
    client = serve(max_bytes=5000)
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>" in page.text
    assert client.head("/").status_code == 200
    assert client.get("/static/index.html").status_code == 200
    assert client.get("/api/about").json() == {
        "network": "stub", "max_bytes": 5000, "keeps": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/static/", 404),
        ("GET", "/api/photo", 405),
        ("PUT", "/api/photo", 405),
        ("POST", "/", 405),
    ],
)
def test_what_is_not_there_gets_a_sentence(serve, method, path, status):
    answer = serve().request(method, path)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


def test_the_region_reaches_the_assessor(serve, post):
    answer = post(serve(), b"abc", path="/api/what-if", data={"region": "nose"})
    assert answer.json() == {"length": 3, "region": "nose"}
    assert post(serve(), b"abc", path="/api/what-if").json()["region"] == ""


class Failing(Stub):
    def __init__(self, error):
        self.error = error

    def photo(self, data):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ImageError("The file is bad (IDAT 7).", "damaged"), 422, "The photo is damaged or incom"),
        (ImageError("The file is small; get it.", "too_small"), 422, "The file is small; get it."),
        (ImageError("The file\nis\x1b[3m bad.", "not_an_image"), 415, "The file is [3m bad."),
        (ValueError("x" * 5000), 422, "The face cannot be assessed: xxx"),
        (KeyError("secret"), 500, "The server failed at this photo"),
        (MemoryError(), 500, "The server failed at this photo"),
        (RecursionError("deep"), 500, "The server failed at this photo"),
    ],
)
def test_no_more_than_a_sentence_of_an_error_leaves_the_server(
    serve, post, caplog, error, status, words
):
    answer = post(serve(Failing(error)), b"x")
    assert answer.status_code == status
    sentence = answer.json()["error"]
    assert words in sentence
    assert len(sentence) <= 300
    assert "Traceback" not in answer.text
    assert "secret" not in answer.text
    assert "IDAT" not in answer.text
    assert ("Traceback" in caplog.text) == (status == 500)


def test_too_many_photos_of_one_client_are_refused_and_not_computed(serve, post):
    computed = []

    class Counting(Stub):
        def photo(self, data):
            computed.append(data)
            return super().photo(data)

    client = serve(Counting(), rate=3)
    answers = [post(client, b"x") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert int(answers[-1].headers["retry-after"]) in range(15, 22)
    assert "try again in" in answers[-1].json()["error"]
    assert len(computed) == 3
    assert client.get("/api/about").status_code == 200


class Slow(Stub):
    def __init__(self):
        self.running, self.most, self.go = 0, 0, threading.Event()

    def photo(self, data):
        self.running += 1
        self.most = max(self.most, self.running)
        self.go.wait(5)
        time.sleep(0.01)
        self.running -= 1
        return super().photo(data)


def test_one_photo_is_computed_at_a_time_few_wait_and_the_page_is_served_meanwhile():
    slow = Slow()
    app = create_app(WebSettings(places=4, rate=100), slow)

    async def posts(address, count):
        transport = httpx2.ASGITransport(app, client=(address, 1))
        async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
            photo = {"photo": ("a.jpg", b"x")}
            sent = [client.post("/api/photo", files=photo) for _ in range(count)]
            return [answer.status_code for answer in await asyncio.gather(*sent)]

    async def calls():
        greedy = asyncio.ensure_future(posts("1.1.1.1", 4))
        await asyncio.sleep(0.1)
        others = [asyncio.ensure_future(posts(f"1.1.1.{i}", 1)) for i in (2, 3, 4)]
        await asyncio.sleep(0.1)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=URL) as client:
            about = await asyncio.wait_for(client.get("/api/about"), 2)
        slow.go.set()
        return about, await greedy, await asyncio.gather(*others)

    about, greedy, others = asyncio.run(calls())
    assert about.status_code == 200
    assert sorted(greedy) == [200, 200, 429, 429]  # half of the places are left to others
    assert sorted(others) == [[200], [200], [503]]
    assert slow.most == 1
    assert asyncio.run(posts("1.1.1.1", 2)) == [200, 200]  # the places are free again
