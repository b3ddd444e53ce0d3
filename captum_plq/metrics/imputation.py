"""What becomes of a pixel that is removed from an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq.metrics._checks import require_finite
from captum_plq.metrics.linear_imputation import interpolate

__all__ = ["Imputer", "black", "blurred", "constant", "mean_colour", "road"]

Imputer = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) as they are, and which pixels to remove, (B, H, W) bool → the images
without these pixels, (B, C, H, W). A pixel is removed in all its channels, and one that is not
removed keeps its value."""


def black(images: Tensor, removed: Tensor) -> Tensor:
    """Removed pixels become 0, which is black where pixels are 0–255 or 0–1.

    For input that is standardised, give :func:`constant` the value that black has there.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W).

    Raises:
        ValueError: if the shapes or types are not these, or the images are not finite.
    """
    return constant(0.0)(images, removed)


def constant(value: float | Sequence[float]) -> Imputer:
    """Removed pixels take one fixed colour.

    Args:

        value (float or Sequence[float]): One number for all channels, or one for each, in the
            units of the images.

    Returns:
        *Imputer*: see :data:`Imputer`.

    Raises:
        ValueError: if a value is not finite; by the imputer, if the images have another number
            of channels.

    Examples::

        >>> grey = constant(127.5)
        >>> grey(images, removed)
    """
    colour = torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1, 1)
    require_finite("value", colour)

    def impute(images: Tensor, removed: Tensor) -> Tensor:
        _check(images, removed)
        if len(colour) not in (1, images.shape[1]):
            raise ValueError(
                f"The colour has {len(colour)} channels, but the images have {images.shape[1]}."
            )
        return _replaced(images, removed, colour.to(images))

    return impute


def mean_colour(images: Tensor, removed: Tensor) -> Tensor:
    """Removed pixels take the mean colour of their own image.

    The mean is that of all pixels, removed ones too, so that it does not change along a curve.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W).

    Raises:
        ValueError: if the shapes or types are not these, or the images are not finite.
    """
    _check(images, removed)
    return _replaced(images, removed, images.mean((2, 3), keepdim=True))


def blurred(sigma: float) -> Imputer:
    """Removed pixels show the image behind a Gaussian blur.

    The blur is that of the whole image, removed pixels included, so that it does not change
    along a curve: with every pixel removed it is what insertion starts from (Petsiuk et al.,
    "RISE", BMVC 2018). The kernel ends at 4 σ; the border mirrors the image, without repeating
    the outermost pixels.

    Args:

        sigma (float): Standard deviation in pixels, above 0. For a crop of 112×112, 5 leaves
            nothing of eyes, nose and mouth but their shade.

    Returns:
        *Imputer*: see :data:`Imputer`.

    Raises:
        ValueError: if ``sigma`` is not positive and finite.

    Examples::

        >>> nothing_left = torch.ones(len(images), 112, 112, dtype=torch.bool)
        >>> start = blurred(5.0)(images, nothing_left)
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be positive and finite, but got {sigma}.")
    radius = int(4 * sigma + 0.5)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2)
    kernel /= kernel.sum()

    def impute(images: Tensor, removed: Tensor) -> Tensor:
        _check(images, removed)
        planes = images.flatten(0, 1)[:, None]
        for axis in (2, 3):
            place = _mirrored(images.shape[axis], radius).to(images.device)
            shape = (1, 1, -1, 1) if axis == 2 else (1, 1, 1, -1)
            planes = F.conv2d(planes.index_select(axis, place), kernel.to(images).view(shape))
        return _replaced(images, removed, planes.view_as(images))

    return impute


def road(noise: float = 0.01, *, value_range: float = 255.0, seed: int = 0) -> Imputer:
    r"""Noisy linear imputation: removed pixels are interpolated from those that are left.

    Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods"
    (ROAD), ICML 2022. Each removed pixel is the weighted mean of its neighbours,
    removed or not, plus noise; see :func:`~captum_plq.metrics.linear_imputation.interpolate`.
    What is imputed hardly gives away which pixels were removed, as black squares do.

    Two things are this function's own. The noise is one seeded field (C, H, W), the same for
    all images and for all steps of a curve: an image's result does not depend on its batch, and
    a curve moves only because pixels are removed. And where *all* pixels of an image are
    removed, which leaves nothing to interpolate from, they take its mean colour.

    Needs SciPy, of the optional group ``benchmarks``. Works on the CPU in float64, wherever
    the images are.

    Args:

        noise (float): Standard deviation of the noise, as a share of ``value_range``, ≥ 0.
            Default: 0.01, the published one.
        value_range (float): From black to white in the units of the images. Default: 255.
        seed (int): Of the noise. The global random state is left alone.

    Returns:
        *Imputer*: see :data:`Imputer`.

    Raises:
        ValueError: if ``noise`` is negative or ``value_range`` not positive, or if they are not
            finite.
        ImportError: by the imputer, if SciPy is not installed.

    Examples::

        >>> impute = road()
        >>> impute(images, removed)
    """
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be finite and not negative, but got {noise}.")
    if not 0 < value_range < math.inf:
        raise ValueError(f"value_range must be positive and finite, but got {value_range}.")

    def impute(images: Tensor, removed: Tensor) -> Tensor:
        _check(images, removed)
        smooth = interpolate(images, removed)
        generator = torch.Generator().manual_seed(seed)
        field = torch.randn(images.shape[1:], generator=generator) * (noise * value_range)
        return _replaced(images, removed, smooth + field.to(smooth))

    return impute


def _mirrored(size: int, radius: int) -> Tensor:
    """Which pixels of a line stand at −radius … size − 1 + radius if its ends mirror it."""
    if size == 1:
        return torch.zeros(1 + 2 * radius, dtype=torch.long)
    period = 2 * (size - 1)
    place = torch.arange(-radius, size + radius) % period
    return torch.minimum(place, period - place)


def _replaced(images: Tensor, removed: Tensor, by: Tensor) -> Tensor:
    return torch.where(removed[:, None], by, images)


def _check(images: Tensor, removed: Tensor) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "images must be (B, C, H, W), floating point, but got "
            f"{tuple(images.shape)}, {images.dtype}."
        )
    require_finite("images", images)
    expected = (images.shape[0], *images.shape[2:])
    if removed.shape != expected or removed.dtype != torch.bool:
        raise ValueError(
            f"removed must be {expected}, torch.bool, but got "
            f"{tuple(removed.shape)}, {removed.dtype}."
        )
