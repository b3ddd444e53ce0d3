"""Reads a file only if it is one: never a pipe, a device or a socket, which may never end."""

from __future__ import annotations

import os
import stat

from captum_plq._base.regular_file import open_checked
from captum_plq.faces.checks import ImageError

__all__ = ["read_regular_file"]

_KINDS = (
    (stat.S_ISDIR, "a directory; name an image file in it."),
    (stat.S_ISFIFO, "a named pipe; only regular files are opened."),
    (stat.S_ISSOCK, "a socket; only regular files are opened."),
    (stat.S_ISCHR, "a device; only regular files are opened."),
    (stat.S_ISBLK, "a device; only regular files are opened."),
)


def read_regular_file(name: str, max_bytes: int) -> bytes:
    """Reads a whole file, at once or not at all.

    Args:

        name (str): Its path; links are followed.
        max_bytes (int): Longer files are not read.

    Returns:
        *bytes*

    Raises:
        ImageError: if it is missing, empty, longer, unreadable, or no regular file.
    """
    try:
        with open_checked(name, lambda status: _require_regular(name, status, max_bytes)) as file:
            data = file.read(max_bytes + 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        what = "is a link to nothing; mend it." if os.path.islink(name) else None
        raise ImageError(f"{name} {what or 'does not exist; check the path.'}") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; check its permissions.") from error
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror}); check the path.") from error
    except ValueError as error:  # a name that no file can have
        raise ImageError(f"{name!r} cannot be read ({error}); check the path.") from error
    if len(data) > max_bytes:
        raise ImageError(_too_long(name, max_bytes))
    return data


def _require_regular(name: str, status: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode) and not os.access(name, os.R_OK | os.X_OK):
        raise ImageError(f"{name} is a directory that may not be read; check its permissions.")
    for is_kind, what in _KINDS:
        if is_kind(status.st_mode):
            raise ImageError(f"{name} is {what}")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name} is not a regular file; only those are opened.")
    if status.st_size == 0:  # also what the kernel makes up as it is read, as under /proc
        raise ImageError(f"{name} is not an image but empty; get it again as JPEG or PNG.")
    if status.st_size > max_bytes:
        raise ImageError(_too_long(name, max_bytes))


def _too_long(name: str, max_bytes: int) -> str:
    return f"{name} is longer than the {max_bytes:,} bytes allowed; scale the image down."
