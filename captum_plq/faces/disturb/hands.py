"""The shape of a hand: an ellipse and four capsules, each with how far in a pixel lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captum_plq.faces.disturb.drawing import FaceAxes

__all__ = ["hand_layers"]

Layer = tuple[NDArray[np.float64], NDArray[np.float64]]

# In distances between the eyes, some 63 mm: a palm of 95 by 80 mm, fingers of 55 to 75 mm beyond
# it, 19 mm thick.
_PALM = (0.75, 0.64)
_FINGERS = ((-0.48, 0.85), (-0.16, 1.1), (0.16, 1.15), (0.47, 1.0))
_FINGER_RADIUS = 0.155
_DARKEST = 0.62


def hand_layers(
    axes: FaceAxes, target: NDArray[np.float64], side: int, height: int, width: int, seed: int
) -> list[Layer]:
    """Palm and fingers, to be painted in this order: coverage and brightness, each (H, W), 0–1.

    Args:

        axes (FaceAxes): of the face.
        target (ndarray): (2,), x and y in pixels, which the roots of the fingers cover.
        side (int): -1 or 1: the hand holds the cheek to the left or right, fingers up; 0: it
            lies across, from either side.
        height (int): Of the image in pixels.
        width (int): Of the image in pixels.
        seed (int): Of side, direction, spread and lengths.
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
