"""What can be said of score maps alone: how alike and how concentrated they are, and null maps."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from captum_plq._base.precision import at_least_float32
from captum_plq.errors import extra
from captum_plq.metrics.checks import require_finite, require_maps

__all__ = [
    "centre_gaussian",
    "centre_similarity",
    "complexity",
    "gini_index",
    "random_map",
    "similarity_between_images",
    "spearman",
    "structural_similarity",
]


def spearman(maps: Tensor, others: Tensor) -> Tensor:
    r"""Return Spearman's rank correlation of each map with its counterpart, over the pixels.

    Ties share their mean rank, as in ``scipy.stats.spearmanr``. Nothing that keeps the order of
    the pixels (a scale, γ of Eq. 6) changes it.

    Args:

        maps (Tensor): (B, H, W), score maps.
        others (Tensor): (B, H, W), or (1, H, W) to compare all with one.

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; NaN where a map is constant and so has no order.

    Raises:
        TypeError: if these are no floating-point tensors.
        ValueError: if the shapes do not fit, or a value is not finite.

    Examples::

        >>> spearman(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 3.0, 2.0]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    maps, others = require_maps(maps), require_maps(others, "others")
    if maps.shape[1:] != others.shape[1:] or others.shape[0] not in (1, maps.shape[0]):
        raise ValueError(
            "Maps to compare must have the same shape, but got "
            f"{tuple(maps.shape)} and {tuple(others.shape)}."
        )
    return (_standard_ranks(maps) * _standard_ranks(others)).sum(1)


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """Return the SSIM of each map with its counterpart, both first brought to the same scale.

    Each map is divided by its root mean square (Binder et al., "Shortcomings of Top-Down
    Randomization-Based Sanity Checks", CVPR 2023); the data range is that of both together.
    The window is scikit-image's default, 7×7, uniform. SSIM was made for values of one sign: a map
    and its negative can be similar where windows have a mean; where only the size of an
    attribution counts, compare that.

    Args:

        maps (Tensor): (B, H, W), H, W ≥ 7, score maps.
        others (Tensor): (B, H, W).

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; 1 for maps that differ by a positive factor, or
        that are both constant.

    Raises:
        TypeError: if these are no floating-point tensors.
        ValueError: if the shapes differ or are too small, or a value is not finite.
        MissingExtraError: if scikit-image is not installed.

    Examples::

        >>> structural_similarity(maps, 3 * maps) > 0.999  # maps: (2, H, W)
        tensor([True, True])
    """
    maps, others = require_maps(maps), require_maps(others, "others")
    if maps.shape != others.shape or min(maps.shape[1:]) < 7:
        raise ValueError(
            "Maps to compare must have the same shape, 7×7 or more, but got "
            f"{tuple(maps.shape)} and {tuple(others.shape)}."
        )
    with extra("metrics"):
        from skimage.metrics import structural_similarity as ssim

    scores = []
    for one, other in zip(_unit_power(maps), _unit_power(others), strict=True):
        extent = max(one.max(), other.max()) - min(one.min(), other.min())
        scores.append(float(ssim(one, other, data_range=extent)) if extent > 0 else 1.0)
    return torch.tensor(scores, dtype=torch.float64)


def similarity_between_images(maps: Tensor) -> float:
    r"""Return how much of a method's maps is the same whatever the image.

    .. math:: \frac{2}{B(B-1)} \sum_{i<j} \rho(P_i, P_j)

    with Spearman's ρ. Faces are aligned, so a network does look at the same places in all of
    them; a method at 1, though, tells nothing about the image at hand.

    Args:

        maps (Tensor): (B, H, W), B ≥ 2, score maps of different images.

    Returns:
        *float*: in [-1, 1]; 0 for maps with nothing in common, NaN if one is constant.

    Raises:
        TypeError: if ``maps`` is no floating-point tensor.
        ValueError: if it is not (B, H, W) with B ≥ 2, or a value is not finite.

    Examples::

        >>> round(similarity_between_images(torch.stack([score_map, score_map])), 6)
        1.0
    """
    ranks = _standard_ranks(require_maps(maps))
    n = len(ranks)
    if n < 2:
        raise ValueError("maps must be of at least two images to be compared, but got one.")
    # The squared length of a sum of unit vectors is n plus twice the sum over pairs.
    return float((ranks.sum(0).square().sum() - n) / (n * (n - 1)))


def centre_similarity(maps: Tensor) -> Tensor:
    """Return Spearman's correlation of each map with how near a pixel is to the image's centre.

    That is the correlation with :func:`centre_gaussian` of any σ, since all of these order the
    pixels alike.

    Args:

        maps (Tensor): (B, H, W), score maps.

    Returns:
        *Tensor*: (B,), float64, in [-1, 1]; NaN for a constant map.

    Raises:
        TypeError: if ``maps`` is no floating-point tensor.
        ValueError: if it is not (B, H, W), or a value is not finite.

    Examples::

        >>> centre_similarity(centre_gaussian(112, 112, 30.0)[None]) > 0.999
        tensor([True])
    """
    height, width = require_maps(maps).shape[1:]
    return spearman(maps, -_squared_radius(height, width).to(maps.device)[None])


def centre_gaussian(height: int, width: int, sigma: float) -> Tensor:
    r"""Make a score map that knows only where the image's centre is.

    .. math:: \exp\left(-\frac{(y-\bar y)^2+(x-\bar x)^2}{2\sigma^2}\right)

    Args:

        height (int): H, in pixels.
        width (int): W, in pixels.
        sigma (float): σ, in pixels, > 0.

    Returns:
        *Tensor*: (H, W), float32, in [0, 1]; 1 at the centre ((H − 1)/2, (W − 1)/2).

    Raises:
        ValueError: if a side is below 1, or ``sigma`` is not above 0 and finite.

    Examples::

        >>> centre_gaussian(1, 3, 1.0)  # exp(−½) either side
        tensor([[0.6065, 1.0000, 0.6065]])
    """
    if not 0 < sigma < math.inf:
        raise ValueError(f"sigma must be above 0 and finite, but got {sigma}.")
    return torch.exp(-_squared_radius(height, width) / (2 * sigma**2)).float()


def random_map(height: int, width: int, seed: int) -> Tensor:
    """Make a score map that knows nothing: pixels drawn independently and uniformly.

    Args:

        height (int): H, in pixels.
        width (int): W, in pixels.
        seed (int): Take another for each image. The global random state is left alone.

    Returns:
        *Tensor*: (H, W), float32, in [0, 1).

    Raises:
        ValueError: if a side is below 1.

    Examples::

        >>> controls = torch.stack([random_map(112, 112, seed) for seed in range(len(images))])
    """
    _check_sides(height, width)
    return torch.rand(height, width, generator=torch.Generator().manual_seed(seed))


def gini_index(attributions: Tensor) -> Tensor:
    r"""Return how sparse attributions are: the Gini index of their absolute values.

    .. math:: G = 1 - 2 \sum_{k=1}^{N} \frac{c_{(k)}}{\lVert c \rVert_1}
        \cdot \frac{N - k + \tfrac12}{N}, \qquad c_{(1)} \le \dots \le c_{(N)},\; c = |a|

    Hurley and Rickard, "Comparing Measures of Sparsity", IEEE Trans. Inf. Theory 2009; of
    attributions by Chalasani et al., "Concise Explanations of Neural Networks using
    Adversarial Training", ICML 2020. It does not tell whether an attribution is right.

    Args:

        attributions (Tensor): (B, ...), any sign.

    Returns:
        *Tensor*: (B,), in [0, 1 − 1/N]: 0 if all N are equal in size, 1 − 1/N if all but one
        are 0.

    Raises:
        ValueError: if an attribution is not finite, empty, or all zero.

    Examples::

        >>> gini_index(torch.tensor([[1.0, -1.0, 1.0], [0.0, 0.0, 5.0]]))
        tensor([0.0000, 0.6667])
    """
    shares = _shares(attributions).sort(dim=1).values
    count = shares.shape[1]
    k = torch.arange(1, count + 1, device=shares.device, dtype=shares.dtype)
    # 1 - 2 (N - k + 1/2)/N, in a form in which equal shares cancel exactly
    return (shares * ((2 * k - 1 - count) / count)).sum(1)


def complexity(attributions: Tensor) -> Tensor:
    r"""Return the entropy of the distribution of absolute attributions over the pixels.

    .. math:: -\sum_i P_i \ln P_i, \qquad P_i = \frac{|a_i|}{\sum_j |a_j|}

    Bhatt, Weller and Moura, "Evaluating and Aggregating Feature-based Model Explanations",
    IJCAI 2020; 0 ln 0 is 0. It does not tell whether an attribution is right.

    Args:

        attributions (Tensor): (B, ...), any sign.

    Returns:
        *Tensor*: (B,), in nats, in [0, ln N]: 0 if all but one of N are 0, ln N if all are
        equal in size.

    Raises:
        ValueError: if an attribution is not finite, empty, or all zero.

    Examples::

        >>> complexity(torch.tensor([[1.0, -1.0], [0.0, 5.0]]))
        tensor([0.6931, 0.0000])
    """
    entropy: Tensor = torch.special.entr(_shares(attributions))
    return entropy.sum(1)


def _standard_ranks(maps: Tensor) -> Tensor:
    """(B, N), float64: ranks of the pixels, centred, of unit length; products are Spearman's ρ."""
    ranks = torch.stack([_ranks(row) for row in maps.flatten(1)])
    centred = ranks - ranks.mean(1, keepdim=True)
    unit: Tensor = centred / centred.norm(dim=1, keepdim=True)
    return unit


def _ranks(values: Tensor) -> Tensor:
    _, place, count = values.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    shared: Tensor = last - (count.double() - 1) / 2
    return shared[place]


def _unit_power(maps: Tensor) -> np.ndarray:
    values: np.ndarray = maps.double().cpu().numpy()
    power = np.sqrt((values**2).mean(axis=(1, 2), keepdims=True))
    scaled: np.ndarray = values / np.where(power > 0, power, 1.0)
    return scaled


def _squared_radius(height: int, width: int) -> Tensor:
    """(H, W), float64: squared distance of each pixel from the centre, in pixels."""
    _check_sides(height, width)
    y, x = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in (height, width))
    return y.square()[:, None] + x.square()


def _check_sides(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, but got {height} and {width}.")


def _shares(attributions: Tensor) -> Tensor:
    """(B, N): the share of each entry in the sum of absolute values."""
    if attributions.ndim < 2 or attributions.numel() == 0:
        raise ValueError(
            f"attributions must be (B, ...), not empty, but got {tuple(attributions.shape)}."
        )
    require_finite("attributions", attributions)
    sizes = at_least_float32(attributions.detach()).flatten(1).abs()
    greatest = sizes.amax(1, keepdim=True)
    sizes = sizes / torch.where(greatest > 0, greatest, 1.0)  # the sum may not be infinite
    total = sizes.sum(1, keepdim=True)
    empty = (total == 0).flatten().nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"An attribution must not be zero everywhere, but nos. {empty} are.")
    return sizes / total
