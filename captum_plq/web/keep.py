"""Keeping photos, where that is asked for."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import closing
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

from captum_plq._base.whole_file import json_bytes, whole_file
from captum_plq.errors import extra
from captum_plq.faces.strict_pillow import formats_here

__all__ = ["Keeper"]

_PICTURES = ("face", "map")


class Keeper:
    """Keeps photos as they were sent, and what was answered beside each.

    Names are made of the time and of chance; what a client called its file is not looked at.

    Args:

        folder (Path): Where; made if it is not there, for its owner alone.

    Raises:
        OSError: if it cannot be made, or written to.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise OSError(
                f"Photos cannot be kept in {folder} ({error.strerror or error}): name a folder "
                "that can be written to."
            ) from error
        self._folder = folder

    def keep(self, photo: bytes, answer: dict[str, Any]) -> None:
        """Write a photo and its answer, without its pictures, as ``TIME-CHANCE.jpg`` and ``.json``.

        Args:

            photo (bytes): All of the file, which has been decoded before.
            answer (dict): Of :class:`~captum_plq.web.PhotoAssessor`.

        Raises:
            OSError: if they cannot be written.
        """
        with extra("web"):
            from PIL import Image
        with closing(Image.open(BytesIO(photo), formats=list(formats_here()))) as image:
            ending = str(image.format).lower()
        now = datetime.now(timezone.utc)
        stem = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        told = {name: value for name, value in answer.items() if name not in _PICTURES}
        with whole_file(self._folder / f"{stem}.{ending}") as file:
            file.write(photo)
        with whole_file(self._folder / f"{stem}.json") as file:
            file.write(json_bytes({"time": now.isoformat(), **told}, indent=2) + b"\n")
