"""``load_image``, on files of every format that Pillow writes, damaged."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from captum_plq.faces import ImageError, load_image
from tests.fuzz.mutations import flip, spoil
from tests.fuzz.target import Case, FileTarget, Finding

_MAX_PIXELS, _MIN_SIDE = 50_000_000, 16  # load_image's own limits
_NUMBERS = (0, 1, 2, 15, 16, 255, 4096, 7071, 12_000, 32_767, 65_500, 65_535)
_TAGS = (256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 320, 322, 338, 339)
_CHUNKS = (b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL")
_SEGMENTS = [bytes([255, code]) for code in (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xDB, 0xC4)]
_BODIES = (b"Exif\0\0", b"ICC_PROFILE\0\1\1", b"Adobe", b"Photoshop 3.0\0", b"")


class ImageFiles(FileTarget):
    """Any file: an ``ImageError`` that names it, or (H, W, 3) of uint8 within the limits."""

    documented = (ImageError,)

    def __init__(self, folder):
        super().__init__(folder)
        self.whole, self.pixels = _every_format(), {}
        for name, data in self.whole.items():
            path = folder / f"whole.{name.split()[0]}"
            path.write_bytes(data)
            try:
                self.pixels[name] = load_image(path)
            except ImageError:  # a format that is not read
                self.pixels[name] = None

    def case(self, rng):
        name = rng.choice(tuple(self.whole))
        data, suffix = self.whole[name], f".{name.split()[0]}"
        inner = {".png": _altered, ".jpg": _altered, ".tif": _tiff}.get(suffix)
        if inner is not None and rng.random() < 0.4:
            way, damaged = inner(rng, data)
        else:
            way, damaged = spoil(rng, data, tuple(self.whole.values()))
        return Case(f"{name}: {way}", damaged, suffix)

    def load(self, path, case):
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
        if way == "truncated":
            raise Finding(f"{way} {path.suffix}, loaded as good: other pixels, no word")
        return "loaded, other pixels"


def _every_format():
    """One small picture as a file of each kind, by suffix and what is special."""
    y, x = np.mgrid[:48, :40]
    waves = [127 + 90 * np.sin(x / 5 + c) * np.cos(y / 7 - c) for c in range(3)]
    rgb = Image.fromarray(np.stack(waves, -1).astype(np.uint8))
    grey = rgb.convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    real = Image.fromarray(np.asarray(grey).astype(np.float32))
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "maker"
    tags, frames = {"exif": exif.tobytes()}, {"save_all": True}
    written = {
        "jpg": (rgb, tags),
        "jpg progressive": (rgb, {"progressive": True}),
        "jpg cmyk": (rgb.convert("CMYK"), {}),
        "jpg grey, restarts": (grey, {"restart_marker_blocks": 2}),
        "mpo": (rgb, frames),
        "png": (rgb, tags),
        "png palette": (rgb.convert("P"), {"transparency": 0}),
        "png 16 bits": (deep, {}),
        "png 1 bit": (rgb.convert("1"), {}),
        "png alpha": (rgb.convert("RGBA"), frames),
        "gif": (rgb, frames),
        "webp": (rgb, tags),
        "webp lossless": (rgb.convert("RGBA"), {"lossless": True}),
        "tif lzw": (rgb, {"compression": "tiff_lzw"}),
        "tif jpeg": (rgb, {"compression": "jpeg"}),
        "tif raw": (rgb, frames),
        "tif float": (real, {}),
        "tif deflate": (deep, {"compression": "tiff_adobe_deflate"}),
        "ico": (rgb, {"sizes": [(32, 32)]}),
        "icns": (rgb.resize((128, 128)), {}),
        "tga": (rgb, {"compression": "tga_rle"}),
    }
    plain = ("jp2", "bmp", "avif", "ppm", "pcx", "sgi", "dds", "eps", "pdf")
    written |= dict.fromkeys(plain, (rgb, {}))
    files = {}
    for name, (image, options) in written.items():
        file, image = io.BytesIO(), image.copy()  # saving leaves traces in an image
        more = {"append_images": [image.rotate(90)]} if "save_all" in options else {}
        kind = Image.registered_extensions().get(f".{name.split()[0]}")
        try:
            image.save(file, kind, **options, **more)
        except (KeyError, OSError):  # this build of Pillow lacks the codec
            continue
        files[name] = file.getvalue()
    return files


def _altered(rng, data):
    """A PNG's chunk or a JPEG's segment damaged, with checksum and length mended, or the order."""
    png = data[0] == 0x89
    start, head, length = (8, 8, ">I") if png else (2, 4, ">H")
    parts, place = [], start
    while place < len(data) and data[place : place + 2] != b"\xff\xda":  # where a JPEG's scan is
        name = data[place + 4 : place + 8] if png else data[place : place + 2]
        (size,) = struct.unpack_from(length, data, place + (0 if png else 2))
        end = place + (12 + size if png else 2 + size)
        parts.append((name, data[place + head : end - (4 if png else 0)]))
        place = end
    scan, i = data[place:], rng.randrange(len(parts))
    frame = 0 if png else next(j for j, part in enumerate(parts) if 0xC0 <= part[0][1] <= 0xC2)
    way = rng.choice(("size", "header", "body", "order", "more", "hole"))
    match way:
        case "size":
            name, body = parts[frame]
            at = 0 if png else 1
            size = struct.pack(length + length[1], rng.choice(_NUMBERS), rng.choice(_NUMBERS))
            parts[frame] = (name, body[:at] + size + body[at + len(size) :])
        case "header":
            parts[frame] = (parts[frame][0], flip(rng, parts[frame][1]))
        case "body":
            parts[i] = (parts[i][0], flip(rng, parts[i][1]))
        case "order":
            rng.shuffle(parts)
            parts = parts[: i + 1]
        case "more":
            packed = zlib.compress(bytes(rng.choice((10, 10_000, 5_000_000))))
            noise = rng.choice(_BODIES) + rng.randbytes(rng.randrange(200))
            body = rng.choice((noise, b"x\0\0" + packed, b"x\0\1\0\0\0" + packed))
            parts.insert(i + 1, (rng.choice(_CHUNKS if png else _SEGMENTS), body))
        case "hole" if scan:
            at = rng.randrange(len(scan) // 2)
            scan = scan[:at] + bytes(len(scan) // 3) + scan[at + len(scan) // 3 :]
    made = data[:start]
    for name, body in parts:
        if png:
            made += struct.pack(length, len(body)) + name + body
            made += struct.pack(">I", zlib.crc32(name + body))
        else:
            made += name + struct.pack(length, len(body) + 2) + body
    return f"part, {way}", made + scan


def _tiff(rng, data):
    """One of the entries of the first directory rewritten: tag, type, count or value."""
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    entry = place + 2 + 12 * rng.randrange(count)
    fields = list(struct.unpack_from("<HHII", data, entry))
    large = (*_NUMBERS, 2**31, 2**32 - 1, len(data))
    way = rng.choice(("tag", "type", "count", "value"))
    numbers = {"tag": _TAGS, "type": range(20)}.get(way, large)
    fields[("tag", "type", "count", "value").index(way)] = rng.choice(numbers)
    return f"entry, {way}", data[:entry] + struct.pack("<HHII", *fields) + data[entry + 12 :]


TARGET = ImageFiles
