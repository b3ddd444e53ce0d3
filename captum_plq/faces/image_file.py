"""The bytes of an image file, or one sentence that says why not."""

from __future__ import annotations

import os
import stat

from captum_plq._base.regular_file import open_checked

__all__ = ["EMPTY", "ImageError", "read_image_file"]

EMPTY = "{} is not an image but empty; get it again as JPEG or PNG."
_KINDS = (
    (stat.S_ISDIR, "a directory; name an image file in it."),
    (stat.S_ISFIFO, "a named pipe; only regular files are opened."),
    (stat.S_ISSOCK, "a socket; only regular files are opened."),
    (stat.S_ISCHR, "a device; only regular files are opened."),
    (stat.S_ISBLK, "a device; only regular files are opened."),
)


class ImageError(ValueError):
    """A file that cannot be used as an image; the message names it and says what to do.

    Args:

        message (str): The sentence.
        reason (str): In one word: ``"missing"``, ``"unreadable"``, ``"not_a_file"``, ``"empty"``,
            ``"not_an_image"``, ``"damaged"``, ``"too_large"``, ``"too_small"``,
            ``"unknown_range"``.
    """

    def __init__(self, message: str, reason: str = "damaged") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return ImageError, (str(self), self.reason)


def read_image_file(path: str | os.PathLike[str], *, max_bytes: int = 200_000_000) -> bytes:
    """Read all of a regular file, or nothing of it; never of a pipe or a device without an end.

    Args:

        path (str or PathLike): The file; links are followed.
        max_bytes (int): Longer files are refused unread.

    Returns:
        *bytes*: at least one.

    Raises:
        ImageError: if the file is missing, empty, too long, no regular file or may not be read.

    Examples::

        >>> data = read_image_file("portrait.jpg")
    """
    name = os.fsdecode(path)
    try:
        with open_checked(name, lambda status: _require_regular(name, status, max_bytes)) as file:
            data = file.read(max_bytes + 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        what = "is a link to nothing; mend it." if os.path.islink(name) else None
        raise ImageError(
            f"{name} {what or 'does not exist; check the path.'}", "missing"
        ) from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; check its permissions.", "unreadable") from error
    except OSError as error:
        raise ImageError(
            f"{name} cannot be read ({error.strerror}); check the path.", "unreadable"
        ) from error
    except ValueError as error:  # a name that no file can have
        raise ImageError(
            f"{name!r} cannot be read ({error}); check the path.", "missing"
        ) from error
    if len(data) > max_bytes:
        raise ImageError(_too_long(name, max_bytes), "too_large")
    return data


def _require_regular(name: str, status: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode) and not os.access(name, os.R_OK | os.X_OK):
        raise ImageError(
            f"{name} is a directory that may not be read; check its permissions.", "unreadable"
        )
    for is_kind, what in _KINDS:
        if is_kind(status.st_mode):
            raise ImageError(f"{name} is {what}", "not_a_file")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a regular file; only those are opened.", "not_a_file")
    if status.st_size == 0:  # also what the kernel makes up as it is read, as under /proc
        raise ImageError(EMPTY.format(name), "empty")
    if status.st_size > max_bytes:
        raise ImageError(_too_long(name, max_bytes), "too_large")


def _too_long(name: str, max_bytes: int) -> str:
    return f"{name} is longer than the {max_bytes:,} bytes allowed; scale the image down."
