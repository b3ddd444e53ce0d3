"""What a client is told instead of an answer."""

from __future__ import annotations

from captum_plq.errors import UnusableImagesError
from captum_plq.faces import ImageError, NoFaceError

__all__ = ["RefusedError", "broken_off", "refusal_of"]

_LONGEST = 300  # characters of a sentence

_STATUS = {"empty": 400, "too_large": 413, "not_an_image": 415}
"""Reason of :class:`~captum_plq.faces.ImageError` → status; 422 for all others."""


_PLAIN = {
    "damaged": (
        "The photo is damaged or incomplete: choose it again, or open it in another program and "
        "save it anew as JPEG or PNG."
    ),
    "unknown_range": (
        "The file holds other numbers than the colours of a photo: save it as JPEG or PNG."
    ),
}
"""Reason → what people are told, where the error itself speaks of chunks, markers and bits."""


class RefusedError(Exception):
    """A request that is not answered, and why.

    Args:

        status (int): Of HTTP, 400 to 503.
        sentence (str): What was wrong, and what to do.
        retry_after (int, optional): In how many seconds to try again.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


def broken_off() -> RefusedError:
    """Return what is said, to nobody, of an upload whose sender has gone away."""
    return RefusedError(400, "The upload was broken off: try again.")


def refusal_of(error: Exception) -> RefusedError | None:
    """Return what to tell of a photo that cannot be assessed.

    Args:

        error (Exception): As decoding, detection or the network raised it.

    Returns:
        *RefusedError or None*: ``None`` for an error that no photo should cause.

    Examples::

        >>> refusal_of(ImageError("The file is empty; get it again.", "empty")).status
        400
    """
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, ImageError):
        words = _PLAIN.get(error.reason) or _one_line(str(error))
        return RefusedError(_STATUS.get(error.reason, 422), words)
    if isinstance(error, NoFaceError):
        return RefusedError(
            422,
            "No face was found in the photo: look straight into the camera, hold it upright, come "
            "closer, and take away what hides the face.",
        )
    if isinstance(error, UnusableImagesError):
        return RefusedError(422, _one_line(f"{error.problem}: {error.advice}"))
    if isinstance(error, ValueError):
        return RefusedError(422, _one_line(f"The face cannot be assessed: {error}"))
    return None


def _one_line(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…"
