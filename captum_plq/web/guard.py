"""Who may ask, and what browsers are told about every answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["HEADERS", "Guard", "problem_of_caller"]

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer."""

_SAFE = ("GET", "HEAD")
_OWN = ("same-origin", "none", None)


class Guard:
    """Refuses calls by a foreign name and posts of foreign pages; adds :data:`HEADERS`.

    Args:

        app (ASGI application): What is guarded.
        names (frozenset of str, optional): By which it may be called. ``None``: any.
    """

    def __init__(self, app: ASGIApp, names: frozenset[str] | None) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        from starlette.datastructures import Headers, MutableHeaders
        from starlette.responses import JSONResponse

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                keep = "no-store" if scope["path"].startswith("/api/") else "no-cache"
                headers["Cache-Control"] = keep
            await send(message)

        problem = problem_of_caller(scope["method"], Headers(scope=scope), self._names)
        app = JSONResponse({"error": problem}, 403) if problem else self._app
        await app(scope, receive, send_with_headers)


def problem_of_caller(
    method: str, headers: Mapping[str, str], names: frozenset[str] | None
) -> str | None:
    """Return why a request is refused, whatever it asks for.

    Args:

        method (str): Of the request.
        headers (mapping): Name → value, names in any case.
        names (frozenset of str, optional): By which the server may be called. ``None``: any.

    Returns:
        *str or None*: the sentence; ``None`` if nothing is wrong.
    """
    host = headers.get("host", "")
    if names is not None and _hostname(host) not in names:
        return "This server is not called by that name: open the address that it printed."
    if method in _SAFE:
        return None
    origin = headers.get("origin")
    foreign = origin is not None and _place(origin) != host.lower()
    if foreign or headers.get("sec-fetch-site") not in _OWN:
        return "Photos are taken from this server's own page only: open the address it printed."
    return None


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
