"""Find damage in JPEG data that decoders make up for in silence.

libjpeg fills what is missing with grey and goes on after what it cannot read; it warns of that, and
Pillow keeps the warnings to itself. Here they count as damage, unless they are of anything but the
picture: what else a file holds is taken out before.

The data hold no checksum. A changed byte is noticed only if the decoder loses its place and
does not find it again, so that it ends too early or too late.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from captum_plq.errors import extra

__all__ = ["jpeg_damage"]

_ZEROS = bytes(16)
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_MARKER_AFTER_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_END, _SCAN, _TABLES = 0xD9, 0xDA, 0xC4
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_FRAMES = {0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive"}  # of those, what Pillow reads
_NO_PICTURE = {*range(0xE0, 0xF0), 0xFE}  # Exif, colour profiles, comments and the like

_MOST_SEGMENTS = 10_000
_MOST_SCANS = 100
_SCANS_OF_ANY_SIZE = 18  # progressive CMYK, as libjpeg writes it
_MOST_PIXELS_IN_SCANS = 750_000_000


class _Segment(NamedTuple):
    marker: int
    whole: bytes
    body: bytes  # after marker and length
    pixels: bytes = b""  # of a scan, what follows its segment


def jpeg_damage(data: bytes) -> str | None:
    """Find what is wrong with the picture data of a JPEG image.

    Args:

        data (bytes): From the image's first byte on; what follows its end is left alone.

    Returns:
        *str or None*: what is wrong, as one phrase, or ``None`` if nothing was found.

    Raises:
        MissingExtraError: if simplejpeg is not installed.

    Examples::

        >>> jpeg_damage(Path("portrait.jpg").read_bytes()) is None
        True
    """
    try:
        segments = [part for part in _segments(data) if part.marker not in _NO_PICTURE]
    except EOFError:
        return "its end is not found"
    scans = sum(part.marker == _SCAN for part in segments)
    if scans > _most_scans(segments):
        return f"it has {scans} scans, more than cameras and programs make"
    complaint = _complaint(segments)
    if complaint is not None and "extraneous bytes before marker 0xd9" in complaint:
        # Some cameras pad the last scan with zeros, of which one may be data.
        last = segments[-1]
        segments[-1] = last._replace(pixels=last.pixels.rstrip(b"\0") + b"\0")
        complaint = _complaint(segments)
    if complaint is None and _has_hole(segments):
        return "a run of zeros in its picture data"
    return complaint


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments up to the end of the image; what lies between them is skipped.

    Raises:
        EOFError: if the image does not end, or not in a sensible number of segments.
    """
    position = 0
    for _ in range(_MOST_SEGMENTS):
        found = _find(_MARKER, data, position)
        if found is None:
            break
        first, position = found
        marker = data[position - 1]
        if marker == _END:
            return
        if marker in _BARE:
            continue
        start, end = position + 2, position + int.from_bytes(data[position : position + 2], "big")
        segment = _Segment(marker, data[first:end], data[start:end])
        if marker == _SCAN:
            after = _find(_MARKER_AFTER_SCAN, data, end)
            if after is None:
                break
            segment, end = segment._replace(pixels=data[end : after[0]]), after[0]
        yield segment
        position = max(start, end)
    raise EOFError


def _find(marker: re.Pattern[bytes], data: bytes, position: int) -> tuple[int, int] | None:
    """Where the next marker begins, with the bytes 0xff that fill up before it, and ends."""
    found = marker.search(data, position)  # ten times as fast as one for "\xff+" too
    if found is None:
        return None
    filled = data[position : found.start()]
    return position + len(filled.rstrip(b"\xff")), found.end()


def _most_scans(segments: Iterable[_Segment]) -> int:
    """How many scans to allow: each takes its time over all pixels, however few bytes it has."""
    for part in segments:
        if part.marker in _FRAMES and len(part.body) >= 5:
            pixels = int.from_bytes(part.body[1:3], "big") * int.from_bytes(part.body[3:5], "big")
            in_time = _MOST_PIXELS_IN_SCANS // max(pixels, 1)
            return min(max(in_time, _SCANS_OF_ANY_SIZE), _MOST_SCANS)
    return _MOST_SCANS


def _complaint(segments: Iterable[_Segment]) -> str | None:
    """The last of libjpeg's errors and warnings, from decoding at an eighth of the size."""
    with extra("faces"):
        from simplejpeg import decode_jpeg

    pieces = (piece for part in segments for piece in (part.whole, part.pixels))
    data = b"".join((b"\xff\xd8", *pieces, b"\xff\xd9"))
    try:
        decode_jpeg(data, min_height=1, min_width=1)
    except ValueError as error:
        if "Invalid SOS parameters" in str(error):
            return None  # values that have no meaning in this kind of file
        if "subsampling" in str(error):
            return "its colours are subsampled in an unusual way"
        return str(error)
    return None


def _has_hole(segments: Iterable[_Segment]) -> bool:
    """Whether bytes were set to zero, as a lost block of a disk is.

    The zero bits of a flat area are those of "no more coefficients here". In a scan of which one
    Huffman table gives zero bits another meaning, a long run of them stands for dozens of equal
    coefficients on end, which no picture has.
    """
    first_symbols: dict[int, int] = {}  # of the tables for AC coefficients
    progressive = False
    for part in segments:
        if part.marker in _FRAMES:
            progressive = _FRAMES[part.marker] == "progressive"
        elif part.marker == _TABLES:
            first_symbols.update(_first_ac_symbols(part.body))
        elif part.marker == _SCAN and _ZEROS in part.pixels:
            count = part.body[0]
            tables = [part.body[2 + 2 * i] & 15 for i in range(count)]
            first_coefficient, bits = part.body[1 + 2 * count], part.body[3 + 2 * count]
            if progressive and (first_coefficient == 0 or bits >> 4):
                continue  # raw bits, or the differences of a flat area
            if any(first_symbols.get(table, 0) & 15 for table in tables):
                return True
    return False


def _first_ac_symbols(body: bytes) -> Iterator[tuple[int, int]]:
    """The number of each table in a segment, and the symbol whose code is all zeros."""
    while len(body) > 17:
        if body[0] >> 4 == 1:
            yield body[0] & 15, body[17]
        body = body[17 + sum(body[1:17]) :]
