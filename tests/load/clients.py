"""Clients that ask one after the other, and what became of their requests."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
from skimage import data

from tests.web import files

_WAIT = 120.0  # seconds for an answer: all clients before one may send the largest photos
_PATIENCE = 2.0  # seconds, at most, that a client waits after it was refused


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Args:

        share (float): How often it is made.
        status (int): How it is to be answered; 429 is expected of all that send a photo.
        path (str): Where it goes.
        photo (bytes, optional): What it sends.
        fields (dict): What it sends besides.
    """

    share: float
    status: int
    path: str
    photo: bytes | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Found:
    """What became of all requests.

    Args:

        answers (Counter): (kind, status) → how many.
        seconds (dict): Kind → how long those took that were not refused.
        errors (list): What must not happen.
    """

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def kinds() -> dict[str, Kind]:
    """Return the kinds of requests: photos, good and bad, what-ifs and the page."""
    portrait = data.astronaut()[:300, 80:380].copy()
    photos, bad = files.photos(portrait), files.refused(portrait)
    found = {
        "page": Kind(1, 200, "/"),
        "about": Kind(1, 200, "/api/about"),
        "what-if": Kind(2, 200, "/api/what-if", photos["grey.jpg"], {"region": "mouth"}),
        "no region": Kind(0.5, 422, "/api/what-if", photos["grey.jpg"], {"region": "beard"}),
    }
    for name in ("no-ending", "16-bit.png", "animation.gif", "plain.bmp", "turned.jpg"):
        found[f"photo {name}"] = Kind(2, 200, "/api/photo", photos[name])
    for name in ("half.jpg", "huge.png", "bomb.png", "paper.pdf", "noise.png", "empty.jpg"):
        content, status = bad[name]
        found[f"bad {name}"] = Kind(0.5, status, "/api/photo", content)
    found["bad very-many-bytes.jpg"] = Kind(0.2, 413, "/api/photo", b"\xff\xd8" * (10 * 2**20))
    return found


async def run_clients(
    url: str, asked: dict[str, Kind], clients: int, seconds: float, seed: int = 0
) -> Found:
    """Let clients ask for some time, each its next question once the last is answered.

    Every other client has an address of its own in 127.0.0.0/8, the rest share 127.0.0.1, and
    with it the server's limit on photos a minute.

    Args:

        url (str): Of the server.
        asked (dict): The kinds of requests, by their names.
        clients (int): How many.
        seconds (float): How long questions are begun.
        seed (int): Decides who asks what.

    Returns:
        *Found*: what became of them.
    """
    found, end = Found(), time.monotonic() + seconds
    await asyncio.gather(
        *(_client(url, i, end, asked, random.Random(f"{seed} {i}"), found) for i in range(clients))
    )
    return found


async def _client(
    url: str, number: int, end: float, asked: dict[str, Kind], draw: random.Random, found: Found
) -> None:
    address = "127.0.0.1" if number % 2 else f"127.0.1.{number % 250 + 1}"
    transport = httpx2.AsyncHTTPTransport(local_address=address)
    shares = [kind.share for kind in asked.values()]
    async with httpx2.AsyncClient(transport=transport, base_url=url, timeout=_WAIT) as client:
        while time.monotonic() < end:
            (name,) = draw.choices(list(asked), shares)
            pause = await _ask(client, name, asked[name], found)
            await asyncio.sleep(max(0.0, min(pause, end - time.monotonic())))


async def _ask(client: httpx2.AsyncClient, name: str, kind: Kind, found: Found) -> float:
    """Make a request, note what becomes of it, and return for how long to wait."""
    start = time.monotonic()
    sent: dict[str, Any] = {}
    if kind.photo is not None:
        sent = {"files": {"photo": ("photo.jpg", kind.photo)}, "data": kind.fields}
    try:
        answer = await client.request("GET" if kind.photo is None else "POST", kind.path, **sent)
    except httpx2.HTTPError as error:
        found.errors.append(f"{name}: {error!r}")
        return _PATIENCE
    found.answers[name, answer.status_code] += 1
    if answer.status_code == 429 and kind.photo is not None:
        return min(_PATIENCE, float(answer.headers["retry-after"]))
    if answer.status_code != kind.status:
        found.errors.append(f"{name}: {answer.status_code}, not {kind.status}: {answer.text[:300]}")
    found.seconds.setdefault(name.partition(" ")[0], []).append(time.monotonic() - start)
    return 0.0
