"""Ways to damage bytes that know nothing of the format, and archives that lie."""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from random import Random

_EDGES = (0, 1, 2, 15, 16, 127, 128, 255, 256, 32767, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_WAYS = ("bits", "beginning", "claim", "truncated", "cut", "hole", "inserted", "repeated")
_LIES = {
    "file_size": (0, 1, 100, 2**30, 2**32 - 2),
    "CRC": (0, 1, 2**32 - 1),
    "compress_type": (0, 1, 8, 9, 12, 14, 93, 99),
    "flag_bits": (1, 8, 0x800),
}
_NAMES = ("", "../x", "\xff", "HEADER.NPY", "header", "x.npy")
_STARTS = (b"", b"x", b"\x93NUMPY", b"\x93NUMPY\4\0\0\0", b"\x80\4.")


def flip(rng: Random, data: bytes, first: int = 0, last: int | None = None) -> bytes:
    """Flips 1 to 64 bits."""
    damaged = bytearray(data)
    end = min(len(data), last or len(data))
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64)) if first < end else 0):
        damaged[rng.randrange(first, end)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def spoil(rng: Random, data: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Damages a file in one of the ways that fit any format: the way, and the damaged file."""
    way = rng.choice((*_WAYS, "spliced"))
    at, to = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    put = b""
    match way:
        case "bits":
            return way, flip(rng, data)
        case "beginning":  # where a format says what is to come
            return way, flip(rng, data, 0, rng.choice((32, 128, 700)))
        case "claim":  # a number that means trouble, where a size or an offset may stand
            code = rng.choice("BHIQ")
            number = rng.choice((*_EDGES, len(data), len(data) - 1))
            put = struct.pack(rng.choice("<>") + code, number % 256 ** struct.calcsize(code))
            at = rng.randrange(min(len(data), 400))
            to = at + len(put)
        case "truncated":
            to = len(data)
        case "hole":  # zeros, as a download that failed leaves them
            put = bytes(min(rng.randrange(1, 600), len(data) - at))
            to = at + len(put)
        case "inserted":
            put, to = rng.randbytes(rng.choice((1, 2, 30, 300))), at
        case "repeated":
            put, to = data[at : at + rng.choice((4, 40, 400))] * rng.choice((2, 3, 50)), at
        case "spliced":
            other = rng.choice(others)
            put, to = other[rng.randrange(len(other)) :], len(data)
    return way, data[:at] + put + data[to:]


def archive(
    parts: Iterable[tuple[str, bytes]], deflated: bool = False, lies: Iterable = ()
) -> bytes:
    """A zip file of these parts, whose directory says (place, what, value) of them, true or not."""
    file, kind = io.BytesIO(), zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as opened:
        warnings.simplefilter("ignore")  # of a name that is twice there
        for name, data in parts:
            opened.writestr(zipfile.ZipInfo(name), data, kind)
        for place, what, value in lies:
            setattr(opened.filelist[place % len(opened.filelist)], what, value)
    return file.getvalue()


def damaged_archive(rng: Random, parts: Iterable[tuple[str, bytes]], deflated: bool) -> bytes:
    """One in which one or two parts are not what they should be."""
    parts, lies = list(parts), []
    for _ in range(rng.choice((1, 1, 2))):
        i = rng.randrange(len(parts))
        name, data = parts[i]
        match rng.choice(("lie", "lie", "lie", "name", "contents", "gone", "twice")):
            case "lie":
                what = rng.choice(tuple(_LIES))
                lies.append((i, what, rng.choice(_LIES[what])))
            case "name":
                parts[i] = (rng.choice(_NAMES), data)
            case "contents" if rng.random() < 0.1:
                packed, checksum = deflated_zeros(1200)
                parts[i], deflated = (name, packed), False
                stated = {"file_size": 1200 << 20, "CRC": checksum, "compress_type": 8}
                lies += [(i, what, value) for what, value in stated.items()]
            case "contents":
                parts[i] = (name, rng.choice((*_STARTS, rng.randbytes(99), flip(rng, data))))
            case "gone" if len(parts) > 1:
                del parts[i]
            case "twice":
                parts.append(parts[i])
    return archive(parts, deflated, lies)


@functools.cache
def deflated_zeros(megabytes: int) -> tuple[bytes, int]:
    """Packed zeros that unpack to a thousand times as much, and their CRC-32."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = functools.reduce(lambda crc, _: zlib.crc32(block, crc), range(megabytes), 0)
    return packed * megabytes + b"\3\0", checksum
