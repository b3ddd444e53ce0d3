"""The regions of an aligned face, by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.align import Template, template_landmarks
from captum_plq.faces.disturb.drawing import face_axes

__all__ = ["REGIONS", "REGION_WORDS", "face_regions"]

REGION_WORDS = {
    "forehead": "forehead and hair",
    "left_eye": "left eye and brow",
    "right_eye": "right eye and brow",
    "nose": "nose",
    "left_cheek": "left cheek",
    "right_cheek": "right cheek",
    "mouth": "mouth",
    "chin": "chin and jaw",
    "background": "background",
}
"""What to call each region in a text; "left" is the left of the person shown."""

REGIONS = tuple(REGION_WORDS)
"""The names of the regions, in the order of :func:`face_regions`."""

# In the axes of the face: across in distances between the eyes' centres, down in distances from
# the eyes to the base of the nose. Set by eye on the mean of 200 faces of LFW in each template.
_BROWS, _LIDS, _TEMPLE = -0.72, 0.38, 0.92
_NOSE_BASE, _LIPS, _MOUTH, _JAW = 1.1, 1.9, 0.6, 1.45
_NOSE = ((-0.72, 0.04), (0.0, 0.12), (0.75, 0.36), (1.1, 0.36))  # down, half the width
_HAIR_LINE, _ABOVE, _BELOW = 0.2, (1.3, 2.7), (1.2, 2.4)  # half ellipses: half width, height


def face_regions(
    template: Template,
    size: int | tuple[int, int],
    landmarks: NDArray[np.float64] | None = None,
) -> dict[str, NDArray[np.bool_]]:
    """Divide an aligned face into nine regions; each pixel belongs to one.

    "Left" is the left of the person shown, so it lies on the right of the picture. (The parts that
    :func:`~captum_plq.faces.cover_eye` and the like hide are named as seen in the picture.)
    The regions are drawn from five landmarks alone: they turn, lean and grow with the face, and
    nothing in them knows its hair, its jaw or its expression.

    Args:

        template (str): ``"arcface"`` or ``"dlib"``, see :func:`~captum_plq.faces.align_face`.
        size (int or tuple[int, int]): Side, or height and width, of the chip in pixels.
        landmarks (ndarray, optional): (5, 2), as of :func:`~captum_plq.faces.landmarks_in_chip`.
            ``None``: where they lie in the template.

    Returns:
        *dict[str, ndarray]*: name → (height, width), bool, in the order of :data:`REGIONS`:
        ``forehead`` with the hair above and beside it, ``left_eye`` and ``right_eye`` with their
        brows, ``nose``, ``left_cheek``, ``right_cheek``, ``mouth`` from the nose to below the
        lips, ``chin`` with the jaw, ``background``. A region that lies outside the chip is empty.

    Raises:
        ValueError: if ``template``, ``size`` or ``landmarks`` is not as above, or the base of the
            nose lies between the eyes.

    Examples::

        >>> regions = face_regions("arcface", 112)
        >>> bool(regions["left_eye"][53, 73])  # row, column
        True
    """
    points = template_landmarks(template, size)
    height, width = (size, size) if isinstance(size, int) else size
    axes = face_axes(points if landmarks is None else landmarks)
    if np.linalg.norm(axes.down) < 0.1 * axes.eye_distance:
        raise ValueError("The base of the nose must lie apart from the line between the eyes.")
    rows, columns = np.mgrid[:height, :width]
    x, y = columns - axes.middle[0], rows - axes.middle[1]
    across = (x * axes.across[0] + y * axes.across[1]) / (axes.across @ axes.across)
    down = (x * axes.down[0] + y * axes.down[1]) / (axes.down @ axes.down)
    across = across - axes.lean * down.clip(0, 1)
    return _divide(across, down)


def _divide(across: NDArray[np.float64], down: NDArray[np.float64]) -> dict[str, NDArray[np.bool_]]:
    """Name what lies where in the axes of the face; what is named first has the pixel."""
    aside = np.abs(across)
    left = across > 0  # seen on the right
    wide = np.where(down < _HAIR_LINE, _ABOVE[0], _BELOW[0])
    high = np.where(down < _HAIR_LINE, _ABOVE[1], _BELOW[1])
    head = (aside / wide) ** 2 + ((down - _HAIR_LINE) / high) ** 2 <= 1
    hair = (down < _BROWS) | ((down < 0) & (aside > _TEMPLE))
    nose = (down < _NOSE_BASE) & (aside <= np.interp(down, *np.transpose(_NOSE)))
    eye = (down < _LIDS) & (aside <= _TEMPLE)
    mouth = (down >= _NOSE_BASE) & (down < _LIPS) & (aside <= _MOUTH)
    jaw = down >= _JAW
    ordered = {
        "background": ~head,
        "forehead": hair,
        "nose": nose,
        "left_eye": eye & left,
        "right_eye": eye,
        "mouth": mouth,
        "chin": jaw,
        "left_cheek": left,
        "right_cheek": ~left,
    }
    taken = np.zeros(across.shape, dtype=bool)
    regions = {}
    for name, wanted in ordered.items():
        regions[name] = wanted & ~taken
        taken = taken | wanted
    return {name: regions[name] for name in REGIONS}
