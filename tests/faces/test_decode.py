import struct
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo
from skimage import data

from captum_plq.faces import ImageError, load_image

SIDE = 32


@pytest.fixture(autouse=True)
def _nothing_leaks(recwarn):
    """Every load, good or bad, warns of nothing and leaves Pillow's limit and the filters."""
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    yield
    assert limit == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters
    assert [str(w.message) for w in recwarn] == []


RGB = np.random.default_rng(0).integers(0, 256, (24, SIDE, 3), dtype=np.uint8)
PHOTO = Image.fromarray(data.astronaut()[:200, :200])


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int) -> bytes:
    """A PNG file that announces its size and holds next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


SHOWN = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("orientation", SHOWN)
def test_pixels_are_read_exactly_in_the_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep = RGB[..., 0].astype(np.uint16) * 257
    for name, stored in (("a.png", RGB), ("a.tif", RGB), ("b.png", deep)):
        image = load_image(str(saved(tmp_path / name, Image.fromarray(stored), exif=exif)))
        assert image.flags.writeable
        assert image.flags.c_contiguous
        expected = RGB if stored is RGB else np.repeat(RGB[..., :1], 3, axis=2)
        np.testing.assert_array_equal(image, SHOWN[orientation](expected))


def test_damaged_exif_does_not_hide_the_photograph(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    whole, turned = exif.tobytes(), 0
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for position in generator.integers(6, len(whole), 3):
            damaged[position] = generator.integers(256)
        image = load_image(saved(tmp_path / "a.jpg", Image.fromarray(RGB), exif=bytes(damaged)))
        turned += image.shape == (SIDE, 24, 3)
        assert sorted(image.shape) == [3, 24, SIDE]
    assert 0 < turned < 200


def rgba(mode: str) -> Image.Image:
    """Opaque above, half transparent in the middle, nothing below."""
    pixels = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[:16, :, 3], pixels[16:24, :, 3] = 255, 128
    return Image.fromarray(pixels).convert(mode)


def palette() -> Image.Image:
    image = Image.new("P", (SIDE, SIDE), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(0, (0, 0, SIDE, 16))
    return image


def grey(above: int, dtype: type, below: int = 5000) -> Image.Image:
    column = np.repeat([above, below], [16, 16]).astype(dtype)
    return Image.fromarray(column[:, None].repeat(SIDE, 1))


BIG_ENDIAN = Image.frombytes("I;16B", (SIDE, SIDE), np.full(SIDE**2, 65279, ">u2").tobytes())
WHITE, RED, FRAMES = [255] * 3, [255, 0, 0], [Image.new("RGB", (SIDE, SIDE), "blue")]


@pytest.mark.parametrize(
    ("name", "image", "options", "above", "middle"),  # rows 0 and 20
    [
        ("a.png", rgba("RGBA"), {}, [200, 0, 0], [227, 127, 127]),
        ("a.png", rgba("LA"), {}, [60] * 3, [157] * 3),
        ("a.png", palette(), {}, [10, 20, 30], [40, 50, 60]),
        ("a.png", palette(), {"transparency": 0}, WHITE, [40, 50, 60]),
        ("a.png", palette(), {"transparency": b"\x00\xff"}, WHITE, [40, 50, 60]),
        ("a.png", grey(7, np.uint8, 88), {}, [7] * 3, [88] * 3),
        ("a.png", grey(0, bool, 1), {}, [0] * 3, WHITE),
        ("a.png", grey(128, np.uint16, 129), {}, [0] * 3, [1] * 3),  # scaled, not clipped
        ("a.tif", grey(65535, np.uint16), {}, WHITE, [19] * 3),
        ("a.tif", grey(65535, np.int32), {}, WHITE, [19] * 3),
        ("a.tif", BIG_ENDIAN, {}, [254] * 3, [254] * 3),
        ("a.png", grey(777, np.uint16), {"transparency": 777}, WHITE, [19] * 3),
        ("a.jpg", Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), {"quality": 95}, RED, RED),
        *(  # of an animation, the first frame
            (f"a.{suffix}", Image.new("RGB", (SIDE, SIDE), "red"), moving, RED, RED)
            for suffix in ("gif", "webp", "png")
            for moving in [{"save_all": True, "append_images": FRAMES}]
        ),
    ],
)
def test_every_kind_of_pixel_becomes_rgb_over_white(tmp_path, name, image, options, above, middle):
    found = load_image(saved(tmp_path / name, image, **options)).astype(int)
    lossy = {"CMYK": 15, "RGBA": 1, "LA": 1, "RGB": 3}  # a JPEG, blended, a WebP
    off = lossy.get(image.mode, 0)
    np.testing.assert_allclose(found[0, 0], above, atol=off)
    np.testing.assert_allclose(found[20, 0], middle, atol=off)
    assert found.shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "bmp", "jp2"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.parametrize("forgiving", [False, True])  # as others may have made Pillow
def test_truncated_file(tmp_path, monkeypatch, suffix, kept, forgiving):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", forgiving)
    path = saved(tmp_path / f"half.{suffix}", PHOTO)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    certain = "is truncated or damaged" if suffix in ("jpg", "png") else ""
    with pytest.raises(ImageError, match=rf"half\.{suffix} {certain}"):
        load_image(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is forgiving


def test_a_jpeg_2000_without_its_end_is_refused(tmp_path):
    path = saved(tmp_path / "a.jp2", PHOTO)
    path.write_bytes(path.read_bytes()[:-2])  # Pillow decodes it all the same
    with pytest.raises(ImageError, match="codestream has no end"):
        load_image(path)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
MILLION_TAGS = b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 10**6) + bytes(20 * 10**6)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, r"a\.jpg is not an image.*JPEG or PNG"),
        (b"Dear diary,\n" * 100, {}, r"a\.jpg is not an image.*JPEG or PNG"),
        (HEIC, {}, r"a\.jpg is a HEIC photo"),
        (MILLION_TAGS, {}, r"a\.jpg is BigTIFF"),
        # quiet, a warning and an error in Pillow
        (png_header(8000, 7000), {}, "8000×7000 pixels, more than the 50,000,000"),
        (png_header(10_000, 10_000), {}, "10000×10000 pixels, more.*scale it down"),
        (png_header(30_000, 30_000), {}, "more pixels than are ever decoded"),
        (png_header(30_000, 30_000), {"max_pixels": 10**10}, "than are ever decoded"),
        (png_header(400, 15), {}, r"a\.jpg has only 400×15 pixels.*at least 16"),
    ],
)
def test_what_is_no_photograph_is_refused_at_once(tmp_path, content, options, message):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=message):
            load_image(path, **options)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("value", [70_000, -1, 1.5])
def test_pixels_of_unknown_range_are_refused(tmp_path, value):
    stored = grey(value, np.int32 if isinstance(value, int) else np.float32)
    with pytest.raises(ImageError, match=r"a\.tif.*(beyond 16 bits|floating-point)"):
        load_image(saved(tmp_path / "a.tif", stored))


@pytest.mark.parametrize(("suffix", "factor"), [("png", 1), ("jp2", 2)])
def test_max_pixels_is_inclusive_and_jpeg_2000_may_have_half(tmp_path, suffix, factor):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(RGB))
    most = factor * 24 * SIDE
    assert load_image(path, max_pixels=most, min_side=24).shape == RGB.shape
    with pytest.raises(ImageError, match="32×24 pixels, more than the 767"):
        load_image(path, max_pixels=most - 1)


def test_only_photographs_formats_are_read(tmp_path):
    """Above all, EPS starts no Ghostscript, whatever the file is called."""
    path = tmp_path / "a.jpg"
    for kind in ("EPS", "PDF", "ICNS", "ICO", "DDS", "TGA", "PCX", "SGI"):
        PHOTO.save(path, kind)
        with pytest.raises(ImageError, match=r"a\.jpg is not an image of a format.*JPEG, PNG"):
            load_image(path)
    for kind in ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"):
        PHOTO.save(path, kind)
        with Image.open(path) as expected:
            np.testing.assert_array_equal(load_image(path), np.array(expected.convert("RGB")))


def test_every_checksum_of_a_png_is_compared(tmp_path):
    info = PngInfo()
    info.add_text("Title", "a face")
    whole = saved(tmp_path / "a.png", Image.fromarray(RGB), pnginfo=info).read_bytes()
    path = tmp_path / "b.png"
    for position in range(8, len(whole) - 12, 11):  # to the chunk that ends it
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ImageError, match=r"b\.png"):
            load_image(path)


def test_jpeg_in_tiff_is_looked_at(tmp_path):
    path = saved(tmp_path / "a.tif", PHOTO, compression="jpeg")
    whole = path.read_bytes()
    assert load_image(path).shape == (200, 200, 3)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(300) + whole[middle + 300 :])
    with pytest.raises(ImageError, match=r"a\.tif is truncated or damaged"):
        load_image(path)


def test_threads_leave_filters_and_settings_alone(tmp_path):
    good, bad = saved(tmp_path / "a.jpg", Image.fromarray(RGB)), tmp_path / "bomb.png"
    bad.write_bytes(png_header(10_000, 10_000))  # Pillow would warn

    def load(i: int) -> bool:
        try:
            return load_image((good, bad)[i % 2]).shape == RGB.shape
        except ImageError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(load, range(200))) == [True, False] * 100
