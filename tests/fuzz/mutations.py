"""Ways to spoil bytes that know nothing of the format, and archives that lie."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

__all__ = ["Member", "archive", "deflated_zeros", "flip", "spoil"]

_EDGES = (0, 1, 2, 15, 16, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def flip(rng: Random, data: bytes, first: int = 0, last: int | None = None) -> bytes:
    """Flips 1 to 64 bits."""
    spoilt = bytearray(data)
    end = min(len(data), last or len(data))
    if first >= end:
        return data
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        spoilt[rng.randrange(first, end)] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def _beginning(rng: Random, data: bytes) -> bytes:
    """Bits of the first part only, where a format says what is to come."""
    return flip(rng, data, 0, rng.choice((32, 128, 700)))


def _claim(rng: Random, data: bytes) -> bytes:
    """Puts a number that means trouble where a size or an offset may stand."""
    width, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
    number = rng.choice((*_EDGES, len(data), len(data) - 1)) % 2 ** (8 * width)
    place = rng.randrange(min(len(data), 400))
    raw = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], number)
    return data[:place] + raw + data[place + width :]


def _truncate(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _cut(rng: Random, data: bytes) -> bytes:
    first, last = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    return data[:first] + data[last:]


def _hole(rng: Random, data: bytes) -> bytes:
    """A run of zeros, as a download that failed leaves it."""
    first = rng.randrange(len(data))
    length = min(rng.randrange(1, 600), len(data) - first)
    return data[:first] + bytes(length) + data[first + length :]


def _insert(rng: Random, data: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + rng.randbytes(rng.choice((1, 2, 30, 300))) + data[place:]


def _repeat(rng: Random, data: bytes) -> bytes:
    first = rng.randrange(len(data))
    part = data[first : first + rng.choice((4, 40, 400))]
    return data[:first] + part * rng.choice((2, 3, 50)) + data[first:]


_WAYS: dict[str, Callable[[Random, bytes], bytes]] = {
    "bits": flip,
    "bits of the beginning": _beginning,
    "claim": _claim,
    "truncated": _truncate,
    "cut": _cut,
    "hole": _hole,
    "inserted": _insert,
    "repeated": _repeat,
}


def spoil(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> tuple[str, bytes]:
    """Spoils a file in one of the ways that fit any format.

    Args:

        rng (Random): Decides all.
        data (bytes): The file.
        others (sequence of bytes): Files whose ends it may get.

    Returns:
        *tuple[str, bytes]*: the way, and the spoilt file.
    """
    way = rng.choice((*_WAYS, "spliced") if others else tuple(_WAYS))
    if way == "spliced":
        other = rng.choice(others)
        return way, data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
    return way, _WAYS[way](rng, data)


@dataclass(frozen=True)
class Member:
    """A part of a zip archive, with what the archive says of it, true or not.

    Args:

        name (bytes): Its name.
        stored (bytes): As it lies in the archive.
        size (int): What it is said to unpack to.
        checksum (int): Its CRC-32 as stated.
        method (int): 0: stored; 8: deflated.
    """

    name: bytes
    stored: bytes
    size: int
    checksum: int
    method: int = 0

    @classmethod
    def of(cls, name: str, data: bytes, deflated: bool = False) -> Member:
        """An honest one."""
        stored = data
        if deflated:
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            stored = packer.compress(data) + packer.flush()
        return cls(name.encode(), stored, len(data), zlib.crc32(data), 8 if deflated else 0)

    def lying(self, rng: Random) -> Member:
        """The same with one wrong statement."""
        said = rng.choice(("size", "checksum", "method", "name"))
        if said == "size":
            return replace(self, size=rng.choice((0, 1, self.size + 1, 2**30, 2**32 - 2)))
        if said == "checksum":
            return replace(self, checksum=rng.choice((0, self.checksum ^ 1)))
        if said == "method":
            return replace(self, method=rng.choice((0, 1, 8, 9, 12, 14, 93, 99)))
        return replace(self, name=rng.choice((b"", b"\0", b"../x", b"\xff", self.name.upper())))


def archive(members: Sequence[Member]) -> bytes:
    """A zip file of these parts, each with the statements it carries."""
    body, directory = b"", b""
    for member in members:
        stated = struct.pack(
            "<HHHHHIIIHH", 20, 0, member.method, 0, 0x21, member.checksum, len(member.stored),
            member.size, len(member.name), 0,
        )  # fmt: skip
        directory += b"PK\1\2" + struct.pack("<H", 20) + stated
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + member.name
        body += b"PK\3\4" + stated + member.name + member.stored
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


@functools.cache
def deflated_zeros(megabytes: int) -> tuple[bytes, int]:
    """Zeros that unpack to much, and their CRC-32: one packed block, many times over.

    Args:

        megabytes (int): What they unpack to; a thousandth of it is what they take.
    """
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    return packed * megabytes + b"\3\0", checksum
