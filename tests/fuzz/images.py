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
        inner = {".png": _png, ".jpg": _jpeg, ".tif": _tiff}.get(suffix)
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
        "tif lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "tif jpeg": (rgb, "TIFF", {"compression": "jpeg"}),
        "tif raw": (rgb, "TIFF", frames),
        "tif float": (real, "TIFF", {}),
        "tif deflate": (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "ico": (rgb, "ICO", {"sizes": [(32, 32)]}),
        "icns": (rgb.resize((128, 128)), "ICNS", {}),
        "tga": (rgb, "TGA", {"compression": "tga_rle"}),
    }
    for kind in ("BMP", "JPEG2000", "AVIF", "PPM", "PCX", "SGI", "DDS", "EPS", "PDF"):
        written[{"JPEG2000": "jp2"}.get(kind, kind.lower())] = (rgb, kind, {})
    files = {}
    for name, (image, kind, options) in written.items():
        file, image = io.BytesIO(), image.copy()  # saving leaves traces in an image
        more = {"append_images": [image.rotate(90)]} if "save_all" in options else {}
        try:
            image.save(file, kind, **options, **more)
        except (KeyError, OSError):  # this build of Pillow lacks the codec
            continue
        files[name] = file.getvalue()
    return files


def _altered(rng, parts, frame, size, header, more):
    """Parts of a file with one thing wrong; what is wrong, and the parts."""
    i = rng.randrange(len(parts))
    match rng.choice(("size", "header", "body", "order", "more")):
        case "size":
            parts[frame] = size(parts[frame])
            return "size", parts
        case "header":
            parts[frame] = header(parts[frame])
            return "header", parts
        case "body":
            parts[i] = parts[i][:4] + flip(rng, parts[i][4:])
            return "body", parts
        case "order":
            rng.shuffle(parts)
            return "order", parts[: i + 1]
    parts.insert(i + 1, more())
    return "more", parts


def _png(rng, data):
    """A chunk damaged, with its checksum mended, or chunks put in, out, or in another order."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append(data[place + 4 : place + 8 + length])
        place += 12 + length

    def more():
        name = rng.choice((b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL"))
        packed = zlib.compress(bytes(rng.choice((10, 10_000, 5_000_000))))
        noise = rng.randbytes(rng.randrange(40))
        return name + rng.choice((noise, b"x\0\0" + packed, b"x\0\1\0\0\0" + packed))

    way, chunks = _altered(
        rng,
        chunks,
        0,
        lambda x: x[:4] + struct.pack(">II", rng.choice(_NUMBERS), rng.choice(_NUMBERS)) + x[12:],
        lambda x: x[:12] + bytes(rng.choice(_NUMBERS) % 17 for _ in range(5)),
        more,
    )
    whole = [struct.pack(">I", len(x) - 4) + x + struct.pack(">I", zlib.crc32(x)) for x in chunks]
    return f"chunk, {way}", data[:8] + b"".join(whole)


def _jpeg(rng, data):
    """The same with the segments before the first scan, or zeros in the scan."""
    segments, place = [], 2
    while data[place + 1] != 0xDA:
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        segments.append(data[place : place + 2 + length])
        place += 2 + length
    scan = data[place:]
    if rng.random() < 0.15:
        first, length = (rng.randrange(1, len(scan) // 2) for _ in range(2))
        scan = scan[:first] + bytes(length) + scan[first + length :]
        return "hole in the scan", data[:place] + scan

    def more():
        marker = rng.choice((0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD, 0xDB, 0xC4))
        body = rng.choice((b"Exif\0\0", b"ICC_PROFILE\0\1\1", b"Adobe", b"Photoshop 3.0\0", b""))
        body += rng.randbytes(rng.randrange(200))
        return struct.pack(">BBH", 255, marker, len(body) + 2) + body

    way, segments = _altered(
        rng,
        segments,
        next(i for i, part in enumerate(segments) if 0xC0 <= part[1] <= 0xC2),
        lambda x: x[:5] + struct.pack(">HH", rng.choice(_NUMBERS), rng.choice(_NUMBERS)) + x[9:],
        lambda x: flip(rng, x, 1),
        more,
    )
    return f"segment, {way}", data[:2] + b"".join(segments) + scan


def _tiff(rng, data):
    """One of the entries of the first directory rewritten: tag, type, count or value."""
    (place,) = struct.unpack("<I", data[4:8])
    (count,) = struct.unpack("<H", data[place : place + 2])
    entry = place + 2 + 12 * rng.randrange(count)
    fields = list(struct.unpack("<HHII", data[entry : entry + 12]))
    way, large = rng.randrange(4), (*_NUMBERS, 2**31, 2**32 - 1, len(data))
    tags = (256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 320, 322, 338, 339)
    fields[way] = rng.choice((tags, range(20), large, large)[way])
    way = ("tag", "type", "count", "value")[way]
    return f"entry, {way}", data[:entry] + struct.pack("<HHII", *fields) + data[entry + 12 :]


TARGET = ImageFiles
