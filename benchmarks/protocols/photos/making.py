"""Photos of faces that are whole, cut off by the edge, or covered, made from aligned crops."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_plq.faces import face_regions
from captum_plq.faces.align import Template

__all__ = ["ENLARGED", "SIDES", "Side", "cut", "photo_of"]

Side = Literal["left", "right", "top", "bottom"]
SIDES: tuple[Side, ...] = ("left", "right", "top", "bottom")
"""Of a photo that a face is cut off at."""

ENLARGED = 2
_MARGIN = 0.5  # of a side of the crop


def photo_of(crop: NDArray[np.uint8], *, margin: bool = True) -> tuple[NDArray[np.uint8], int]:
    """Return an aligned crop as a photo, twice as large, and how many pixels lie around the crop.

    Args:

        crop (ndarray): (H, W, 3), uint8, RGB.
        margin (bool): With a margin that goes on as the crop ends, as a plain background would;
            otherwise the crop is all of the photo.
    """
    height, width = crop.shape[:2]
    size = (ENLARGED * width, ENLARGED * height)
    image = np.array(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
    if not margin:
        return image, 0
    around = round(_MARGIN * height)
    return np.pad(image, ((around, around), (around, around), (0, 0)), mode="edge"), around


def cut(crop: NDArray[np.uint8], template: Template, side: Side, share: float) -> NDArray[np.uint8]:
    """Return a photo of a face of which its edge cuts a share off.

    Args:

        crop (ndarray): (H, W, 3), uint8, RGB, aligned.
        template (str): How; its regions but the background are the face.
        side (str): Where it is cut off.
        share (float): Of the face, 0 to 1.
    """
    photo, around = photo_of(crop)
    face = ~face_regions(template, crop.shape[:2])["background"]
    places = np.nonzero(face)[1 if side in ("left", "right") else 0]
    first = side in ("left", "top")
    last = float(np.quantile(places, share if first else 1 - share))  # the centre of a pixel
    edge = around + round(ENLARGED * (last + 0.5))
    kept = slice(edge, None) if first else slice(None, edge)
    return np.ascontiguousarray(photo[:, kept] if side in ("left", "right") else photo[kept])
