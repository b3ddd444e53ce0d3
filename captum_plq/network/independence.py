"""Whether a network treats the images of a batch independently, and tells them apart."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captum_plq._base.late import look
from captum_plq._base.tracing import untraced
from captum_plq.errors import UninformativeWarning, places, refuse_images, warn_caller
from captum_plq.network.embedding_layer import close_rows
from captum_plq.network.output import EmbeddingLayerError, Example, embed

__all__ = [
    "LOOK",
    "check_independence",
    "largest_of_each",
    "refuse_not_finite",
    "refuse_uninformative",
    "refuse_zeros",
]

_CONSTANT = (
    "The network gives exactly the same embedding for {} images, so it tells nothing of an image. "
    "Are its weights loaded, or are some of them zero?"
)
LOOK = "Look at the image (is it blank?), at the network's input, and at its weights."
"""What to do about an embedding or a score that means nothing."""


def check_independence(example: Example) -> None:
    """Raise if an image's embedding depends on the other images, or not on the image.

    Puts other images beside the first one, in a batch of the same size, or of two.

    Args:

        example (Example): The network at work. Nothing is checked if other tensors, that may come
            per image, are among its inputs.

    Raises:
        EmbeddingLayerError: if images depend on each other, or two different images have exactly
            the same embedding.
    """
    images, *others = example.inputs
    if not isinstance(images, Tensor) or any(isinstance(x, Tensor) for x in others):
        return
    first, count = images[:1].detach(), max(1, len(images) - 1)
    for place, other in enumerate((_turned(first), *_unlike(first))):
        batch = torch.cat([first, *[other] * count])
        try:
            with torch.no_grad():
                apart = embed(example.network, (batch, *others), example.output)
        except Exception:  # whatever a model objects to that takes one image at a time
            if place or len(images) > 1:
                raise
            return
        if not close_rows(apart[:1], example.embedding[:1]):
            raise EmbeddingLayerError(_mixed(example.network))
        if bool(torch.isfinite(apart).all()) and not torch.equal(apart[0], apart[-1]):
            return
    raise EmbeddingLayerError(_CONSTANT.format("different"))


def refuse_not_finite(embedding: Tensor) -> None:
    """Raise for embeddings (B, ...) that are not finite, as :func:`refuse_uninformative` does."""
    if embedding.ndim < 2:
        raise EmbeddingLayerError(
            f"The network returns a tensor of shape {tuple(embedding.shape)}, but embeddings come "
            "as (B, d): one row for each image of a batch (B, C, H, W)."
        )
    finite = torch.isfinite(embedding.detach()).flatten(1).all(1)
    refuse_images(~finite, "The network gives a NaN or infinite embedding", LOOK)


def refuse_zeros(embedding: Tensor) -> None:
    """Raise for embeddings (B, d) of zeros, as :func:`refuse_uninformative` does."""
    refuse_images((embedding == 0).all(1), "The network gives an embedding of zeros", LOOK)


def refuse_uninformative(
    images: object, embedding: Tensor, quality: Tensor, unmoved: float = 1.0
) -> None:
    """Raise where embeddings carry no information, so that a quality would mean nothing.

    Args:

        images (Tensor): (B, ...).
        embedding (Tensor): (B, ...), clean.
        quality (Tensor): (B,), Q, made of the stochastic ones, or a ratio it is a function of.
        unmoved (float): What it is at least where dropout does not move the embedding.

    Raises:
        UnusableImagesError: for embeddings that are not finite, or of length 0; names the images.
        EmbeddingLayerError: if several different images all have the same embedding.

    Warns:
        UninformativeWarning: for embeddings that dropout does not move at all.
    """
    with torch.no_grad(), untraced():
        e, q = embedding.detach().flatten(1), quality.detach()
        numbers = (largest_of_each(e), q) if e.shape[1] else (q,)
        look(numbers, partial(_judge, images, e, q, unmoved))


def largest_of_each(rows: Tensor) -> Tensor:
    """Return the largest magnitude in each row (B, ...): (B,), NaN where one is not a number."""
    every = tuple(range(1, rows.ndim))
    largest: Tensor = torch.linalg.vector_norm(rows.detach(), math.inf, dim=every)
    return largest


def _judge(images: object, e: Tensor, q: Tensor, full: float, numbers: list[float]) -> None:
    """Raise or warn; the largest of an embedding and its quality tell that there is no need to."""
    largest, qualities = numbers[: -len(e)], numbers[-len(e) :]
    if (
        len(largest) == len(e)
        and all(0 < x < math.inf for x in largest)
        and all(-1 < x < full for x in qualities)
        and (len(e) == 1 or len(set(largest)) > 1)
    ):
        return
    refuse_not_finite(e)
    refuse_zeros(e)
    refuse_images(
        ~torch.isfinite(q), "A stochastic embedding is NaN, infinite or of length 0", LOOK
    )
    unmoved = [place for place, quality in enumerate(qualities) if quality >= full]
    if unmoved:
        warn_caller(
            "Dropout does not move the embedding of an image at all"
            f"{places(unmoved, len(q))}: none of the features before the embedding layer is "
            f"active, and its quality of 1 tells nothing. {LOOK}",
            UninformativeWarning,
        )
    same = len(e) > 1 and bool((e == e[:1]).all())
    if same and isinstance(images, Tensor) and not bool((images == images[:1]).all()):
        raise EmbeddingLayerError(_CONSTANT.format(f"all {len(e)}"))


def _mixed(network: nn.Module) -> str:
    unsteady = [
        name
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is None
    ]
    return (
        "An image's embedding depends on the other images of its batch: some part of the model "
        "mixes the rows of a batch. "
        + (
            f"{unsteady[0]!r} is a BatchNorm without running statistics: give it some "
            "(track_running_stats=True and a training pass), or take GroupNorm or InstanceNorm."
            if unsteady
            else "Batch statistics, or attention between images, would do that."
        )
    )


def _turned(image: Tensor) -> Tensor:
    return image.flip(tuple(range(1, image.ndim))[-2:])


def _unlike(image: Tensor) -> list[Tensor]:
    """Images that differ from one, even where that is blank."""
    ramp = torch.linspace(0, 1, image[0].numel(), device=image.device, dtype=torch.float32)
    scale = image.abs().max().float().clamp_min(1.0)
    step = (ramp * scale).view(image.shape).to(image.dtype)
    return [image + step, image - step, -image - step, step / scale, -step / scale]
