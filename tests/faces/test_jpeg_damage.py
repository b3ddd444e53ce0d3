"""Damaged JPEG data are refused, whole ones of any make are not."""

import io
import itertools
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image
from skimage import data

from captum_plq.faces import ImageError, load_image
from captum_plq.faces.jpeg_damage import jpeg_damage

PHOTO = Image.fromarray(data.astronaut()[:224, 120:360])
PAGE = Image.new("RGB", (400, 300), "white")
PAGE.paste(PHOTO.resize((60, 60)), (20, 20))
BLACK = Image.new("RGB", (200, 300))


def jpeg(image: Image.Image = PHOTO, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def assert_refused(content: bytes, path) -> None:
    path.write_bytes(content)
    with pytest.raises(ImageError, match="is truncated or damaged"):
        load_image(path)


KINDS = {
    "baseline": {},
    "fine": {"quality": 95, "subsampling": 0},
    "optimized": {"optimize": True, "quality": 30},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "red, green, blue": {"keep_rgb": True},
}


def whole_files():
    """By Pillow, libjpeg-turbo and OpenCV, of every kind that each of them writes."""
    for image, options in itertools.product((PHOTO, PAGE, BLACK), KINDS.values()):
        for mode in ("RGB",) if "keep_rgb" in options else ("RGB", "L", "CMYK"):
            yield jpeg(image.convert(mode), **options)
    for pixels in map(np.ascontiguousarray, (PHOTO, PAGE)):
        for sampling in ("444", "422", "420", "440", "411", "Gray"):
            yield simplejpeg.encode_jpeg(pixels, colorsubsampling=sampling)
        for options in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 5]):
            yield cv2.imencode(".jpg", pixels, options)[1].tobytes()


def test_whole_files_pass():
    assert [jpeg_damage(whole) for whole in whole_files()] == [None] * 66


def test_what_is_not_the_picture_may_be_odd(tmp_path):
    plain = jpeg()
    scan = plain.index(b"\xff\xda")
    expected = np.array(Image.open(io.BytesIO(plain)))
    for odd in (
        plain + bytes(3000),
        plain + b"after the end",
        plain[:20] + b"between" + plain[20:],
        plain[:2] + b"\xff\xe1\0\x0aExif\0\0??" + plain[2:],
        plain[:-2] + bytes(20) + plain[-2:],  # padded, as some cameras do
        plain[:-2] + b"\xff" * 20 + plain[-2:],
        plain[: scan + 11] + b"\0\0\0" + plain[scan + 14 :],  # no meaning in a baseline scan
    ):
        path = tmp_path / "a.jpg"
        path.write_bytes(odd)
        np.testing.assert_array_equal(load_image(path), expected)


@pytest.mark.parametrize("kind", ["baseline", "fine", "restarts"])
def test_holes_are_refused(tmp_path, kind):
    """Many of these holes draw no warning from libjpeg, which finds its place again in time."""
    whole = jpeg(**KINDS[kind])
    start = whole.index(b"\xff\xda") + 14
    generator = np.random.default_rng(0)
    for length in (20, 300):
        for position in generator.integers(start, len(whole) - length - 2, 15):
            hole = whole[:position] + bytes(length) + whole[position + length :]
            assert_refused(hole, tmp_path / "a.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_missing_data_are_refused(tmp_path, kind):
    whole = jpeg(**KINDS[kind])
    start = whole.index(b"\xff\xda") + 14
    middle = (start + len(whole)) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + b"\xff\xd9",
        whole[:-1],
        whole[:middle] + bytes(len(whole) - middle),
        whole[: middle - 500] + whole[middle + 500 :],
        resized(whole, 7000, 7000),
        resized(whole, 224, 100),
        resized(whole, 100, 240),
    ):
        assert_refused(damaged, tmp_path / "a.jpg")


def resized(content: bytes, width: int, height: int) -> bytes:
    """The same data under a header that claims another size."""
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return content[: frame + 5] + struct.pack(">HH", height, width) + content[frame + 9 :]


def test_scans_and_segments_without_end_are_refused_in_time():
    """Each scan of a few bytes costs a pass over all pixels."""
    small = jpeg(progressive=True)
    for whole, more in ((resized(small, 7000, 7000), 20), (small, 100)):
        last = whole[whole.rindex(b"\xff\xda") : -2]
        assert "scans" in str(jpeg_damage(whole[:-2] + last * more + whole[-2:]))
    assert jpeg_damage(b"\xff\xd8" * 1_000_000) is not None
    assert jpeg_damage(b"\xff\xd8" + b"\xff\xdb\0\x02" * 1_000_000 + b"\xff\xd9") is not None
