"""Which versions made a result."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["package_versions"]


@cache
def package_versions() -> dict[str, str | None]:
    """Versions of Python and of the packages a result depends on; ``None`` if not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("captum-plq", "torch", "captum", "numpy", "pillow", "dlib-bin"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions
