"""Opens a file only if it is one: never a pipe, a device or a socket, which may never end."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

__all__ = ["open_checked"]


def open_checked(path: str | os.PathLike[str], check: Callable[[os.stat_result], None]) -> BinaryIO:
    """Opens a file for reading, if it is of the kind and size that one wants.

    It is looked at before it is opened, as opening alone acts on pipes and some devices, and again
    when it is open, as the name may stand for something else by then.

    Args:

        path (str or PathLike): Its path; links are followed.
        check (Callable): Raises unless the file is one to open.

    Returns:
        *BinaryIO*: the open file.

    Raises:
        OSError: if it is missing or cannot be opened.
        Exception: what ``check`` raises.
    """
    check(os.stat(path))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags), "rb")  # noqa: SIM115 - the caller closes it
    try:
        check(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return file
