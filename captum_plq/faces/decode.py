"""From an image file to an 8-bit RGB array, or to one sentence that says why not."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces._checks import faces_extra

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageError", "load_image"]


class ImageError(ValueError):
    """A file that cannot be used as an image; the message names it and says what to do."""


def load_image(
    path: str | os.PathLike[str], *, max_pixels: int = 50_000_000, min_side: int = 16
) -> NDArray[np.uint8]:
    """Reads an image file the way a viewer would show it.

    The EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to
    8 bits, and of an animation the first frame is taken. Colour profiles are not applied.

    Args:

        path (str or PathLike): The file, of any format that Pillow reads.
        max_pixels (int): Files of more pixels are refused before their pixels are decoded.
            Pillow's own limit (twice ``PIL.Image.MAX_IMAGE_PIXELS``, as a rule 179 million)
            holds in any case.
        min_side (int): Images of which a side is shorter, in pixels, are refused.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB, writable.

    Raises:
        ImageError: if the file is missing, a directory, not an image, truncated or otherwise
            damaged, too large, too small, or holds pixels whose value range is unknown
            (floating point, or integers beyond 16 bits).
        MissingExtraError: if Pillow is not installed.

    Examples::

        >>> image = load_image("portrait.jpg")
        >>> image.shape, image.dtype
        ((512, 512, 3), dtype('uint8'))
    """
    with faces_extra():
        from PIL import Image, UnidentifiedImageError

    name = os.fspath(path)
    if os.path.isdir(name):
        raise ImageError(f"{name} is a directory; name an image file in it.")
    if not os.path.exists(name):
        raise ImageError(f"{name} does not exist; check the path.")
    with warnings.catch_warnings():
        # Pillow warns of large images and of damaged metadata; whatever matters is raised.
        warnings.simplefilter("ignore")
        try:
            with Image.open(name) as image:
                _require_size(name, image.size, max_pixels, min_side)
                image.load()
                return _to_rgb(name, _upright(image))
        except ImageError:
            raise
        except UnidentifiedImageError as error:
            raise ImageError(
                f"{name} is not an image that Pillow can read; save it as JPEG or PNG."
            ) from error
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"{name} has more pixels than Pillow will decode; scale it down."
            ) from error
        except PermissionError as error:
            raise ImageError(f"{name} may not be read; check its permissions.") from error
        except Exception as error:  # Pillow's readers raise whatever their parsing runs into.
            raise ImageError(
                f"{name} is truncated or damaged ({error}); get it again or save it anew."
            ) from error


def _require_size(name: str, size: tuple[int, int], max_pixels: int, min_side: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width}×{height} pixels, more than the {max_pixels:,} allowed; "
            "scale it down."
        )
    if min(width, height) < min_side:
        raise ImageError(
            f"{name} has only {width}×{height} pixels; each side needs at least {min_side}."
        )


def _upright(image: Image) -> Image:
    """Applies the EXIF orientation.

    Not by ``ImageOps.exif_transpose``, which also writes the other tags anew and fails where
    one of them is damaged.
    """
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # damaged throughout: there is no orientation to be had
        return image
    steps = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(steps[orientation]) if orientation in steps else image


def _to_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    """Brings any of Pillow's modes to (H, W, 3) uint8."""
    from PIL import Image as PillowImage

    if image.mode == "F":
        raise ImageError(
            f"{name} holds floating-point pixels, whose range the file does not tell; "
            "save it with 8 or 16 bits."
        )
    if image.mode.startswith("I"):
        return _sixteen_bit_to_rgb(name, image)
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = PillowImage.new("RGBA", rgba.size, "white")
        image = PillowImage.alpha_composite(white, rgba)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _sixteen_bit_to_rgb(name: str, image: Image) -> NDArray[np.uint8]:
    """Scales the modes ``I;16…`` and ``I`` (0–65535) to 0–255: 65535 = 255 · 257."""
    grey = np.asarray(image).astype(np.int64)
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError(
            f"{name} holds integers from {grey.min()} to {grey.max()}, beyond 16 bits; "
            "save it with 8 or 16 bits."
        )
    eight = ((grey + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # PNG: the one grey value that stands for "nothing here"
        eight[grey == transparent] = 255
    return np.repeat(eight[:, :, None], 3, axis=2)
