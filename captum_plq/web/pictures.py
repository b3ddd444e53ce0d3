"""What the page draws: the face, the map over it, and the outlines of its regions."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from captum_plq.errors import extra
from captum_plq.faces import face_regions
from captum_plq.faces.align import Template
from captum_plq.functional.enlargement import PlaceCentres, interpolate
from captum_plq.functional.guided import guided_by_image
from captum_plq.visualization.local_maps import LOCAL_COLOURS, ZSCORE_LIMIT

__all__ = ["data_url", "map_scale", "overlay", "region_outlines"]

_SHOWN = 0.9  # opacity of the darkest colours
_STEPS = 11
_LOOSE = 1.0  # pixels by which an outline may miss its region


def data_url(pixels: NDArray[np.uint8]) -> str:
    """Return an image as the text that a page shows it from.

    Args:

        pixels (ndarray): (H, W, 3) or (H, W, 4), uint8, RGB or RGBA.

    Returns:
        *str*: ``data:image/png;base64,…``.
    """
    with extra("web"):
        from PIL import Image
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def overlay(
    zscores: NDArray[np.float32],
    face: NDArray[np.uint8],
    size: tuple[int, int],
    centres: PlaceCentres | None = None,
) -> NDArray[np.uint8]:
    """Draw the standardised local map, to be laid over the face.

    The colours are those of :func:`~captum_plq.visualization.plot_local_quality`; what is as in
    high-quality faces is transparent.

    Args:

        zscores (ndarray): (h, w), at places, in standard deviations.
        face (ndarray): (H, W, 3), uint8, whose edges the map follows.
        size (tuple[int, int]): Height and width of the picture, in pixels.
        centres (PlaceCentres, optional): Where the places lie in the face.

    Returns:
        *ndarray*: (*size, 4), uint8, RGBA.
    """
    smooth = interpolate(torch.from_numpy(zscores)[None], (face.shape[0], face.shape[1]), centres)
    image = torch.from_numpy(face).permute(2, 0, 1)[None]
    shown = F.interpolate(guided_by_image(smooth, image)[None], size, mode="bilinear")[0, 0]
    level = (shown.numpy() / ZSCORE_LIMIT).clip(-1, 1)
    pixels: NDArray[np.uint8] = colormaps[LOCAL_COLOURS]((level + 1) / 2, bytes=True)
    pixels[..., 3] = np.rint(255 * _SHOWN * np.abs(level))
    return pixels


def map_scale() -> dict[str, Any]:
    """Return the colours of :func:`overlay` from worst to best, and words for both ends."""
    limit = f"{ZSCORE_LIMIT:g} standard deviations"
    return {
        "low_text": f"{limit} worse than good faces here, or more",
        "high_text": f"{limit} better",
        "colours": [to_hex(c) for c in colormaps[LOCAL_COLOURS](np.linspace(0, 1, _STEPS))],
    }


def region_outlines(
    template: Template, size: tuple[int, int]
) -> dict[str, list[list[list[float]]]]:
    """Return the outlines of the regions of an aligned face.

    Args:

        template (str): As of :func:`~captum_plq.faces.face_regions`.
        size (tuple[int, int]): Height and width of the face, in pixels.

    Returns:
        *dict[str, list]*: region → its pieces, the largest first, each a list of points (x, y), 0
        to 1 of width and height.
    """
    with extra("web"):
        import cv2
    height, width = size
    found = {}
    for name, area in face_regions(template, size).items():
        pieces, _ = cv2.findContours(
            area.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        pieces = sorted(pieces, key=cv2.contourArea, reverse=True)
        loose = [cv2.approxPolyDP(piece, _LOOSE, True)[:, 0] for piece in pieces]
        found[name] = [
            [[round((x + 0.5) / width, 4), round((y + 0.5) / height, 4)] for x, y in piece.tolist()]
            for piece in loose
            if len(piece) > 2
        ]
    return found
