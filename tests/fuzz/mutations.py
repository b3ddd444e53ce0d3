"""Ways to damage bytes that know nothing of the format, and archives that lie."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

_EDGES = (0, 1, 2, 15, 16, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_WAYS = ("bits", "beginning", "claim", "truncated", "cut", "hole", "inserted", "repeated")


def flip(rng: Random, data: bytes, first: int = 0, last: int | None = None) -> bytes:
    """Flips 1 to 64 bits."""
    damaged = bytearray(data)
    end = min(len(data), last or len(data))
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64)) if first < end else 0):
        damaged[rng.randrange(first, end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def spoil(rng: Random, data: bytes, others: Sequence[bytes] = ()) -> tuple[str, bytes]:
    """Damages a file in one of the ways that fit any format: the way, and the damaged file."""
    way = rng.choice((*_WAYS, "spliced") if others else _WAYS)
    at, to = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    match way:
        case "bits":
            return way, flip(rng, data)
        case "beginning":  # where a format says what is to come
            return way, flip(rng, data, 0, rng.choice((32, 128, 700)))
        case "claim":  # a number that means trouble, where a size or an offset may stand
            width, order = rng.choice((1, 2, 4, 8)), rng.choice("<>")
            number = rng.choice((*_EDGES, len(data), len(data) - 1)) % 2 ** (8 * width)
            at = rng.randrange(min(len(data), 400))
            raw = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width], number)
            return way, data[:at] + raw + data[at + width :]
        case "truncated":
            return way, data[:at]
        case "cut":
            return way, data[:at] + data[to:]
        case "hole":  # zeros, as a download that failed leaves them
            length = min(rng.randrange(1, 600), len(data) - at)
            return way, data[:at] + bytes(length) + data[at + length :]
        case "inserted":
            return way, data[:at] + rng.randbytes(rng.choice((1, 2, 30, 300))) + data[at:]
        case "repeated":
            part = data[at : at + rng.choice((4, 40, 400))]
            return way, data[:at] + part * rng.choice((2, 3, 50)) + data[at:]
    other = rng.choice(others)
    return way, data[:at] + other[rng.randrange(len(other)) :]


@dataclass(frozen=True)
class Member:
    """A part of a zip archive, with what the archive says of it, true or not."""

    name: bytes
    stored: bytes
    size: int
    checksum: int
    method: int = 0  # 8: deflated

    @classmethod
    def of(cls, name: str, data: bytes, deflated: bool = False) -> Member:
        """An honest one."""
        stored = data
        if deflated:
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            stored = packer.compress(data) + packer.flush()
        return cls(name.encode(), stored, len(data), zlib.crc32(data), 8 if deflated else 0)

    def damaged(self, rng: Random) -> list[Member]:
        """What may stand in its place: one that lies, other contents, zeros without end, twice."""
        other = functools.partial(Member.of, self.name.decode("latin1"))
        match rng.choice(("size", "checksum", "method", "name", "contents", "gone", "twice")):
            case "size":
                return [replace(self, size=rng.choice((0, 1, self.size + 1, 2**30, 2**32 - 2)))]
            case "checksum":
                return [replace(self, checksum=rng.choice((0, self.checksum ^ 1)))]
            case "method":
                return [replace(self, method=rng.choice((0, 1, 8, 9, 12, 14, 93, 99)))]
            case "name":
                names = (b"", b"\0", b"../x", b"\xff", self.name.upper(), b"header", b"x.npy")
                return [replace(self, name=rng.choice(names))]
            case "contents" if rng.random() < 0.1:
                packed, checksum = deflated_zeros(1200)
                return [Member(self.name, packed, 1200 << 20, checksum, 8)]
            case "contents":
                starts = (b"", b"x", b"\x93NUMPY", b"\x93NUMPY\4\0\0\0", b"\x80\4.")
                return [other(rng.choice((*starts, rng.randbytes(99), flip(rng, self.stored))))]
            case "gone":
                return []
        return [self, self]


def damaged_archive(rng: Random, members: list[Member]) -> bytes:
    """An archive in which one or two members are not what they should be."""
    for _ in range(rng.choice((1, 1, 2))):
        if members:
            i = rng.randrange(len(members))
            members[i : i + 1] = members[i].damaged(rng)
    return archive(members)


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
    """Packed zeros that unpack to a thousand times as much, and their CRC-32."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(megabytes):
        checksum = zlib.crc32(block, checksum)
    return packed * megabytes + b"\3\0", checksum
