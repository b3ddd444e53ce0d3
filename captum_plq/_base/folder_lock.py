"""Keeps a folder from other runs of this program."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captum_plq._base.whole_file import remove_unfinished, require_folder

__all__ = ["folder_lock"]

_LOCK = ".captum-plq.lock"


@contextmanager
def folder_lock(directory: Path) -> Iterator[int]:
    """Keep a folder from other runs of this program until the block ends.

    The lock is the operating system's, on a file in the folder: it ends with the process, however
    that ends.

    Args:

        directory (Path): Made if it is missing.

    Yields:
        *int*: the lock's file descriptor. A forked process shares the lock until it closes it.

    Raises:
        ValueError: if the folder cannot be written to, or another run has it.

    Examples::

        >>> with folder_lock(Path("results")):
        ...     pass
    """
    require_folder(directory)
    path = directory / _LOCK
    while True:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags, 0o666)
        try:
            _take(descriptor, directory)
            mine = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except FileNotFoundError:  # another run ended between the two lines and removed it
            mine = False
        except BaseException:
            os.close(descriptor)
            raise
        if mine:
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        remove_unfinished(directory)
        yield descriptor
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _take(descriptor: int, directory: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 1000, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        os.lseek(descriptor, 0, os.SEEK_SET)
        process = os.read(descriptor, 20).decode("ascii", "replace")
        raise ValueError(
            f"Another run (process {process}) writes into {directory}: wait until it ends, or name "
            "another folder."
        ) from error
    except OSError as error:
        warnings.warn(
            f"{directory} cannot be locked ({error.strerror}): let no other run write there.",
            stacklevel=2,
        )
