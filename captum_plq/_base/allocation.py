"""Memory that glibc keeps for the next layer, in place of giving it back to the kernel."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed_memory"]

_MOST = 1 << 30
"""Bytes: smaller blocks come from memory that is kept, up to as much of it."""
_SETTINGS = {-8: 1, -3: _MOST, -1: _MOST}
"""``M_ARENA_MAX``, as only the first arena keeps large blocks, ``M_MMAP_THRESHOLD`` and
``M_TRIM_THRESHOLD`` of glibc's ``malloc.h``."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, if it allocates with glibc.

    By default glibc gives blocks of 32 MB and more back at once, and the kernel fills the next
    layer's with zeros, page by page. Nothing is changed where the user has set how memory is
    allocated, by ``MALLOC_…`` or ``GLIBC_TUNABLES`` in the environment. The process is as large
    as it has been at most, until it ends: so this is for commands, not for a library.

    Examples::

        >>> keep_freed_memory()  # once, before the network runs
    """
    chosen = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or chosen:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in _SETTINGS.items():
            mallopt(parameter, value)
