"""How much of a face lies beyond the edge of its photograph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.align import Template, points_in_photo
from captum_plq.faces.detect import Face
from captum_plq.faces.regions import face_regions

__all__ = ["cut_off_share"]

_SIDE = 64  # pixels; fine enough for a share


def cut_off_share(face: Face, shape: tuple[int, ...], *, template: Template) -> float:
    """Return which share of a face, as it is aligned, the edge of the photograph cuts off.

    :func:`~captum_plq.faces.align_face` fills what lies beyond the photograph with black, which
    lowers the quality and shows in the map like any other black.

    Args:

        face (Face): As detected in the photograph.
        shape (tuple[int, ...]): Of the photograph, (H, W, 3).
        template (str): As of :func:`~captum_plq.faces.align_face`. Its regions are counted, all
            but the background.

    Returns:
        *float*: 0 to 1; 0 if all of the face lies in the photograph.

    Raises:
        ValueError: if the landmarks or ``template`` are not as in
            :func:`~captum_plq.faces.align_face`.
        MissingExtraError: if dlib is not installed.

    Examples::

        >>> cut_off_share(best, image.shape, template="arcface")
        0.0
    """
    found = points_in_photo(_head(template), face, template=template, size=_SIDE)
    beyond = (found < -0.5) | (found > np.array([shape[1], shape[0]]) - 0.5)
    return float(beyond.any(axis=1).mean())


@lru_cache(maxsize=2)
def _head(template: Template) -> NDArray[np.float64]:
    """Return the pixels of the template's face, (n, 2), x and y."""
    rows, columns = np.nonzero(~face_regions(template, _SIDE)["background"])
    return np.stack([columns, rows], axis=1).astype(np.float64)
