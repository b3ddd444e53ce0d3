"""Files that a browser may send in place of a good photo, and how each is to be answered."""

import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image, features

from captum_plq.faces import detect_faces
from tests.web.conftest import encoded


def chunk(kind, content):
    """A chunk of a PNG."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png_of_size(width, height, data=b"\0" * 1000):
    """A PNG that says it is so large."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def photos(portrait):
    """Files that hold a face all the same: name → bytes, to be answered with 200."""
    image = Image.fromarray(portrait)
    grey = image.convert("L")
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    frames = {"save_all": True, "append_images": [image.rotate(90), image.rotate(180)]}
    clear = image.convert("RGBA")
    clear.putalpha(Image.fromarray(np.full(portrait.shape[:2], 254, np.uint8)))
    turned = Image.Exif()
    turned[0x0112] = 6
    wrong = Image.Exif()
    wrong[0x0112] = 65535
    mirrored = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    jpeg = encoded(image, quality=95)
    found = {
        "cmyk.jpg": encoded(image.convert("CMYK"), quality=95),
        "grey.jpg": encoded(grey, quality=95),
        "progressive.jpg": encoded(image, quality=95, progressive=True),
        "16-bit.png": encoded(sixteen, "PNG"),
        "palette.png": encoded(image.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"),
        "transparent.png": encoded(clear, "PNG"),
        "animation.gif": encoded(image, "GIF", **frames),
        "animation.webp": encoded(image, "WEBP", **frames),
        "pages.tif": encoded(image, "TIFF", **frames),
        "plain.bmp": encoded(image, "BMP"),
        "plain.ppm": encoded(image, "PPM"),
        "turned.jpg": encoded(image.rotate(90, expand=True), quality=95, exif=turned.tobytes()),
        "orientation-65535.jpg": encoded(image, quality=95, exif=wrong.tobytes()),
        "exif-garbage.jpg": encoded(image, quality=95, exif=b"Exif\0\0" + bytes(range(200))),
        "icc-garbage.jpg": encoded(image, quality=95, icc_profile=bytes(range(250)) * 9),
        "jpeg-called.png": jpeg,
        "several-faces.png": encoded(Image.fromarray(mirrored), "PNG"),
        "no-ending": jpeg,
    }
    if features.check("jpg_2000"):
        found["plain.jp2"] = encoded(image, "JPEG2000")
    if features.check("avif"):
        found["plain.avif"] = encoded(image, "AVIF", quality=90)
    return found


def refused(portrait):
    """Files that cannot be assessed: name → (bytes, status)."""
    return {**_damaged(portrait), **_too_large(), **_other_kinds(portrait), **_no_face(portrait)}


def _damaged(portrait):
    image = Image.fromarray(portrait)
    jpeg, png = encoded(image, quality=95), encoded(image, "PNG")
    half = len(jpeg) // 2
    start = jpeg.index(b"\xff\xc0") + 5
    floating = np.asarray(image.convert("L")).astype(np.float32)
    floating[5, 5] = np.nan
    integers = np.asarray(image.convert("L")).astype(np.int32) * 100_000
    endless = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 9)
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 30_000_000, 9))
    return {
        "empty.jpg": (b"", 400),
        "one-byte.png": (b"\x89", 415),
        "zeros.jpg": (b"\0" * 50_000, 415),
        "first-20-bytes.jpg": (jpeg[:20], 415),
        "first-percent.jpg": (jpeg[: len(jpeg) // 100], 422),
        "half.jpg": (jpeg[:half], 422),
        "all-but-one-percent.jpg": (jpeg[: len(jpeg) * 99 // 100], 422),
        "all-but-last-byte.jpg": (jpeg[:-1], 422),
        "half-is-zeros.jpg": (jpeg[:half] + b"\0" * half, 422),
        "hole.jpg": (jpeg[:half] + b"\0" * 400 + jpeg[half + 400 :], 422),
        "no-sides.jpg": (jpeg[:start] + b"\0\0\0\0" + jpeg[start + 4 :], 415),
        "half.png": (png[: len(png) // 2], 422),
        "flipped-byte.png": (png[:60] + bytes([png[60] ^ 255]) + png[61:], 422),
        "text-bomb.png": (png[:33] + bomb + png[33:], 422),
        "half.webp": (encoded(image, "WEBP")[:3000], 422),
        "half.gif": (encoded(image, "GIF")[:3000], 422),
        "nan.tif": (encoded(Image.fromarray(floating), "TIFF"), 422),
        "32-bit.tif": (encoded(Image.fromarray(integers), "TIFF"), 422),
        "endless.tif": (endless + struct.pack("<I", 8), 415),
    }


def _too_large():
    drawn = encoded(Image.new("RGB", (100, 100)))
    start = drawn.index(b"\xff\xc0") + 5
    return {
        "huge.jpg": (drawn[:start] + struct.pack(">HH", 65500, 65500) + drawn[start + 4 :], 413),
        "huge.png": (png_of_size(100_000, 100_000), 413),
        "largest.png": (png_of_size(2**31 - 1, 2**31 - 1), 413),
        "bomb.png": (encoded(Image.new("1", (9000, 9000)), "PNG"), 413),
        "bomb.gif": (encoded(Image.new("P", (5000, 5000)), "GIF"), 413),
        "many-bytes.jpg": (b"\xff\xd8\xff" + b"x" * (5 * 2**20), 413),
        "very-many-bytes.jpg": (b"\xff\xd8\xff" + b"x" * (20 * 2**20), 413),
    }


def _other_kinds(portrait):
    image = Image.fromarray(portrait)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("photo.jpg", encoded(image))
    array = io.BytesIO()
    np.save(array, portrait)
    kinds = {
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "page.jpg": b"<!doctype html><title>404</title>",
        "notes.txt": b"Dear sir or madam,\n",
        "unicode.txt": "naïve 😀".encode("utf-16"),
        "paper.pdf": encoded(image, "PDF"),
        "program.eps": encoded(image, "EPS"),
        "archive.zip": zipped.getvalue(),
        "array.npy": array.getvalue(),
        "object.pkl": pickle.dumps(portrait[:4]),
        "icon.ico": encoded(image.resize((128, 128)), "ICO"),
        "icon.icns": encoded(image.resize((128, 128)), "ICNS"),
        "layers.psd": b"8BPS\0\x01"
        + b"\0" * 6
        + struct.pack(">HIIHH", 3, 64, 64, 8, 3)
        + b"\0" * 60,
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 3000,
        "film.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0" * 3000,
        "big.tif": b"II+\0\x08\0\0\0" + b"\0" * 100,
        "pointer.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
    }
    return {name: (content, 415) for name, content in kinds.items()}


def _no_face(portrait):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, 400).astype(np.uint8)
    sky = np.stack([np.tile(ramp[:, None], (1, 500))] * 3, axis=2)
    tiny = noise // 8
    tiny[200:240, 200:240] = np.asarray(Image.fromarray(portrait).resize((40, 40)))
    left, top, right, bottom = detect_faces(portrait)[0].box
    crop = Image.fromarray(portrait).crop((left, top, right, bottom))
    images = {
        "1x1.png": Image.new("RGB", (1, 1)),
        "1x2000.png": Image.new("RGB", (1, 2000)),
        "20x3000.png": Image.new("RGB", (20, 3000)),
        "black.png": Image.new("RGB", (400, 400)),
        "white.png": Image.new("RGB", (400, 400), "white"),
        "noise.png": Image.fromarray(noise),
        "landscape.png": Image.fromarray(sky),
        "tiny-face.png": Image.fromarray(tiny),
        "eye.png": crop.crop((0, 0, crop.width // 3, crop.height // 3)),
        "upside-down.png": Image.fromarray(portrait).rotate(180),
    }
    return {name: (encoded(image, "PNG"), 422) for name, image in images.items()}
