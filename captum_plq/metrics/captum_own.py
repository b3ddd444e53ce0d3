"""Captum's own two metrics on quality targets: infidelity and maximum sensitivity.

Both are of Yeh et al., "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019, and
computed by :mod:`captum.metrics`. What is added: perturbations that are stated and seeded, and
the same for every image, so that an image's number does not depend on its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import captum.metrics
import torch
from torch import Tensor

from captum_plq.metrics.checks import pixel_range, require_finite, seeded
from captum_plq.network.state import check_images

__all__ = ["GaussianNoise", "Perturbation", "RemovedSquare", "infidelity", "sensitivity_max"]

Perturbation = Callable[[Tensor, torch.Generator], Tensor]
"""Images (B, C, H, W) and a CPU generator → the images changed, all by one and the same draw."""


@dataclass(frozen=True)
class GaussianNoise:
    """Adds Gaussian noise.

    Args:

        share (float): Standard deviation, as a share of the range (maximum − minimum) of each
            image; above 0.

    Examples::

        >>> infidelity(target, images, attributions, perturbation=GaussianNoise(0.02))
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.share < math.inf:
            raise ValueError(f"share must be above 0 and finite, but got {self.share}.")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W) with noise, one draw for all."""
        noise = torch.randn(images.shape[1:], generator=generator).to(images)
        return images + self.share * pixel_range(images) * noise


@dataclass(frozen=True)
class RemovedSquare:
    """Fills a square at a random place, wholly inside, with each image's mean colour.

    Args:

        share (float): Side of the square, as a share of the shorter side of the image, in
            (0, 1]; at least one pixel.

    Examples::

        >>> infidelity(target, images, attributions, perturbation=RemovedSquare(0.25))
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, but got {self.share}.")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return images (B, C, H, W) with a square removed, at the same place in all."""
        sides = images.shape[-2:]
        side = max(1, round(self.share * min(sides)))
        top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in sides)
        changed = images.clone()
        mean = images.mean((-2, -1), keepdim=True)
        changed[..., top : top + side, left : left + side] = mean
        return changed


def infidelity(
    target: Callable[..., Tensor],
    images: Tensor,
    attributions: Tensor,
    *,
    node: Tensor | None = None,
    perturbation: Perturbation | None = None,
    multiplies_by_inputs: bool = False,
    samples: int = 50,
    rows: int = 64,
    seed: int = 0,
) -> Tensor:
    r"""Return how badly attributions predict what perturbing the image does; 0 is best.

    .. math:: E_I\left[\left(\beta\, I^\top \Phi - (f(x) - f(x - I))\right)^2\right]

    with the best β for each image (``normalize=True`` in Captum, without which methods of
    different scale cannot be compared).

    Args:

        target (Callable): f, images (B, C, H, W) → (B,): a :class:`~captum_plq.SERFIQ`, or a
            :class:`~captum_plq.QualityModel` together with ``node``.
        images (Tensor): x, (B, C, H, W).
        attributions (Tensor): Φ, the shape of ``images``, signed: not merged over the channels,
            not made absolute.
        node (Tensor, optional): (B, d), ``quality_model.node(images)``. Without it, a
            QualityModel would build another node for each perturbed image, which is another
            target than the one the attributions explain.
        perturbation (Perturbation, optional): x − I from x. ``None``: :class:`GaussianNoise`, sd
            0.1 of each image's range.
        multiplies_by_inputs (bool): Whether the method multiplies by the inputs, as its
            ``multiplies_by_inputs`` says (InputXGradient, IntegratedGradients from black): I is
            then the share of each pixel that is taken away.
        samples (int): Perturbations of each image.
        rows (int): Perturbed images evaluated at a time; does not change the result beyond
            rounding.
        seed (int): For the perturbations, and for the global random state inside, which is
            restored.

    Returns:
        *Tensor*: (B,), ≥ 0, in squared units of the target.

    Raises:
        TypeError: if ``images`` are not floating point.
        ValueError: if the attributions have another shape, ``node`` is not one row per image, one
            of these is not finite, or ``samples`` or ``rows`` is below 1.

    Examples::

        >>> quality_model = QualityModel(model)
        >>> node = quality_model.node(images)
        >>> attributions = PixelQualityAttribution(model).attribute(images)
        >>> infidelity(quality_model, images, attributions, node=node)  # (B,)
    """
    _check(images, node, samples, rows)
    if attributions.shape != images.shape:
        raise ValueError(
            f"attributions must have the images' shape {tuple(images.shape)}, channels not "
            f"merged, but got {tuple(attributions.shape)}."
        )
    require_finite("attributions", attributions)
    change = GaussianNoise() if perturbation is None else perturbation
    decorate = captum.metrics.infidelity_perturb_func_decorator(multiplies_by_inputs)
    scores = []
    for x, phi, weights in _batches(rows, images, attributions, node):
        with torch.inference_mode(False), seeded(x, seed):
            score = captum.metrics.infidelity(
                target,
                decorate(_same_for_all(change, len(x), seed)),
                x,
                phi.to(x.dtype),
                additional_forward_args=weights,
                n_perturb_samples=samples,
                max_examples_per_batch=min(rows, samples * len(x)),
                normalize=True,
            )
        scores.append(score.detach().clamp(min=0))  # a difference of sums, rounded
    return torch.cat(scores)


def sensitivity_max(
    attribute: Callable[..., Tensor],
    images: Tensor,
    *,
    node: Tensor | None = None,
    radius: float = 0.02,
    samples: int = 10,
    rows: int = 64,
    seed: int = 0,
) -> Tensor:
    r"""Return how far attributions can change when the image hardly does; low is steady.

    .. math:: \max_{\lVert\delta\rVert_\infty \le r}
        \frac{\lVert\Phi(x+\delta)-\Phi(x)\rVert_2}{\lVert\Phi(x)\rVert_2}

    over uniform draws of δ from the box.

    Args:

        attribute (Callable): Images (B, C, H, W) → attributions or maps (B, ...); called as
            ``attribute(images, node)`` if a node is given.
        images (Tensor): x, (B, C, H, W).
        node (Tensor, optional): (B, d), ``quality_model.node(images)``: the node is then held
            fixed. ``None``: what the method does on a perturbed image includes building the
            node, as in :class:`~captum_plq.PixelQualityAttribution`.
        radius (float): r, as a share of the range (maximum − minimum) of each image.
        samples (int): Draws of δ.
        rows (int): Perturbed images explained at a time; does not change the result beyond
            rounding.
        seed (int): For the perturbations, and for the global random state inside, which is
            restored.

    Returns:
        *Tensor*: (B,), ≥ 0, no unit. Where attributions are all zero, the change itself.

    Raises:
        TypeError: if ``images`` are not floating point.
        ValueError: if ``radius`` is not above 0 and finite, ``node`` is not one finite row per
            image, or ``samples`` or ``rows`` is below 1.

    Examples::

        >>> sensitivity_max(PixelQualityAttribution(model).attribute, images)  # (B,)
        >>> saliency = Saliency(quality_model)
        >>> def fixed(x, node):
        ...     return saliency.attribute(x, abs=False, additional_forward_args=node)
        >>> sensitivity_max(fixed, images, node=node)
    """
    _check(images, node, samples, rows)
    if not 0 < radius < math.inf:
        raise ValueError(f"radius must be above 0 and finite, but got {radius}.")

    def change(x: Tensor, generator: torch.Generator) -> Tensor:
        delta = 2 * torch.rand(x.shape[1:], generator=generator) - 1
        return x + radius * pixel_range(x) * delta.to(x)

    scores = []
    for x, weights in _batches(rows, images, node):
        with torch.inference_mode(False), seeded(x, seed):
            score = captum.metrics.sensitivity_max(
                _explanation(attribute, weights),
                x,
                perturb_func=_same_for_all(change, len(x), seed),
                n_perturb_samples=samples,
                max_examples_per_batch=min(rows, samples * len(x)),
            )
        scores.append(score.detach())
    return torch.cat(scores)


def _same_for_all(change: Perturbation, images: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Perturb what Captum repeats: k rows for each of the images in turn, by k draws."""
    generator = torch.Generator().manual_seed(seed)

    def perturb(repeated: Tensor) -> Tensor:
        rows = repeated.unflatten(0, (images, -1))
        changed = [change(x, generator) for x in rows.unbind(1)]
        return torch.stack(changed, 1).flatten(0, 1).contiguous()

    return perturb


def _explanation(attribute: Callable[..., Tensor], node: Tensor | None) -> Callable[..., object]:
    """Make what Captum calls, always without autograd; it needs contiguous tensors.

    First it gives a tuple and must get one back, or it takes the images of the batch for inputs.
    """

    def explain(given: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        images = given[0] if isinstance(given, tuple) else given
        with torch.enable_grad():
            if node is None:
                result = attribute(images)
            else:
                repeats = len(images) // len(node)
                result = attribute(images, node.repeat_interleave(repeats, 0))
        explained = result.detach().contiguous()
        return (explained,) if isinstance(given, tuple) else explained

    return explain


def _batches(rows: int, images: Tensor, *others: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Yield at most ``rows`` images at a time, and what belongs to them."""
    for first in range(0, len(images), rows):
        parts = (None if x is None else x[first : first + rows] for x in (images, *others))
        yield tuple(None if part is None else _own(part) for part in parts)


def _own(values: Tensor) -> Tensor:
    """Outside autograd and inference mode, in the memory layout that Captum's views need."""
    with torch.inference_mode(False):
        return (values.clone() if values.is_inference() else values.detach()).contiguous()


def _check(images: Tensor, node: Tensor | None, samples: int, rows: int) -> None:
    check_images((images,))
    if images.ndim != 4:
        raise ValueError(f"images must be (B, C, H, W), but got {tuple(images.shape)}.")
    if node is not None and (node.ndim != 2 or len(node) != len(images)):
        raise ValueError(
            f"node must be one row for each of {len(images)} images, but got {tuple(node.shape)}: "
            "pass what node(images) returned."
        )
    if node is not None:
        require_finite("node", node)
    if samples < 1 or rows < 1:
        raise ValueError(f"samples and rows must be at least 1, but got {samples} and {rows}.")
