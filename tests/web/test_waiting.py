"""The queue: places, turns, and clients that go away; the last over real sockets."""

import asyncio
import socket
import threading
import time

import pytest

from captum_plq.web import RefusedError, WebSettings, create_app
from captum_plq.web.waiting import Waiting
from tests.support.serving import running
from tests.web.conftest import Stub

FORM = (
    b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n%s\r\n--x--\r\n'
)


@pytest.fixture
def waiting():
    made = Waiting(3)
    yield made
    made.close()


def test_places_are_shared_and_given_back(waiting):
    with waiting.place("a"), waiting.place("a"):
        with pytest.raises(RefusedError, match="2 photos from this address are waiting") as refused:
            waiting.place("a").__enter__()
        assert (refused.value.status, refused.value.retry_after) == (429, 5)
        with waiting.place("b"):
            with pytest.raises(RefusedError, match="Too many photos are waiting") as refused:
                waiting.place("c").__enter__()
            assert (refused.value.status, refused.value.retry_after) == (503, 5)
        with pytest.raises(KeyError), waiting.place("c"):
            raise KeyError
    assert not waiting._taken


async def never():
    await asyncio.sleep(60)


def test_what_is_computed_comes_back_and_so_does_what_is_raised(waiting):
    assert asyncio.run(waiting.computed(lambda: 7, never())) == 7
    with pytest.raises(ZeroDivisionError):
        asyncio.run(waiting.computed(lambda: 1 // 0, never()))


def test_who_leaves_before_the_turn_is_not_computed_and_what_has_begun_is_finished(waiting):
    begun, go, computed = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go.wait(10)
        computed.append("first")
        return "first"

    async def calls():
        async def leaving():
            while not begun.is_set():
                await asyncio.sleep(0.01)

        kept = [(slow, leaving()), (lambda: computed.append("third"), never())]
        first, third = (asyncio.ensure_future(waiting.computed(*one)) for one in kept)
        await asyncio.sleep(0)  # both are in the queue
        with pytest.raises(RefusedError, match="broken off"):
            await waiting.computed(lambda: computed.append("second"), leaving())
        assert computed == []  # it left before the first was finished
        go.set()
        await third
        return await first

    assert asyncio.run(calls()) == "first"
    assert computed == ["first", "third"]


class Slow(Stub):
    """Computes nothing until it is let."""

    def __init__(self):
        self.begun, self.go, self.seen = threading.Event(), threading.Event(), []

    def photo(self, data):
        self.seen.append(data)
        self.begun.set()
        self.go.wait(20)
        return super().photo(data)


def sent(port, photo):
    """A socket over which a photo was sent, whose answer is not read yet."""
    body = FORM % photo
    client = socket.create_connection(("127.0.0.1", port), timeout=20)
    client.sendall(
        b"POST /api/photo HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: %d\r\n\r\n%s"
        % (port, len(body), body)
    )
    return client


def status(client):
    with client, client.makefile("rb") as answer:
        return int(answer.read().split(maxsplit=2)[1])


def test_a_photo_whose_sender_hung_up_is_not_computed_and_its_place_is_free_at_once():
    slow = Slow()
    with running(create_app(WebSettings(places=6, rate=100), slow)) as port:
        first = sent(port, b"first")
        assert slow.begun.wait(20)
        leaving = [sent(port, b"leaving") for _ in range(2)]
        for _ in range(100):  # until both have been read, and take the other two places
            if status(sent(port, b"too many")) == 429:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the places are not taken")
        for client in leaving:
            client.close()
        for _ in range(500):
            last = sent(port, b"last")
            last.settimeout(0.3)
            try:
                assert status(last) == 429
            except TimeoutError:  # it waits: there was a place, while the first is computed still
                break
        else:
            raise AssertionError("the places are not given back")
        assert slow.seen == [b"first"]
        last = sent(port, b"last")
        last.settimeout(20)
        slow.go.set()
        assert (status(first), status(last)) == (200, 200)
    assert b"leaving" not in slow.seen


def test_a_sender_who_hangs_up_while_it_is_computed_does_no_harm(caplog):
    slow = Slow()
    with running(create_app(WebSettings(places=6, rate=100), slow)) as port:
        first = sent(port, b"first")
        assert slow.begun.wait(20)
        first.close()
        second = sent(port, b"second")
        slow.go.set()
        assert status(second) == 200
    assert slow.seen == [b"first", b"second"]
    assert caplog.text == ""
