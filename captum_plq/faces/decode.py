"""From an image file to an 8-bit RGB array, or to one sentence that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces.image_file import EMPTY, ImageError, read_image_file
from captum_plq.faces.jpeg_damage import jpeg_damage
from captum_plq.faces.strict_pillow import formats_here, strict_pillow

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["decode_image", "load_image"]

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BAND = 1_000_000  # pixels converted at a time


def load_image(
    path: str | os.PathLike[str],
    *,
    max_pixels: int = 50_000_000,
    min_side: int = 16,
    max_bytes: int = 200_000_000,
) -> NDArray[np.uint8]:
    """Read an image file the way a viewer would show it, or not at all if it is damaged.

    The EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to
    8 bits, and of an animation the first frame is taken. Colour profiles are not applied.

    JPEG, PNG, WebP, TIFF, BMP, GIF, JPEG 2000, AVIF and PPM are read, whatever a file is called;
    the photographs of a burst or a panorama (MPO) are JPEG. Only regular files are opened.

    How surely damage is found depends on the format. PNG has checksums, all of which are
    compared. In JPEG, also within TIFF, everything is refused that libjpeg warns of, and so are
    runs of zeros that are no picture; a single changed byte often passes. The other formats have
    no checksums: what is missing is found, and what cannot be decoded, but not a changed value.

    Args:

        path (str or PathLike): The file.
        max_pixels (int): Files of more pixels are refused before their pixels are decoded.
            JPEG 2000, whose decoder takes twice the memory, is allowed half of them. Pillow's
            own limit (twice ``PIL.Image.MAX_IMAGE_PIXELS``, as a rule 179 million) holds in any
            case.
        min_side (int): Images of which a side is shorter, in pixels, are refused.
        max_bytes (int): Longer files are refused unread.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB, writable.

    Raises:
        ImageError: if the file is missing, no regular file, not an image, truncated or otherwise
            damaged, too large, too small, or holds pixels whose value range is unknown
            (floating point, or integers beyond 16 bits).
        MissingExtraError: if Pillow is not installed, or, for a JPEG image, simplejpeg.

    Examples::

        >>> image = load_image("portrait.jpg")
        >>> image.shape, image.dtype
        ((512, 512, 3), dtype('uint8'))
    """
    with extra("faces"):  # what is absent is no file's fault
        import PIL.Image  # noqa: F401

    data = read_image_file(path, max_bytes=max_bytes)
    return decode_image(data, os.fsdecode(path), max_pixels=max_pixels, min_side=min_side)


def decode_image(
    data: bytes, name: str, *, max_pixels: int = 50_000_000, min_side: int = 16
) -> NDArray[np.uint8]:
    """Decode the bytes of an image file, as :func:`load_image` does.

    Args:

        data (bytes): All of the file.
        name (str): What an error calls it.
        max_pixels (int): As for :func:`load_image`.
        min_side (int): As for :func:`load_image`.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB, writable.

    Raises:
        ImageError: as :func:`load_image`.
        MissingExtraError: as :func:`load_image`.

    Examples::

        >>> image = decode_image(Path("portrait.jpg").read_bytes(), "portrait.jpg")
    """
    with extra("faces"):
        from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(EMPTY.format(name), "empty")
    if (
        data[:2] in (b"II", b"MM") and b"+" in data[2:4]
    ):  # its tags may be millions, read one by one
        raise ImageError(
            f"{name} is BigTIFF, made for over 4 GB; save it as TIFF, JPEG or PNG.", "not_an_image"
        )
    formats = formats_here()
    with strict_pillow():
        try:
            with closing(Image.open(BytesIO(data), formats=list(formats))) as image:
                _require_size(name, image, max_pixels, min_side)
                _require_whole(image, data)
                image.load()
                upright = _upright(image)
                pixels = _to_rgb(name, image)
            return np.ascontiguousarray(upright(pixels))
        except (ImageError, ImportError):
            raise
        except UnidentifiedImageError as error:
            raise ImageError(_unidentified(name, data, formats.values()), "not_an_image") from error
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} has more pixels than are ever decoded; scale it down.", "too_large"
            ) from error
        except Exception as error:  # Pillow's readers raise whatever their parsing runs into.
            raise ImageError(
                f"{name} is truncated or damaged ({error}); get it again or save it anew."
            ) from error


def _unidentified(name: str, data: bytes, formats: Iterable[str]) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return f"{name} is a HEIC photo, which cannot be read; export it as JPEG or PNG."
    return (
        f"{name} is not an image of a format that is read ({', '.join(formats)}), or its beginning "
        "is damaged; save it as JPEG or PNG."
    )


def _require_size(name: str, image: Image, max_pixels: int, min_side: int) -> None:
    width, height = image.size
    if image.format == "JPEG2000":
        max_pixels //= 2
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width}×{height} pixels, more than the {max_pixels:,} allowed; "
            "scale it down.",
            "too_large",
        )
    if min(width, height) < min_side:
        raise ImageError(
            f"{name} has only {width}×{height} pixels; each side needs at least {min_side}.",
            "too_small",
        )


def _require_whole(image: Image, data: bytes) -> None:
    """Raise if there is damage that Pillow passes over.

    Raises:
        ValueError, OSError, SyntaxError: if there is any.
    """
    from PIL import Image as PillowImage

    if image.format == "PNG":  # the checksums that no pixel depends on, and those of the pixels
        with PillowImage.open(BytesIO(data), formats=["PNG"]) as again:
            again.verify()
    if image.format == "JPEG2000" and b"\xff\xd9" not in data:  # the marker at its end
        raise ValueError("its codestream has no end")
    for jpeg in _jpegs(image, data):
        damage = jpeg_damage(jpeg)
        if damage is not None:
            raise ValueError(damage)


def _jpegs(image: Image, data: bytes) -> Iterator[bytes]:
    """The JPEG data that the pixels come from."""
    from PIL.TiffImagePlugin import TiffImageFile

    if image.format in ("JPEG", "MPO"):
        yield data
    elif isinstance(image, TiffImageFile) and image.info.get("compression") == "jpeg":
        tags = image.tag_v2
        tables = tags.get(347, b"")[:-2]
        offsets, lengths = (273, 279) if 273 in tags else (324, 325)  # strips or tiles
        for offset, length in zip(tags[offsets], tags[lengths], strict=True):
            yield tables + data[offset + (2 if tables else 0) : offset + length]


def _upright(image: Image) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """The function that brings the pixels to the EXIF orientation.

    Not ``ImageOps.exif_transpose``, which also writes the other tags anew and fails where one of
    them is damaged.
    """
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged throughout: there is no orientation to be had
        orientation = 1
    steps: dict[object, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        2: np.fliplr,
        3: lambda pixels: np.rot90(pixels, 2),
        4: np.flipud,
        5: lambda pixels: pixels.swapaxes(0, 1),
        6: lambda pixels: np.rot90(pixels, -1),
        7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    return steps.get(orientation, lambda pixels: pixels)


def _to_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    """Convert any of Pillow's modes to (H, W, 3) uint8, a band at a time to save memory."""
    if image.mode == "F":
        raise ImageError(
            f"{name} holds floating-point pixels, whose range the file does not tell; "
            "save it with 8 or 16 bits.",
            "unknown_range",
        )
    convert = _sixteen_bit_to_rgb if image.mode.startswith("I") else _eight_bit_to_rgb
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    rows = max(1, _BAND // width)
    if rows >= height:
        pixels[:] = convert(name, image)
        return pixels
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = convert(name, image.crop((0, top, width, bottom)))
    return pixels


def _eight_bit_to_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    from PIL import Image as PillowImage

    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = PillowImage.new("RGBA", rgba.size, "white")
        image = PillowImage.alpha_composite(white, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)


def _sixteen_bit_to_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    """Scale the modes ``I;16…`` and ``I`` (0–65535) to 0–255: 65535 = 255 · 257."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(
            f"{name} holds integers from {grey.min()} to {grey.max()}, beyond 16 bits; "
            "save it with 8 or 16 bits.",
            "unknown_range",
        )
    eight = ((grey + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # PNG: the one grey value that stands for "nothing here"
        eight[grey == transparent] = 255
    return np.repeat(eight[:, :, None], 3, axis=2)
