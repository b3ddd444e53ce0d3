"""Draw on faces: the face's axes, shapes, a hand, paint and light."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_plq.errors import extra
from captum_plq.faces.checks import require_landmarks

__all__ = [
    "Color",
    "Disturbed",
    "FaceAxes",
    "bar_outline",
    "checked_color",
    "face_axes",
    "from_linear",
    "hand_layers",
    "lens_outline",
    "mask_outline",
    "paint",
    "polygon_coverage",
    "square_mask",
    "to_linear",
]

Color = tuple[int, int, int]
"""RGB, 0–255."""

Layer = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Coverage and brightness, each (H, W), 0–1."""

_SUPERSAMPLING = 4

_CHEEK = 0.84
"""Where a mask's upper edge meets the cheeks, in distances from the eyes to the nose's base."""

_CHIN = _CHEEK + 1.9

# A hand, in distances between the eyes, some 63 mm: a palm of 95 by 80 mm, fingers of 55 to 75 mm
# beyond it, 19 mm thick.
_PALM = (0.75, 0.64)
_FINGERS = ((-0.48, 0.85), (-0.16, 1.1), (0.16, 1.15), (0.47, 1.0))
_FINGER_RADIUS = 0.155
_DARKEST = 0.62


class Disturbed(NamedTuple):
    """A face that is partly occluded, and where.

    Args:

        image (ndarray): (H, W, 3), uint8, RGB.
        mask (ndarray): (H, W), bool; true where the object covers the face, be it in part.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


class FaceAxes(NamedTuple):
    """A face's own axes, so that what is drawn turns, leans and grows with it.

    Args:

        middle (ndarray): (2,), between the eyes, x and y in pixels.
        across (ndarray): (2,), from the left to the right eye's centre, as seen.
        down (ndarray): (2,), at right angles to it, as long as from the eyes to the base of the
            nose.
        lean (float): How far the base of the nose lies to the right, in distances between the
            eyes: 0 for a frontal face.
    """

    middle: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    lean: float

    @property
    def eye_distance(self) -> float:
        """The distance between the eyes' centres in pixels."""
        return float(np.linalg.norm(self.across))

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Turn units of ``across`` and ``down``, (..., 2), into x and y in pixels."""
        axes = np.stack([self.across, self.down])
        return np.asarray(self.middle + np.asarray(points, dtype=np.float64) @ axes)

    def pixels_by_eyes(self, points: ArrayLike) -> NDArray[np.float64]:
        """As :meth:`pixels`, but with the distance between the eyes as the unit both ways.

        A nod shortens the way from the eyes to the nose, but no glasses.
        """
        scale = self.eye_distance / np.linalg.norm(self.down)
        return self._replace(down=self.down * scale).pixels(points)


def face_axes(landmarks: NDArray[np.float64]) -> FaceAxes:
    """Return the axes of a face from dlib's five landmarks.

    Args:

        landmarks (ndarray): (5, 2), x and y in pixels.

    Raises:
        ValueError: if ``landmarks`` is not as above, or the two eyes coincide.
    """
    points = require_landmarks(landmarks)
    right, left, nose = points[0:2].mean(axis=0), points[2:4].mean(axis=0), points[4]
    middle, across = (right + left) / 2, right - left
    along = np.array([-across[1], across[0]])
    length = float(across @ across)
    down = along * (float((nose - middle) @ along) / length)
    return FaceAxes(middle, across, down, float((nose - middle) @ across) / length)


def checked_color(color: Color) -> Color:
    """Return a colour, or raise if it is not three numbers from 0 to 255.

    Raises:
        ValueError: if it is not.
    """
    if len(color) != 3 or not all(0 <= channel <= 255 for channel in color):
        raise ValueError(f"color must be three numbers from 0 to 255, but got {color}.")
    return color


def polygon_coverage(outline: NDArray[np.float64], height: int, width: int) -> NDArray[np.float64]:
    """Return how much of each pixel lies inside a polygon (n, 2): (height, width), 0–1."""
    with extra("faces"):
        from PIL import Image, ImageDraw

    n = _SUPERSAMPLING
    canvas = Image.new("L", (width * n, height * n))
    fine = (outline + 0.5) * n - 0.5
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in fine], fill=1)
    blocks = np.asarray(canvas, dtype=np.float64).reshape(height, n, width, n)
    return np.asarray(blocks.mean(axis=(1, 3)))


def square_mask(
    centre: NDArray[np.float64], size: int, height: int, width: int
) -> NDArray[np.bool_]:
    """Return a square of whole pixels around a point, cut off at the border: (height, width)."""
    column, row = (round(float(c) - (size - 1) / 2) for c in centre)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[max(0, row) : max(0, row + size), max(0, column) : max(0, column + size)] = True
    return mask


def paint(
    image: NDArray[np.uint8], coverage: NDArray[np.float64], color: ArrayLike
) -> NDArray[np.uint8]:
    """Mix a colour, or a picture (H, W, 3), into an image where a shape covers it.

    Args:

        image (ndarray): (H, W, 3), uint8; left as it is.
        coverage (ndarray): (H, W), 0–1.
        color (array-like): (3,) or (H, W, 3), 0–255.

    Returns:
        *ndarray*: (H, W, 3), uint8.
    """
    mixed = image + coverage[:, :, None] * (np.asarray(color, dtype=np.float64) - image)
    return np.rint(mixed).astype(np.uint8)


def to_linear(values: ArrayLike) -> NDArray[np.float64]:
    """Turn sRGB values, 0–255, into amounts of light, 0–1 (IEC 61966-2-1)."""
    v = np.asarray(values, dtype=np.float64) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def from_linear(light: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Turn amounts of light into sRGB values; what exceeds white is white."""
    x = light.clip(0, 1)
    v = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(255 * v).astype(np.uint8)
    return pixels


def mask_outline(axes: FaceAxes, top: float) -> NDArray[np.float64]:
    """Return a surgical mask's border as a polygon (n, 2) in pixels."""
    # A turned head moves the nose to one side; bridge and chin follow it by half.
    lean = axes.lean / 2
    sides = max(_CHEEK, top)
    begin = np.arcsin((sides - _CHEEK) / (_CHIN - _CHEEK))

    # Upper edge: high on the bridge, low on the cheeks under the eyes.
    x = np.linspace(-1.0, 1.0, 41)
    upper_y = sides - (sides - top) * (np.cos(np.pi * x) + 1) / 2
    bend = np.sin(begin) + (1 - np.sin(begin)) * (1 - x**2)
    upper = np.stack([x * np.cos(begin) + lean * bend, upper_y], axis=1)
    # Lower edge: an ellipse from cheek to cheek, around the chin.
    angle = np.linspace(begin, np.pi - begin, 61)[1:-1]
    lower = np.stack(
        [np.cos(angle) + lean * np.sin(angle), _CHEEK + (_CHIN - _CHEEK) * np.sin(angle)], axis=1
    )
    return axes.pixels(np.concatenate([upper, lower]))


def lens_outline(u: float, grow: float) -> NDArray[np.float64]:
    """Return a rounded rectangle (n, 2) around an eye, in distances between the eyes."""
    t = np.linspace(0, 2 * np.pi, 81)[:-1]
    x, y = (np.sign(f) * np.abs(f) ** 0.6 for f in (np.cos(t), np.sin(t)))
    return np.stack([u + (0.38 + grow) * x, 0.06 + (0.3 + grow) * y], axis=1)


def bar_outline(left: float, right: float, v: float, thickness: float) -> NDArray[np.float64]:
    """Return a bar (4, 2) that lies level, in distances between the eyes."""
    top, bottom = v - thickness / 2, v + thickness / 2
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def hand_layers(
    axes: FaceAxes, target: NDArray[np.float64], side: int, height: int, width: int, seed: int
) -> list[Layer]:
    """Return palm and fingers, to be painted in this order.

    Args:

        axes (FaceAxes): of the face.
        target (ndarray): (2,), x and y in pixels, which the roots of the fingers cover.
        side (int): -1 or 1: the hand holds the cheek to the left or right, fingers up; 0: it
            lies across, from either side.
        height (int): Of the image in pixels.
        width (int): Of the image in pixels.
        seed (int): For side, direction, spread and lengths.
    """
    generator = np.random.default_rng(seed)
    unit = axes.eye_distance
    right = axes.across / unit
    up = -axes.down / np.linalg.norm(axes.down)
    from_side = side if side else int(generator.choice([-1, 1]))
    # 90° is up, 0° to the right; fingers point away from where the arm is.
    degrees = generator.normal(90 + 12 * from_side if side else 90 + 80 * from_side, 6)
    ahead = right * np.cos(np.radians(degrees)) + up * np.sin(np.radians(degrees))
    aside = np.array([-ahead[1], ahead[0]])
    rows, columns = np.indices((height, width))
    offsets = np.stack([columns, rows], axis=-1) - target
    grid = np.stack([offsets @ ahead, offsets @ aside], axis=-1) / unit

    reach = 0.2 + _PALM[0] * 0.8
    layers = [_ellipse(grid, np.array([-reach, 0.0]), _PALM, unit)]
    spread = generator.uniform(4, 10)
    for across, length in _FINGERS:
        angle = np.radians(spread * across / 0.16 / 2 + generator.normal(0, 1.5))
        root = np.array([-0.35, across])
        tip = root + (length * generator.uniform(0.92, 1.08) + 0.15) * np.array(
            [np.cos(angle), np.sin(angle)]
        )
        layers.append(_capsule(grid, root, tip, _FINGER_RADIUS, unit))
    return layers


def _capsule(
    grid: NDArray[np.float64],
    root: NDArray[np.float64],
    tip: NDArray[np.float64],
    radius: float,
    unit: float,
) -> Layer:
    axis = tip - root
    along = ((grid - root) @ axis / (axis @ axis)).clip(0, 1)
    distance = np.linalg.norm(grid - root - along[..., None] * axis, axis=-1)
    return _layer(radius - distance, radius, unit)


def _ellipse(
    grid: NDArray[np.float64], centre: NDArray[np.float64], axes: tuple[float, float], unit: float
) -> Layer:
    scaled = (grid - centre) / np.array(axes)
    norm = np.linalg.norm(scaled, axis=-1)
    # First order of the distance to the edge: (1 − f)/|∇f|.
    slope = np.linalg.norm(scaled / np.array(axes), axis=-1) / np.maximum(norm, 1e-9)
    return _layer((1 - norm) / np.maximum(slope, 1e-9), _FINGER_RADIUS, unit)


def _layer(depth: NDArray[np.float64], rounding: float, unit: float) -> Layer:
    """From how deep inside a pixel lies, in eye distances, to coverage and brightness."""
    coverage = (depth * unit + 0.5).clip(0, 1)
    inward = (depth / rounding).clip(0, 1)
    return coverage, _DARKEST + (1 - _DARKEST) * np.sqrt(1 - (1 - inward) ** 2)
