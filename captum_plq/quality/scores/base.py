"""What a quality score is, and what those of one network have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from captum_plq._base.late import look, reads_once
from captum_plq._base.precision import at_least_float32
from captum_plq._base.tracing import never_compiled, untraced
from captum_plq.errors import refuse_images
from captum_plq.network.borrowed import borrowed, own_copy
from captum_plq.network.exploration import check_embeddings, structure_of
from captum_plq.network.forward_function import as_network
from captum_plq.network.independence import (
    LOOK,
    largest_of_each,
    refuse_not_finite,
    refuse_zeros,
)
from captum_plq.network.output import OutputSelector
from captum_plq.network.state import check_images, eager, outside_inference

__all__ = ["QualityScore", "Score", "UnsuitableNetworkError"]


class UnsuitableNetworkError(ValueError):
    """A network lacks what a score needs; the message says what."""


@runtime_checkable
class QualityScore(Protocol):
    """A score of face image quality: images (B, ...) → (B,), higher is better.

    :class:`~captum_plq.SERFIQ` is one; those of this package derive from :class:`Score`. It is an
    ``nn.Module``, so every Captum method takes it for its ``forward_func``.
    """

    @property
    def model(self) -> nn.Module:
        """The network whose quality it tells."""

    @property
    def differentiable(self) -> bool:
        """Whether it has gradients with respect to the images."""

    @property
    def needs(self) -> str:
        """What the network must have, in words."""

    def __call__(self, *inputs: object) -> Tensor:
        """Return the score of each image, (B,)."""


class Score(nn.Module, ABC):
    """Base class of the scores: runs a network undisturbed and checks what comes out.

    A score gives :meth:`score`, and says in ``needs`` what a network must have for it, in
    ``differentiable`` whether gradients of the images go through. The network runs in evaluation
    mode whatever its own mode is; its hooks are called, and nothing in it changes.

    Args:

        model (nn.Module or Callable): Embedding network, (B, C, H, W) → (B, d), or a function
            around one.
        output (int, str, Callable or None): Which part of its output is the embedding.

    Shape:

        - Input: what ``model`` takes; the images first, (B, ...), floating point.
        - Output: (B,), float32 or float64; higher is better. Each image's score depends on the
          image alone.

    Raises:
        TypeError: for a model that is neither, or integer images.
        ValueError: for a scripted model; as :class:`UnsuitableNetworkError` for one that lacks what
            the score needs; as :class:`~captum_plq.errors.UnusableImagesError`, which names the
            images, for NaN pixels, embeddings that are not finite or all zero, and scores that are
            not finite.

    Warns:
        PixelScaleWarning: for 0–1 pixels where the network takes 0–255.
    """

    differentiable: bool = False
    needs: str = "an embedding"

    def __init__(
        self, model: nn.Module | Callable[..., object], *, output: OutputSelector = None
    ) -> None:
        super().__init__()
        self.model = as_network(model)
        self.output = output
        self._looked = _Looked()

    @abstractmethod
    def score(self, network: nn.Module, inputs: Sequence[object]) -> tuple[Tensor, Tensor]:
        """Return scores (B,) and embeddings (B, ...).

        Args:

            network (nn.Module): A copy of the model for this call, in evaluation mode, to be
                hooked freely. Of a score without gradients, no parameter of it requires grad.
            inputs (sequence): Its arguments, images first, (B, ...).
        """

    @never_compiled
    @reads_once
    def forward(self, *inputs: object) -> Tensor:
        """Return the score of each image.

        Args:

            inputs: What the model takes, the images first, (B, ...).

        Returns:
            *Tensor*: (B,).
        """
        check_images(inputs[:1], self.model)
        gradients = self.differentiable and torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(gradients), eager():
            given = outside_inference(inputs)
            self._look_at(given)
            network = own_copy(self.model) if gradients else borrowed(self.model, frozen=True)
            scores, embedding = self.score(network, given)
            _check(scores, embedding)
            return at_least_float32(scores)

    def _look_at(self, inputs: Sequence[object]) -> None:
        """Check the network at the first call, and again when its modules have changed."""
        structure = structure_of(self.model)
        if self._looked.structure != structure:
            check_embeddings(self.model, inputs, self.output)
            self._looked.structure = structure


class _Looked:
    """At which network a score has looked; copies of the score share it."""

    structure: int | None = None


def _check(scores: Tensor, embedding: Tensor) -> None:
    with torch.no_grad(), untraced():
        e, told = embedding.detach().flatten(1), scores.detach()
        largest = largest_of_each(e) if e.shape[1] else e.new_zeros(len(e))
        look((largest, told), partial(_judge, e, told))


def _judge(e: Tensor, scores: Tensor, numbers: list[float]) -> None:
    largest, told = numbers[: len(e)], numbers[len(e) :]
    if not all(0 < x < math.inf for x in largest) or not all(map(math.isfinite, told)):
        refuse_not_finite(e)
        refuse_zeros(e)
        refuse_images(~torch.isfinite(scores), "A score is NaN or infinite", LOOK)
