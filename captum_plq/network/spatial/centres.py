"""Where the places of a spatial feature map lie in the image, by the layers in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from captum_plq.functional.enlargement import PlaceCentres
from captum_plq.network.output import Execution

__all__ = ["place_centres"]

_WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
"""Layers that a place's middle is followed through."""


def place_centres(
    executions: Sequence[Execution], image: Sequence[int], grid: Sequence[int]
) -> PlaceCentres | None:
    r"""Follow the middle of the receptive field from layer to layer.

    A window of k pixels (with its dilation), stride s and padding p over a map whose places lie
    at :math:`a + b\,i` pixels gives places at :math:`a + b\,(\frac{k - 1}2 - p) + s\,b\,i`
    (Araujo et al., "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019).
    So behind 3×3 windows of stride 2 and padding 1 the first place lies on the first pixel,
    not in the middle of an equal share of the image. Maps of one size lie alike, as they are added.

    Args:

        executions (sequence of Execution): Calls of modules up to the map, in their order.
        image (sequence of int): H and W, of the images.
        grid (sequence of int): h and w, of the map.

    Returns:
        *PlaceCentres or None*: ``None`` where the layers do not tell, as the size of a map changes
        in another way than by a convolution or a pooling.
    """
    found = [_along(axis, executions, image[axis], grid[axis]) for axis in (0, 1)]
    if found[0] is None or found[1] is None:
        return None
    (top, down), (left, across) = found[0], found[1]
    return PlaceCentres(
        ((top + 0.5) / image[0], (left + 0.5) / image[1]), (down / image[0], across / image[1])
    )


def _along(
    axis: int, executions: Sequence[Execution], pixels: int, places: int
) -> tuple[float, float] | None:
    """Where the first place lies, and from there how far the next one, in pixels."""
    levels = {pixels: (0.0, 1.0)}
    for one in executions:
        if not isinstance(one.layer, _WINDOWS) or one.input.ndim != 4 or one.output.ndim != 4:
            continue
        before, after = (_length(x, axis) for x in (one.input, one.output))
        if before in levels and after not in levels:
            window = _window(one.layer, axis)
            if window is None:
                return None
            width, stride, padding = window
            if (before + 2 * padding - width) // stride + 1 != after and not _rounds_up(one.layer):
                return None  # padded by itself, perhaps on one side
            first, step = levels[before]
            levels[after] = (first + step * ((width - 1) / 2 - padding), step * stride)
    return levels.get(places)


def _length(x: Tensor, axis: int) -> int:
    return x.shape[2 + axis]


def _window(layer: nn.Module, axis: int) -> tuple[int, int, float] | None:
    """Width, stride and padding along an axis."""
    width, stride, dilation = (
        _at(getattr(layer, name, 1), axis) for name in ("kernel_size", "stride", "dilation")
    )
    width = dilation * (width - 1) + 1
    padding: Any = layer.padding
    if padding == "same":
        return width, stride, (width - 1) / 2
    if isinstance(padding, str):
        return width, stride, 0
    return width, stride, _at(padding, axis)


def _at(value: int | tuple[int, ...], axis: int) -> int:
    return value if isinstance(value, int) else value[axis]


def _rounds_up(layer: nn.Module) -> bool:
    return bool(getattr(layer, "ceil_mode", False))
