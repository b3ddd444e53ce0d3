import io
import struct
import sys
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

from captum_plq.faces import ImageError, MissingExtraError, load_image

SIDE = 32


@pytest.fixture(autouse=True)
def _nothing_leaks(recwarn):
    """Every load, good or bad, warns of nothing and leaves Pillow's limit and the filters."""
    limit, filters = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    yield
    assert limit == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters
    assert [str(w.message) for w in recwarn] == []


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (24, SIDE, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def png_header(path: Path, width: int, height: int) -> Path:
    """A PNG file that announces its size and holds next to no pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


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
def test_png_is_read_exactly_in_the_exif_orientation(tmp_path, rgb, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = load_image(saved(tmp_path / "a.png", Image.fromarray(rgb), exif=exif))
    assert image.flags.writeable
    assert image.flags.c_contiguous
    np.testing.assert_array_equal(image, SHOWN[orientation](rgb))


def test_exif_orientation_of_jpeg_tiff_and_16_bit_grey(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path / "a.tif", Image.fromarray(rgb), exif=exif)
    np.testing.assert_array_equal(load_image(str(path)), np.rot90(rgb, -1))
    stored = data.astronaut()[:200, :300]
    path = saved(tmp_path / "a.jpg", Image.fromarray(stored), exif=exif, quality=95)
    assert np.abs(load_image(path).astype(int) - np.rot90(stored, -1)).mean() < 5
    deep = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint16) * 257
    path = saved(tmp_path / "b.png", Image.fromarray(deep), exif=exif)
    np.testing.assert_array_equal(load_image(path)[:, :, 0], np.rot90(deep // 257, -1))


def test_damaged_exif_does_not_hide_the_photograph(tmp_path, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    whole = exif.tobytes()
    turned = 0
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for position in generator.integers(6, len(whole), 3):
            damaged[position] = generator.integers(256)
        path = saved(tmp_path / "a.jpg", Image.fromarray(rgb), exif=bytes(damaged))
        image = load_image(path)
        turned += image.shape == (SIDE, 24, 3)
        assert sorted(image.shape) == [3, 24, SIDE]
    assert 0 < turned < 200


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((SIDE, SIDE, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[:16, :, 3] = 255  # opaque above, half transparent in the middle, nothing below
    rgba[16:24, :, 3] = 128
    image = load_image(saved(tmp_path / "rgba.png", Image.fromarray(rgba)))
    np.testing.assert_array_equal(image[0, 0], (200, 0, 0))
    np.testing.assert_allclose(image[20, 0], (227, 127, 127), atol=1)
    np.testing.assert_array_equal(image[31, 0], (255, 255, 255))

    image = load_image(saved(tmp_path / "la.png", Image.fromarray(rgba).convert("LA")))
    grey = round(200 * 0.299)
    np.testing.assert_allclose(image[0, 0], [grey] * 3, atol=1)
    np.testing.assert_allclose(image[20, 0], [grey + (255 - grey) * 127 / 255] * 3, atol=1)
    np.testing.assert_array_equal(image[31, 0], (255, 255, 255))


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\xff"])
def test_palette(tmp_path, transparency):
    stored = Image.new("P", (SIDE, SIDE), 1)
    stored.putpalette([10, 20, 30, 40, 50, 60])
    stored.paste(0, (0, 0, 16, 16))
    options = {} if transparency is None else {"transparency": transparency}
    image = load_image(saved(tmp_path / "p.png", stored, **options))
    assert image[0, 0].tolist() == ([10, 20, 30] if transparency is None else [255] * 3)
    assert image[20, 20].tolist() == [40, 50, 60]


def test_grey_and_black_and_white(tmp_path):
    grey = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE).astype(np.uint8)
    image = load_image(saved(tmp_path / "l.png", Image.fromarray(grey)))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    image = load_image(saved(tmp_path / "1.png", Image.fromarray(grey > 99)))
    assert (image == 255 * (grey > 99)[..., None]).all()


@pytest.mark.parametrize("kind", ["png", "tif", "big-endian tif", "32-bit tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, kind):
    values = [0, 128, 129, 257, 1000, 32768, 65279, 65535]
    deep = np.repeat(np.array(values, dtype=np.uint16), 4)[None].repeat(SIDE, axis=0)
    if kind == "32-bit tif":
        path = saved(tmp_path / "a.tif", Image.fromarray(deep.astype(np.int32)))
    elif kind == "big-endian tif":
        stored = Image.frombytes("I;16B", (SIDE, SIDE), deep.astype(">u2").tobytes())
        path = saved(tmp_path / "a.tif", stored)
    else:
        path = saved(tmp_path / f"a.{kind}", Image.fromarray(deep))
    image = load_image(path)
    assert image[0, ::4, 0].tolist() == [round(v * 255 / 65535) for v in values]
    assert (image == image[..., :1]).all()


def test_16_bit_png_with_one_transparent_grey(tmp_path):
    deep = np.full((SIDE, SIDE), 5000, dtype=np.uint16)
    deep[:16] = 777
    path = saved(tmp_path / "a.png", Image.fromarray(deep), transparency=777)
    image = load_image(path)
    assert image[0, 0].tolist() == [255] * 3
    assert image[20, 0].tolist() == [round(5000 / 257)] * 3


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((SIDE, SIDE), 70_000, np.int32), r"a\.tif.*beyond 16 bits"),
        (np.full((SIDE, SIDE), -1, np.int32), r"a\.tif.*beyond 16 bits"),
        (np.ones((SIDE, SIDE), np.float32), r"a\.tif.*floating-point"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path, pixels, message):
    path = saved(tmp_path / "a.tif", Image.fromarray(pixels))
    with pytest.raises(ImageError, match=message):
        load_image(path)


def test_cmyk_is_converted(tmp_path):
    cmyk = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))  # magenta and yellow: red
    red = load_image(saved(tmp_path / "a.jpg", cmyk, quality=95))[5, 5].astype(int)
    assert red[0] > 240
    assert red[1:].max() < 15


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (SIDE, SIDE), color) for color in ("red", "green", "blue")]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:])
        image = load_image(path).astype(int)
        assert image.shape == (SIDE, SIDE, 3)
        np.testing.assert_allclose(image[5, 5], (255, 0, 0), atol=3)


@pytest.mark.parametrize("content", [b"", b"Dear diary,\n" * 100])
def test_not_an_image(tmp_path, content):
    path = tmp_path / "diary.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"diary\.jpg is not an image.*JPEG or PNG"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "bmp"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_file(tmp_path, suffix, kept):
    buffer = io.BytesIO()
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
    Image.fromarray(data.astronaut()[:200, :200]).save(buffer, kind)
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(kept * buffer.tell())])
    certain = "is truncated or damaged" if suffix in ("jpg", "png") else ""
    with pytest.raises(ImageError, match=rf"half\.{suffix} {certain}"):
        load_image(path)


@pytest.mark.parametrize(
    ("width", "height"),
    [(8000, 7000), (10_000, 10_000), (30_000, 30_000)],  # quiet, warning and error in Pillow
)
def test_too_many_pixels_are_refused_undecoded(tmp_path, width, height):
    path = png_header(tmp_path / "bomb.png", width, height)
    with pytest.raises(ImageError, match=r"bomb\.png has .*pixels.*scale it down"):
        load_image(path)


def test_pillows_own_limit_does_not_escape(tmp_path):
    path = png_header(tmp_path / "bomb.png", 30_000, 30_000)
    with pytest.raises(ImageError, match=r"bomb\.png has more pixels than Pillow"):
        load_image(path, max_pixels=10**10)


@pytest.mark.parametrize(("suffix", "factor"), [("png", 1), ("jp2", 2)])
def test_max_pixels_is_inclusive_and_jpeg_2000_may_have_half(tmp_path, rgb, suffix, factor):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(rgb))
    most = factor * 24 * SIDE
    assert load_image(path, max_pixels=most).shape == rgb.shape
    with pytest.raises(ImageError, match="32×24 pixels, more than the 767"):
        load_image(path, max_pixels=most - 1)


def test_too_small(tmp_path):
    path = saved(tmp_path / "bar.png", Image.new("RGB", (400, 15)))
    with pytest.raises(ImageError, match=r"bar\.png has only 400×15 pixels.*at least 16"):
        load_image(path)
    assert load_image(path, min_side=15).shape == (15, 400, 3)


def test_warnings_as_errors_change_nothing(tmp_path):
    path = png_header(tmp_path / "bomb.png", 10_000, 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match="10000×10000"):
            load_image(path)


def test_only_photographs_formats_are_read(tmp_path):
    """Above all, EPS starts no Ghostscript, whatever the file is called."""
    image = Image.fromarray(data.astronaut()[:64, :64])
    for kind in ("EPS", "PDF", "ICNS", "ICO", "DDS", "TGA", "PCX", "SGI"):
        path = tmp_path / "a.jpg"
        image.save(path, kind)
        with pytest.raises(ImageError, match=r"a\.jpg is not an image of a format.*JPEG, PNG"):
            load_image(path)
    for kind in ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"):
        path = tmp_path / "a.any"
        image.save(path, kind)
        with Image.open(path) as expected:
            np.testing.assert_array_equal(load_image(path), np.array(expected.convert("RGB")))


def test_big_tiff_is_refused_before_its_tags_are_read(tmp_path):
    path = tmp_path / "a.tif"
    saved(path, Image.new("RGB", (SIDE, SIDE)), big_tiff=True)
    with pytest.raises(ImageError, match=r"a\.tif is BigTIFF"):
        load_image(path)
    path.write_bytes(b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 10**6) + bytes(20 * 10**6))
    start = time.monotonic()
    with pytest.raises(ImageError, match=r"a\.tif is BigTIFF"):
        load_image(path)
    assert time.monotonic() - start < 5


def test_heic_is_called_by_its_name(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(ImageError, match=r"a\.jpg is a HEIC photo"):
        load_image(path)


def test_every_checksum_of_a_png_is_compared(tmp_path, rgb):
    info = PngInfo()
    info.add_text("Title", "a face")
    whole = saved(tmp_path / "a.png", Image.fromarray(rgb), pnginfo=info).read_bytes()
    path = tmp_path / "b.png"
    for position in range(8, len(whole) - 12, 11):  # to the chunk that ends it
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ImageError, match=r"b\.png"):
            load_image(path)


def test_who_lets_pillow_load_truncated_images_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for suffix in ("jpg", "png", "webp", "gif", "tif", "bmp"):
        test_truncated_file(tmp_path, suffix, 0.6)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_jpeg_in_tiff_is_looked_at(tmp_path):
    image = Image.fromarray(data.astronaut()[:200, :200])
    path = saved(tmp_path / "a.tif", image, compression="jpeg")
    whole = path.read_bytes()
    assert load_image(path).shape == (200, 200, 3)
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(300) + whole[middle + 300 :])
    with pytest.raises(ImageError, match=r"a\.tif is truncated or damaged"):
        load_image(path)


def test_threads_leave_filters_and_settings_alone(tmp_path, rgb):
    good = saved(tmp_path / "a.jpg", Image.fromarray(rgb))
    bad = png_header(tmp_path / "bomb.png", 10_000, 10_000)  # Pillow would warn
    before = list(warnings.filters)

    def load(i: int) -> bool:
        try:
            return load_image((good, bad)[i % 2]).shape == rgb.shape
        except ImageError:
            return False

    with ThreadPoolExecutor(8) as pool:
        loaded = list(pool.map(load, range(200)))
    assert loaded == [True, False] * 100
    assert list(warnings.filters) == before


def test_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'captum-plq\[faces\]'"):
        load_image(tmp_path / "a.png")
