"""What becomes of a pixel that is removed from an image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_plq.errors import extra
from captum_plq.metrics.checks import require_finite

__all__ = ["Imputer", "black", "blurred", "constant", "interpolate", "mean_colour", "road"]

_DIRECT = 1 / 6
_DIAGONAL = 1 / 12

Imputer = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) as they are, and which pixels to remove, (B, H, W) bool → the images
without these pixels, (B, C, H, W). A pixel is removed in all its channels, and one that is not
removed keeps its value. Raises ``ValueError`` if shapes or types are not these, or the images are
not finite."""


def black(images: Tensor, removed: Tensor) -> Tensor:
    """Set removed pixels to 0, which is black where pixels are 0–255 or 0–1.

    For input that is standardised, give :func:`constant` the value that black has there.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W).

    Raises:
        ValueError: as any :data:`Imputer`.
    """
    return constant(0.0)(images, removed)


def constant(value: float | Sequence[float]) -> Imputer:
    """Make an imputer that gives removed pixels one fixed colour.

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

    def fill(images: Tensor, _: Tensor) -> Tensor:
        if len(colour) not in (1, images.shape[1]):
            raise ValueError(
                f"The colour has {len(colour)} channels, but the images have {images.shape[1]}."
            )
        return colour.to(images)

    return _imputer(fill)


def mean_colour(images: Tensor, removed: Tensor) -> Tensor:
    """Give removed pixels the mean colour of their own image.

    The mean is that of all pixels, removed ones too, so that it does not change along a curve.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W).

    Raises:
        ValueError: as any :data:`Imputer`.
    """
    return _imputer(lambda x, _: x.mean((2, 3), keepdim=True))(images, removed)


def blurred(sigma: float) -> Imputer:
    """Make an imputer that shows removed pixels behind a Gaussian blur.

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

    def fill(images: Tensor, _: Tensor) -> Tensor:
        planes = images.flatten(0, 1)[:, None]
        for axis, shape in ((2, (1, 1, -1, 1)), (3, (1, 1, 1, -1))):
            mirrored = np.pad(np.arange(images.shape[axis]), radius, mode="reflect")
            place = torch.from_numpy(mirrored).to(images.device)
            planes = F.conv2d(planes.index_select(axis, place), kernel.to(images).view(shape))
        return planes.view_as(images)

    return _imputer(fill)


def road(noise: float = 0.01, *, value_range: float = 255.0, seed: int = 0) -> Imputer:
    r"""Make an imputer that interpolates removed pixels from those that are left, with noise.

    Noisy linear imputation of Rong et al., "A Consistent and Efficient Evaluation Strategy for
    Attribution Methods" (ROAD), ICML 2022: each removed pixel is the weighted mean of its
    neighbours, removed or not, plus noise; see
    :func:`~captum_plq.metrics.imputation.interpolate`. What is imputed hardly gives away which
    pixels were removed, as black squares do.

    Two things differ from the publication. The noise is one seeded field (C, H, W), the same for
    all images and for all steps of a curve: an image's result does not depend on its batch, and
    a curve moves only because pixels are removed. And where *all* pixels of an image are
    removed, which leaves nothing to interpolate from, they take its mean colour.

    Needs SciPy, of the optional group ``benchmarks``. Works on the CPU in float64, wherever
    the images are.

    Args:

        noise (float): Standard deviation of the noise, as a share of ``value_range``, ≥ 0.
            Default: 0.01, the published one.
        value_range (float): From black to white in the units of the images. Default: 255.
        seed (int): For the noise. The global random state is left alone.

    Returns:
        *Imputer*: see :data:`Imputer`.

    Raises:
        ValueError: if ``noise`` is negative or ``value_range`` not positive, or if they are not
            finite.
        MissingExtraError: by the imputer, if SciPy is not installed.

    Examples::

        >>> impute = road()
        >>> impute(images, removed)
    """
    if not 0 <= noise < math.inf:
        raise ValueError(f"noise must be finite and not negative, but got {noise}.")
    if not 0 < value_range < math.inf:
        raise ValueError(f"value_range must be positive and finite, but got {value_range}.")

    def fill(images: Tensor, removed: Tensor) -> Tensor:
        smooth = interpolate(images, removed)
        generator = torch.Generator().manual_seed(seed)
        field = torch.randn(images.shape[1:], generator=generator) * (noise * value_range)
        return smooth + field.to(smooth)

    return _imputer(fill)


def interpolate(images: Tensor, removed: Tensor) -> Tensor:
    r"""Fill removed pixels so that each is the weighted mean of its eight neighbours.

    Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML
    2022, without the noise:

    .. math:: x_i = \frac{\sum_{j \in N(i)} w_{ij} x_j}{\sum_{j \in N(i)} w_{ij}}
        \quad\text{for each removed } i

    with w = 1/6 for neighbours in the same row or column and 1/12 for diagonal ones. N(i) is
    what lies within the image: at the border the weights that are left are scaled up to one,
    as in the published solver.

    Times the denominators the system is symmetric and positive definite, and it is the same
    for all channels: one sparse factorisation per image.

    Args:

        images (Tensor): (B, C, H, W), floating point; left as they are.
        removed (Tensor): (B, H, W), bool.

    Returns:
        *Tensor*: (B, C, H, W), of the images' type and device; pixels not removed are as they
        were. An image of which nothing is left takes its mean colour.

    Raises:
        MissingExtraError: if SciPy is not installed.

    Examples::

        >>> image = torch.tensor([[[[2.0, 0.0, 4.0]]]])
        >>> interpolate(image, torch.tensor([[[False, True, False]]]))
        tensor([[[[2., 3., 4.]]]])
    """
    with extra("benchmarks"):
        from scipy import sparse
        from scipy.sparse.linalg import splu

    filled = images.mean((2, 3), keepdim=True).expand_as(images).where(removed[:, None], images)
    filled = filled.contiguous()
    height, width = images.shape[2:]
    down, across = (
        sparse.diags([np.ones(n - 1)] * 2, offsets=[-1, 1], shape=(n, n)) for n in (height, width)
    )
    direct = sparse.kron(down, sparse.identity(width))
    direct = direct + sparse.kron(sparse.identity(height), across)
    weights = (_DIRECT * direct + _DIAGONAL * sparse.kron(down, across)).tocsr()
    some_left = removed.any(-1).any(-1) & ~removed.all(-1).all(-1)
    for i in some_left.nonzero().flatten().tolist():
        gone = removed[i].flatten().cpu().numpy()
        pixels = images[i].detach().flatten(1).T.to("cpu", torch.float64).numpy()
        of_gone = weights[gone]
        total = np.asarray(of_gone.sum(axis=1)).ravel()
        # Symmetric and diagonally dominant: no pivoting is needed, and the ordering may assume it.
        factors = splu(
            (sparse.diags(total) - of_gone[:, gone]).tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        solution = factors.solve(of_gone[:, ~gone] @ pixels[~gone])
        filled[i][:, removed[i]] = torch.from_numpy(solution.T).to(images)
    return filled


def _imputer(fill: Callable[[Tensor, Tensor], Tensor]) -> Imputer:
    """Check the arguments, and put what ``fill`` makes of them where pixels are removed."""

    def impute(images: Tensor, removed: Tensor) -> Tensor:
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
        return torch.where(removed[:, None], fill(images, removed), images)

    return impute
