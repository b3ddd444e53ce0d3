"""The application, made when it is asked for: FastAPI is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_plq.errors import extra
from captum_plq.web.assess import PhotoAssessor, load_assessor
from captum_plq.web.keep import Keeper
from captum_plq.web.settings import WebSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["create_app"]


def create_app(
    settings: WebSettings | None = None, assessor: PhotoAssessor | None = None
) -> FastAPI:
    """Make the application that ``captum-plq serve`` runs, for any ASGI server.

    Args:

        settings (WebSettings, optional): Default: as of ``captum-plq serve``.
        assessor (PhotoAssessor, optional): Default: that of the settings, which is loaded now.

    Returns:
        *FastAPI*: to be run in one process; photos are computed in one thread of it.

    Raises:
        ValueError: if network, calibration or parameters cannot be used.
        OSError: if a file is not there, or photos cannot be kept where they are to be.
        MissingExtraError: if the extra ``web`` is not installed.

    Examples::

        >>> app = create_app(WebSettings(rate=10))
    """
    with extra("web"):
        import cv2  # noqa: F401
        import python_multipart  # noqa: F401
        import skimage.restoration  # noqa: F401

        from captum_plq.web.routes import make_app

    settings = settings or WebSettings()
    keeper = None if settings.keep is None else Keeper(settings.keep)  # before it takes time
    return make_app(settings, assessor or load_assessor(settings), keeper)
