"""What is answered at which address. Imports FastAPI; :mod:`captum_plq.web.app` imports it late."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from captum_plq.web.assess import PhotoAssessor
from captum_plq.web.guard import Guard
from captum_plq.web.keep import Keeper
from captum_plq.web.rate import RateLimit, household
from captum_plq.web.refusal import RefusedError, refusal_of
from captum_plq.web.settings import WebSettings
from captum_plq.web.upload import Body, Upload, read_upload
from captum_plq.web.waiting import Waiting

__all__ = ["make_app"]

_log = logging.getLogger("captum_plq.web")

_FAULT = "The server failed at this photo, which is its fault: try another; its log says more."


class _Desk:
    """Takes photos in and hands them, one at a time, to the thread that computes."""

    def __init__(
        self, settings: WebSettings, assessor: PhotoAssessor, keeper: Keeper | None
    ) -> None:
        self._settings, self._assessor, self._keeper = settings, assessor, keeper
        self._limit = RateLimit(settings.rate)
        self._waiting = Waiting(settings.places)
        self.close = self._waiting.close

    async def photo(self, request: Request) -> Response:
        """Answer ``POST /api/photo``."""
        return await self._answer(request, self._photo)

    async def what_if(self, request: Request) -> Response:
        """Answer ``POST /api/what-if``."""
        return await self._answer(request, self._what_if)

    async def about(self) -> Response:
        """Answer ``GET /api/about``."""
        settings = self._settings
        more = {"max_bytes": settings.max_bytes, "keeps": settings.keep is not None}
        return JSONResponse({**self._assessor.about(), **more})

    def _photo(self, upload: Upload) -> dict[str, Any]:
        answer = self._assessor.photo(upload.photo)
        if self._keeper is not None:
            try:
                self._keeper.keep(upload.photo, answer)
            except OSError as error:
                _log.error("A photo could not be kept: %s", error)
                answer["warnings"].append("The photo was to be kept, but could not be written.")
        return answer

    def _what_if(self, upload: Upload) -> dict[str, Any]:
        return self._assessor.what_if(upload.photo, upload.fields.get("region", ""))

    async def _answer(self, request: Request, work: Callable[[Upload], dict[str, Any]]) -> Response:
        body = Body(request, self._settings.max_bytes)
        try:
            client = household("" if request.client is None else request.client.host)
            with self._waiting.place(client):
                self._limit.take(client)
                upload = await read_upload(body, self._settings.patience)
                answer = await self._waiting.computed(partial(work, upload), body.left())
                return JSONResponse(answer)
        except Exception as error:  # whatever a decoder makes of a damaged file
            refusal = refusal_of(error)
            if refusal is None:
                _log.exception("A photo could not be assessed")
                refusal = RefusedError(500, _FAULT)
            await body.read_past()
            return _refused(refusal)


def make_app(
    settings: WebSettings, assessor: PhotoAssessor, keeper: Keeper | None = None
) -> FastAPI:
    """Return the application.

    Args:

        settings (WebSettings): Limits, and who may ask.
        assessor (PhotoAssessor): Of photos.
        keeper (Keeper, optional): Of photos that are assessed. ``None``: none is kept.

    Returns:
        *FastAPI*: without pages of documentation, which would load scripts from elsewhere.
    """
    desk = _Desk(settings, assessor, keeper)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    static = files("captum_plq.web").joinpath("static")
    page = static.joinpath("index.html").read_text("utf-8")
    app.add_api_route("/", lambda: HTMLResponse(page), methods=["GET", "HEAD"])
    app.add_api_route("/api/about", desk.about, methods=["GET"])
    app.add_api_route("/api/photo", desk.photo, methods=["POST"])
    app.add_api_route("/api/what-if", desk.what_if, methods=["POST"])
    app.mount("/static", StaticFiles(packages=[("captum_plq.web", "static")]))
    app.add_exception_handler(HTTPException, _no_such_thing)
    app.add_middleware(Guard, names=settings.names)
    return app


async def _no_such_thing(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = f"{request.method} of this address is not answered: open the page at /."
    return JSONResponse({"error": what}, status)


def _refused(refusal: RefusedError) -> Response:
    wait = refusal.retry_after
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return JSONResponse({"error": refusal.sentence}, refusal.status, headers)
