"""Check images and landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["require_landmarks", "require_rgb"]

_FARTHEST = 1e7  # pixels


def require_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an 8-bit RGB image, contiguous, or raise if it is none.

    Args:

        image (ndarray): To be checked.

    Returns:
        *ndarray*: the same image, (H, W, 3), uint8, contiguous as dlib wants it; copied only
        if it was not contiguous.

    Raises:
        ValueError: if it is not of shape (H, W, 3) and type uint8, or has no pixels.
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(f"image must be a NumPy array, but got {type(image).__name__}.")
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            "image must be RGB of shape (H, W, 3) and type uint8, "
            f"but got shape {image.shape} and type {image.dtype}."
        )
    return np.ascontiguousarray(image, dtype=np.uint8)


def require_landmarks(landmarks: NDArray[Any]) -> NDArray[np.float64]:
    """Return dlib's five landmarks, or raise if an array does not hold them.

    Args:

        landmarks (ndarray): To be checked.

    Returns:
        *ndarray*: the same points, (5, 2), float64.

    Raises:
        ValueError: if it is not of shape (5, 2), not finite, beyond what can be pixels, or if
            the two eyes are less than a pixel apart.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise ValueError(
            f"landmarks must be five finite points (5, 2), but got shape {points.shape}."
        )
    if not (np.abs(points) <= _FARTHEST).all():
        raise ValueError(
            f"landmarks must be five finite points in pixels, but got {points.tolist()}."
        )
    distance = np.linalg.norm(points[0:2].mean(axis=0) - points[2:4].mean(axis=0))
    if distance < 1:
        raise ValueError(
            "landmarks must have two different eyes, in pixels, but their centres are "
            f"{distance:.2g} pixels apart."
        )
    return points
