"""Takes regular files only, and the files themselves rather than notes of where they are kept."""

from __future__ import annotations

import os
import re
import stat
from os import PathLike
from pathlib import Path

from captum_plq._base.regular_file import open_checked

__all__ = ["regular_file"]

_LFS = b"version https://git-lfs"


def regular_file(path: str | PathLike[str]) -> Path:
    """Return the path of a file that can be read to its end.

    Args:

        path (str or PathLike): The file; ``~`` is the home folder, links are followed.

    Returns:
        *Path*: the file.

    Raises:
        FileNotFoundError: if there is no such file, or it is a folder.
        ValueError: if it is a pipe, a device or a socket, which might never end; or a Git LFS
            pointer in place of the file.
    """
    path = Path(path).expanduser()

    def require_regular(status: os.stat_result) -> None:
        if stat.S_ISDIR(status.st_mode):
            raise FileNotFoundError(f"{path} is a folder, not a file.")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is a pipe, a device or a socket, not a regular file.")

    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    with open_checked(path, require_regular) as file:
        start = file.read(256)
    if start.startswith(_LFS):
        size = re.search(rb"size (\d+)", start)
        told = f" of {int(size[1]):,} bytes" if size else ""
        raise ValueError(
            f"{path} is a Git LFS pointer, not the file{told} itself: run 'git lfs install' and "
            "'git lfs pull' in its repository, or download the file from its web page."
        )
    return path
