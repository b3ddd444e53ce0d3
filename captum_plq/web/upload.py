"""One photo out of a request, in memory: nothing is written to a temporary file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from captum_plq.web.refusal import RefusedError, broken_off

__all__ = ["Body", "Upload", "read_upload"]

_AROUND = 2**16  # bytes of a request around its photo: boundaries, headers, other fields
_PAST = 8  # times the longest request is read past and thrown away, so that it hears why
_FIELD = 1000  # bytes of a field that is no file
_SEVERAL = 8  # files and fields of a form that are told apart from rubbish


class Upload(NamedTuple):
    """What a request brings.

    Args:

        photo (bytes): All of the file.
        fields (dict[str, str]): The other fields, the last of each name.
    """

    photo: bytes
    fields: dict[str, str]


class Body:
    """The body of a request, read once, up to a length.

    Args:

        request (Request): Whose body it is.
        max_bytes (int): Longest photo in it.
    """

    def __init__(self, request: Request, max_bytes: int) -> None:
        self.headers = request.headers
        self.max_bytes = max_bytes
        self._receive, self._ended = request.receive, False

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield its parts.

        Raises:
            RefusedError: 400 if the client goes away, 413 if it is too long.
        """
        length = 0
        while not self._ended:
            chunk = await self._next()
            length += len(chunk)
            if length > self.max_bytes + _AROUND:
                raise _too_long(self.max_bytes)
            yield chunk

    async def read_past(self, patience: float = 5.0) -> None:
        """Read what is left, and throw it away.

        A client that still sends when the connection is closed may not read why.

        Args:

            patience (float): Seconds, at most; the length is limited too.
        """

        async def read() -> None:
            left = _PAST * (self.max_bytes + _AROUND)
            while left > 0 and not self._ended:
                left -= len(await self._next()) + 1

        with suppress(asyncio.TimeoutError, RefusedError):
            await asyncio.wait_for(read(), patience)

    async def left(self) -> None:
        """Wait, once all of it has been read, until the client goes away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._ended = True
            raise broken_off()
        self._ended = not message.get("more_body", False)
        return bytes(message.get("body", b""))


async def read_upload(body: Body, patience: float) -> Upload:
    """Read a photo from a form, ``multipart/form-data`` with a file in its field ``photo``.

    Names and types that the client gives are ignored.

    Args:

        body (Body): The form.
        patience (float): Seconds in which the form must have come.

    Returns:
        *Upload*: with one byte or more.

    Raises:
        RefusedError: 400 for a form that cannot be read, 408 if it takes too long, 413 if it is too
            long.
    """
    try:
        return await asyncio.wait_for(_read(body), patience)
    except asyncio.TimeoutError as error:
        raise RefusedError(
            408, f"The photo did not arrive within {patience:g} seconds: try again."
        ) from error


async def _read(body: Body) -> Upload:
    kind = body.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise RefusedError(400, "The request holds no photo: send a form with a file as 'photo'.")
    parser = MultiPartParser(
        body.headers,
        body.chunks(),
        max_files=_SEVERAL,
        max_fields=_SEVERAL,
        max_part_size=_FIELD,
    )
    parser.spool_max_size = _PAST * (body.max_bytes + _AROUND)  # never reached: all stays in memory
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise RefusedError(
            400, "The form cannot be read: send one photo, as the page does."
        ) from error
    try:
        photos = form.getlist("photo")
        if not photos:
            raise RefusedError(400, "The form holds no photo: choose a file.")
        if len(photos) > 1:
            raise RefusedError(400, f"The form holds {len(photos)} photos: send one at a time.")
        photo = photos[0]
        if not isinstance(photo, UploadFile):
            raise RefusedError(400, "The field 'photo' is text and not a file: choose a file.")
        if (photo.size or 0) > body.max_bytes:
            raise _too_long(body.max_bytes)
        data = await photo.read()
        if not data:
            raise RefusedError(400, "The file is empty: choose another, or save it anew.")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return Upload(data, fields)
    finally:
        await form.close()


def _too_long(max_bytes: int) -> RefusedError:
    return RefusedError(
        413, f"The photo is longer than {max_bytes / 2**20:.3g} MiB: scale it down and try again."
    )
