"""``load_image``, on files of every format that Pillow writes, spoilt."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from captum_plq.faces import ImageError, load_image
from tests.fuzz.mutations import flip, spoil
from tests.fuzz.target import Case, FileTarget, Finding

_MAX_PIXELS, _MIN_SIDE = 50_000_000, 16  # load_image's own limits
_DAMAGED = {"truncated"}  # what must never load with other pixels than the whole file has
_NUMBERS = (0, 1, 2, 15, 16, 255, 4096, 7071, 12_000, 32_767, 65_500, 65_535)


class ImageFiles(FileTarget):
    """Any file: an ``ImageError`` that names it, or (H, W, 3) of uint8 within the limits."""

    documented = (ImageError,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.whole = _every_format()
        self.pixels: dict[str, Any] = {}
        for name, data in self.whole.items():
            path = folder / f"whole.{name.split()[0]}"
            path.write_bytes(data)
            try:
                self.pixels[name] = load_image(path)
            except ImageError:  # a format that is not read
                self.pixels[name] = None

    def case(self, rng: Random) -> Case:
        name = rng.choice(tuple(self.whole))
        data, suffix = self.whole[name], f".{name.split()[0]}"
        inner = {".png": _png, ".jpg": _jpeg, ".tif": _tiff}.get(suffix)
        if inner is not None and rng.random() < 0.4:
            way, spoilt = inner(rng, data)
        else:
            way, spoilt = spoil(rng, data, tuple(self.whole.values()))
        return Case(f"{name}: {way}", spoilt, suffix)

    def load(self, path: Path, case: Case) -> str:
        image = load_image(path)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise Finding(f"not (H, W, 3) of uint8: {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if min(height, width) < _MIN_SIDE or height * width > _MAX_PIXELS:
            raise Finding(f"beyond its own limits: {image.shape}")
        name, _, way = case.kind.partition(": ")
        whole = self.pixels.get(name)
        if whole is None or image.shape != whole.shape:
            return "loaded, another size"
        if (image == whole).all():
            return "loaded, the same"
        if way in _DAMAGED:
            raise Finding(f"{way} {path.suffix}, loaded as good: other pixels, no word")
        return "loaded, other pixels"


def _every_format() -> dict[str, bytes]:
    """One small picture as a file of each kind, by suffix and what is special."""
    y, x = np.mgrid[:48, :40]
    waves = [127 + 90 * np.sin(x / 5 + c) * np.cos(y / 7 - c) for c in range(3)]
    rgb = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    grey = rgb.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32))
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "maker"
    tags: dict[str, Any] = {"exif": exif.tobytes()}
    frames = {"save_all": True}
    written: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpg": (rgb, "JPEG", tags),
        "jpg progressive": (rgb, "JPEG", {"progressive": True}),
        "jpg cmyk": (rgb.convert("CMYK"), "JPEG", {}),
        "jpg grey, restarts": (grey, "JPEG", {"restart_marker_blocks": 2}),
        "mpo": (rgb, "MPO", frames),
        "png": (rgb, "PNG", tags),
        "png palette": (rgb.convert("P"), "PNG", {"transparency": 0}),
        "png 16 bits": (deep, "PNG", {}),
        "png 1 bit": (rgb.convert("1"), "PNG", {}),
        "png alpha": (rgb.convert("RGBA"), "PNG", frames),
        "gif": (rgb, "GIF", frames),
        "webp": (rgb, "WEBP", tags),
        "webp lossless": (rgb.convert("RGBA"), "WEBP", {"lossless": True}),
        "bmp": (rgb, "BMP", {}),
        "tif lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tif jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tif raw": (rgb, "TIFF", frames),
        "tif float": (real, "TIFF", {}),
        "tif deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "jp2": (rgb, "JPEG2000", {}),
        "avif": (rgb, "AVIF", {}),
        "ico": (rgb, "ICO", {"sizes": [(32, 32)]}),
        "icns": (rgb.resize((128, 128)), "ICNS", {}),
        "tga": (rgb, "TGA", {"compression": "tga_rle"}),
        "ppm": (rgb, "PPM", {}),
        "pcx": (rgb, "PCX", {}),
        "sgi": (rgb, "SGI", {}),
        "dds": (rgb, "DDS", {}),
        "eps": (rgb, "EPS", {}),
        "pdf": (rgb, "PDF", {}),
    }
    files = {}
    for name, (image, kind, options) in written.items():
        file = io.BytesIO()
        image = image.copy()  # saving leaves traces in an image
        if "save_all" in options:
            options = {**options, "append_images": [image.rotate(90)]}
        try:
            image.save(file, kind, **options)
        except (KeyError, OSError):  # this build of Pillow lacks the codec
            continue
        files[name] = file.getvalue()
    return files


def _png(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Spoils a chunk and mends its checksum, or puts chunks in, out, or in another order."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    way = rng.choice(("size", "header", "body", "order", "more"))
    if way == "size":
        size = struct.pack(">II", rng.choice(_NUMBERS), rng.choice(_NUMBERS))
        chunks[0] = (b"IHDR", size + chunks[0][1][8:])
    elif way == "header":
        chunks[0] = (b"IHDR", chunks[0][1][:8] + bytes(rng.choice(_NUMBERS) % 17 for _ in range(5)))
    elif way == "body":
        i = rng.randrange(len(chunks))
        chunks[i] = (chunks[i][0], flip(rng, chunks[i][1]))
    elif way == "order":
        rng.shuffle(chunks)
        chunks = chunks[: rng.randrange(1, len(chunks) + 1)]
    else:
        name = rng.choice((b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL"))
        packed = zlib.compress(bytes(rng.choice((10, 10_000, 5_000_000))))
        body = rng.choice(
            (rng.randbytes(rng.randrange(40)), b"x\0\0" + packed, b"x\0\1\0\0\0" + packed)
        )
        chunks.insert(rng.randrange(1, len(chunks) + 1), (name, body))
    return f"chunk, {way}", data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _jpeg(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Spoils the segments before the first scan, one by one."""
    segments, place = [], 2
    while data[place + 1] != 0xDA:
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        segments.append(data[place : place + 2 + length])
        place += 2 + length
    scan = data[place:]
    frame = next(i for i, part in enumerate(segments) if 0xC0 <= part[1] <= 0xC2)
    way = rng.choice(("size", "frame", "body", "order", "more", "hole in the scan"))
    if way == "size":
        size = struct.pack(">HH", rng.choice(_NUMBERS), rng.choice(_NUMBERS))
        segments[frame] = segments[frame][:5] + size + segments[frame][9:]
    elif way == "frame":
        segments[frame] = flip(rng, segments[frame], 1)
    elif way == "body":
        i = rng.randrange(len(segments))
        segments[i] = flip(rng, segments[i], 4)
    elif way == "order":
        rng.shuffle(segments)
        segments = segments[: rng.randrange(len(segments) + 1)]
    elif way == "more":
        marker = rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xDB, 0xC4))
        body = rng.choice((b"Exif\0\0", b"ICC_PROFILE\0\1\1", b"Adobe", b"Photoshop 3.0\0", b""))
        body += rng.randbytes(rng.randrange(200))
        segments.insert(
            rng.randrange(len(segments) + 1), struct.pack(">BBH", 255, marker, len(body) + 2) + body
        )
    else:
        first = rng.randrange(len(scan) // 2)
        length = rng.randrange(1, len(scan) // 2)
        scan = scan[:first] + bytes(length) + scan[first + length :]
    return f"segment, {way}", data[:2] + b"".join(segments) + scan


def _tiff(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Rewrites one of the entries of the first directory: tag, type, count or value."""
    (place,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[place : place + 2])
    entry = place + 2 + 12 * rng.randrange(count)
    tag, kind, number, value = struct.unpack("<HHII", data[entry : entry + 12])
    way = rng.choice(("tag", "type", "count", "value"))
    if way == "tag":
        tag = rng.choice((256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 320, 322, 338, 339))
    elif way == "type":
        kind = rng.randrange(20)
    elif way == "count":
        number = rng.choice((*_NUMBERS, 2**31, 2**32 - 1))
    else:
        value = rng.choice((*_NUMBERS, 2**31, 2**32 - 1, len(data)))
    raw = struct.pack("<HHII", tag, kind, number, value)
    return f"entry, {way}", data[:entry] + raw + data[entry + 12 :]


TARGET = ImageFiles
