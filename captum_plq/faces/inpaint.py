"""Paint over part of a face from what is around it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from captum_plq._base.choices import require_choice
from captum_plq.errors import extra
from captum_plq.faces.checks import require_rgb

__all__ = ["InpaintMethod", "inpaint"]

InpaintMethod = Literal["telea", "navier-stokes", "biharmonic"]
"""How a masked part is filled: see :func:`inpaint`."""


def inpaint(
    chip: NDArray[np.uint8],
    mask: NDArray[Any],
    *,
    method: InpaintMethod = "telea",
    radius: float = 3.0,
) -> NDArray[np.uint8]:
    """Fill a masked part of an image from its surroundings.

    These methods carry on what the edge of the mask shows; unlike the learned one of the
    paper's Sec. IV-A they invent no eyes. They suit small or smooth parts.

    Args:

        chip (ndarray): (H, W, 3), uint8, RGB; left as it is.
        mask (ndarray): (H, W), bool, true where to paint; not everywhere.
        method (str): ``"telea"`` (Telea, J. Graphics Tools 2004) or ``"navier-stokes"``
            (Bertalmio et al., CVPR 2001), both OpenCV's, or ``"biharmonic"`` (Damelin & Hoang,
            2018), scikit-image's: smoothest, slower. None falls back on another.
        radius (float): Of OpenCV's methods: how far around a pixel they look, in pixels, ≥ 1.

    Returns:
        *ndarray*: (H, W, 3), uint8, RGB; the same as ``chip`` outside the mask.

    Raises:
        ValueError: if an argument is not as above.
        MissingExtraError: if OpenCV, or for ``"biharmonic"`` scikit-image, is not installed.

    Examples::

        >>> without_patch = inpaint(chip, patch, method="biharmonic")
    """
    image: NDArray[np.uint8] = require_rgb(chip)
    require_choice("method", method, InpaintMethod)
    if mask.shape != image.shape[:2] or mask.dtype != np.bool_:
        raise ValueError(
            f"mask must be bool of the image's shape {image.shape[:2]}, "
            f"but got {mask.dtype} of shape {mask.shape}."
        )
    if not radius >= 1:
        raise ValueError(f"radius must be at least 1 pixel, but got {radius}.")
    if mask.all():
        raise ValueError("mask covers the whole image: nothing is left to fill it from.")
    if not mask.any():
        return np.array(image)
    filled = (
        _biharmonic(image, mask) if method == "biharmonic" else _cv2(image, mask, method, radius)
    )
    result: NDArray[np.uint8] = np.where(mask[..., None], filled, image)
    return result


def _cv2(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], method: str, radius: float
) -> NDArray[np.uint8]:
    with extra("metrics"):
        import cv2
    flag = cv2.INPAINT_TELEA if method == "telea" else cv2.INPAINT_NS
    return np.asarray(cv2.inpaint(image, mask.astype(np.uint8), radius, flag), dtype=np.uint8)


def _biharmonic(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    with extra("metrics"):
        from skimage.restoration import inpaint_biharmonic
    filled = inpaint_biharmonic(image.copy(), mask.copy(), channel_axis=-1)
    pixels: NDArray[np.uint8] = np.rint(np.clip(filled, 0, 1) * 255).astype(np.uint8)
    return pixels
