"""Opens regular files only, and knows the files that come with a package."""

from __future__ import annotations

import hashlib
from os import PathLike
from pathlib import Path

__all__ = ["refuse_changed", "regular_file"]


def regular_file(path: str | PathLike[str]) -> Path:
    """The path of a file that can be read to its end: no pipe, device, socket or folder.

    Args:

        path (str or PathLike): The file; ``~`` is the home folder, links are followed.

    Returns:
        *Path*: the file.

    Raises:
        FileNotFoundError: if there is no such file, or it is a folder.
        ValueError: if it is a pipe, a device or a socket, which might never end.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise FileNotFoundError(f"{path} is a folder, not a file.")
    if path.exists():
        raise ValueError(f"{path} is a pipe, a device or a socket, not a regular file.")
    raise FileNotFoundError(f"There is no file {path}.")


def refuse_changed(path: Path, sha256: str, again: str) -> None:
    """Refuses a file of an installed package that is not the one it came with.

    Args:

        path (Path): The file.
        sha256 (str): What it must be, in hexadecimal.
        again (str): The command that installs it.

    Raises:
        ValueError: if its digest is another.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged or was changed: its sha256 is {found[:12]}…, not {sha256[:12]}…. "
            f"Install it again: {again}. Weights of your own are given by their path."
        )
