"""Pillow without its leniency: a fixed list of formats, damage raised and not warned of."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["FORMATS", "formats_here", "strict_pillow"]

FORMATS = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "JPEG2000": "JPEG 2000",
    "AVIF": "AVIF",
    "PPM": "PPM",
}
"""What is read: Pillow's name → the usual one. Photographs, and what face data sets come in.

Of what Pillow reads besides, some starts a program (EPS: Ghostscript), some holds other images, and
none is how photographs are kept.
"""

_lock = threading.Lock()
_users = 0
_settings = ExitStack()


def formats_here() -> dict[str, str]:
    """Return the part of :data:`FORMATS` that the installed Pillow was built with."""
    from PIL import Image

    Image.init()
    return {pillow: usual for pillow, usual in FORMATS.items() if pillow in Image.OPEN}


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Make Pillow raise for truncated files, whoever told it not to, and not warn.

    Both settings belong to the process, so that threads share one change of them: the first
    makes it and the last takes it back.

    Examples::

        >>> from PIL import Image
        >>> with strict_pillow(), Image.open("photo.jpg") as image:
        ...     pixels = image.convert("RGB")
    """
    global _users
    with _lock:
        if _users == 0:
            _settings.enter_context(_refuse_truncated())
            if not _filters_per_thread():
                _settings.enter_context(_no_warnings())
        _users += 1
    try:
        with _no_warnings() if _filters_per_thread() else ExitStack():
            yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _settings.close()


def _filters_per_thread() -> bool:
    """Whether each thread has warning filters of its own, and so has to change them itself."""
    return bool(getattr(sys.flags, "context_aware_warnings", False))


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _refuse_truncated() -> Iterator[None]:
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
