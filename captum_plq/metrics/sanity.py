"""Whether an attribution depends on what the network learned: randomise it and look again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq.metrics.checks import evaluation_mode, pixel_range, require_maps, seeded
from captum_plq.metrics.maps import spearman, structural_similarity
from captum_plq.metrics.random_weights import LayerOrder, randomised, with_random_weights
from captum_plq.network.state import check_images

__all__ = [
    "ExplainModel",
    "RandomisationCurve",
    "Similarity",
    "efficient_mprt",
    "histogram_entropy",
    "smooth_mprt",
]

ExplainModel = Callable[[nn.Module, Tensor], Tensor]
"""A network and images (B, C, H, W) → score maps (B, H, W). Built anew for each network."""

Similarity = Literal["spearman", "ssim"]
"""How maps are compared: see :mod:`captum_plq.metrics.maps`."""


@dataclass(frozen=True)
class RandomisationCurve:
    """How alike the maps stay to the original ones while layers lose their weights.

    Args:

        layers (tuple of str): L names, in the order in which they were randomised; with
            ``stages``, the last layer of each stage.
        similarity (Tensor): (L, B), float64, in [-1, 1], after each of these layers.
    """

    layers: tuple[str, ...]
    similarity: Tensor


def smooth_mprt(
    model: nn.Module,
    images: Tensor,
    explain: ExplainModel,
    *,
    samples: int = 50,
    noise: float = 0.1,
    similarity: Similarity = "spearman",
    order: LayerOrder = "bottom-up",
    stages: int | None = None,
    seed: int = 0,
    calibration: Tensor | None = None,
) -> RandomisationCurve:
    r"""Run the Smooth Model Parameter Randomisation Test (sMPRT); low is good.

    Maps are averaged over N noisy copies of each image, as in SmoothGrad, so that the noise of
    gradients is not taken for sensitivity to the weights; then they are compared with those of
    the network with its first, its first two, … layers randomised (Hedström et al., "A Fresh
    Look at Sanity Checks for Saliency Maps", 2024, whose N and noise are the defaults). Every
    network sees the same noise, so a method that ignores the weights scores exactly 1.

    Maps are compared as they come; where only their size counts, let ``explain`` take it.

    Args:

        model (nn.Module): The network; it and the global random state are left as they are.
        images (Tensor): (B, C, H, W), in the unit the model takes.
        explain (Callable): The attribution: a network and images → maps (B, H, W).
        samples (int): N, noisy copies of each image. With ``noise=0`` and one sample it is the
            plain test (MPRT).
        noise (float): Standard deviation of the Gaussian noise, as a share of the range
            (maximum − minimum) of each image.
        similarity (str): ``"spearman"``, or ``"ssim"``, which needs scikit-image.
        order (str): ``"bottom-up"``, from the input, or ``"top-down"``.
        stages (int, optional): At how many depths, evenly spread over the layers, to compare;
            see :func:`~captum_plq.metrics.randomised`. ``None``: at each layer.
        seed (int): For weights and noise, and for the global random state inside ``explain``.
        calibration (Tensor, optional): Images for the statistics of randomised BatchNorms; see
            :func:`~captum_plq.metrics.randomised`. ``None``: ``images``, if there are two or
            more.

    Returns:
        *RandomisationCurve*: similarity by layer and image; its last row is that of a network
        with nothing learned.

    Raises:
        TypeError: if ``images`` or what ``explain`` returns is no floating-point tensor.
        ValueError: if an argument is out of range, or the maps are not (B, H, W) and finite.
        MissingExtraError: for ``"ssim"`` without scikit-image.

    Examples::

        >>> def explain(network, images):
        ...     return merge_channels(PixelQualityAttribution(network).attribute(images))
        >>> curve = smooth_mprt(model, images, explain)
        >>> curve.similarity[-1].mean()  # near 0: the maps owe what they show to the weights
    """
    require_choice("similarity", similarity, Similarity)
    check_images((images,))
    if samples < 1 or not 0 <= noise < math.inf:
        raise ValueError(
            "samples must be at least 1 and noise finite and not negative, but got "
            f"{samples} and {noise}."
        )
    compare = spearman if similarity == "spearman" else structural_similarity
    scale = noise * pixel_range(images)

    def smooth(network: nn.Module, state: str) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        # The same draws for all images, so that none depends on the others.
        draws = (torch.randn(images.shape[1:], generator=generator) for _ in range(samples))
        noisy = (images + scale * draw.to(images) for draw in draws)
        return reduce(torch.add, (_maps(explain, network, x, seed, state) for x in noisy)) / samples

    original = smooth(model, "the network as it is")
    layers, rows = [], []
    statistics = _calibration(images, calibration)
    copies = randomised(model, seed, images=statistics, order=order, stages=stages)
    for layer, altered in copies:
        layers.append(layer)
        rows.append(compare(original, smooth(altered, f"layers up to {layer!r} randomised")))
    return RandomisationCurve(tuple(layers), torch.stack(rows))


def efficient_mprt(
    model: nn.Module,
    images: Tensor,
    explain: ExplainModel,
    *,
    bins: int = 100,
    seed: int = 0,
    calibration: Tensor | None = None,
) -> Tensor:
    r"""Run the Efficient Model Parameter Randomisation Test (eMPRT); high is good.

    .. math:: \frac{H(\text{map of the random network}) - H(\text{map})}{H(\text{map})}

    with H of :func:`histogram_entropy`. A map of a network that learned nothing should be more
    complex than one that shows what was learned (Hedström et al., "A Fresh Look at Sanity Checks
    for Saliency Maps", 2024). There is no comparison pixel by pixel, and only one other network,
    that of :func:`~captum_plq.metrics.with_random_weights`.

    Args:

        model (nn.Module): The network; it and the global random state are left as they are.
        images (Tensor): (B, C, H, W), in the unit the model takes.
        explain (Callable): The attribution: a network and images → maps (B, H, W).
        bins (int): Of the histogram. The default, 100, is the paper's.
        seed (int): For the weights, and for the global random state inside ``explain``.
        calibration (Tensor, optional): as for :func:`smooth_mprt`.

    Returns:
        *Tensor*: (B,), float64, ≥ -1: the relative rise of the entropy; 0 for a method that
        ignores the weights, NaN where the map of the network as it is has only one value.

    Raises:
        TypeError: if ``images`` or what ``explain`` returns is no floating-point tensor.
        ValueError: if an argument is out of range, or the maps are not (B, H, W) and finite.

    Examples::

        >>> efficient_mprt(model, images, explain) > 0
        tensor([True, True, True, True])
    """
    check_images((images,))
    random = with_random_weights(model, seed, images=_calibration(images, calibration))
    maps = _maps(explain, model, images, seed, "the network as it is")
    null = _maps(explain, random, images, seed, "all weights random")
    before, after = histogram_entropy(maps, bins), histogram_entropy(null, bins)
    return torch.where(before > 0, (after - before) / before, torch.nan)


def histogram_entropy(maps: Tensor, bins: int = 100) -> Tensor:
    r"""Return Shannon's entropy of the histogram of each map's values.

    .. math:: H = -\sum_i p_i \ln p_i

    The bins are equally wide, from the map's least value to its greatest, so scaling a map
    changes nothing.

    Args:

        maps (Tensor): (B, H, W), score maps.
        bins (int): At least 2.

    Returns:
        *Tensor*: (B,), float64, in nats, in [0, ln ``bins``]; 0 for a constant map.

    Raises:
        TypeError: if ``maps`` is no floating-point tensor.
        ValueError: if it is not (B, H, W) and finite, or ``bins`` is below 2.

    Examples::

        >>> histogram_entropy(torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]))  # ln 2
        tensor([0.6931], dtype=torch.float64)
    """
    maps = require_maps(maps).double()
    if bins < 2:
        raise ValueError(f"bins must be at least 2, but got {bins}.")
    entropies = []
    for values in maps.flatten(1):
        low = values.min()
        extent = values.max() - low
        share = (values - low) / torch.where(extent > 0, extent, 1.0)
        place = (share * bins).long().clamp(max=bins - 1)
        p = torch.bincount(place, minlength=bins) / len(values)
        entropies.append(torch.special.entr(p.double()).sum())
    return torch.stack(entropies)


def _maps(
    explain: ExplainModel, network: nn.Module, images: Tensor, seed: int, state: str
) -> Tensor:
    """The maps of a network in evaluation mode, (B, H, W), float64."""
    with evaluation_mode(network), seeded(images, seed):
        result = explain(network, images)
    maps = require_maps(result, f"The maps of explain ({state})")
    if len(maps) != len(images):
        raise ValueError(f"explain must return one map per image, but gave {len(maps)}.")
    return maps.double()


def _calibration(images: Tensor, calibration: Tensor | None) -> Tensor | None:
    return calibration if calibration is not None or len(images) < 2 else images
