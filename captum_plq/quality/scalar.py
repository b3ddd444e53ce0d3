"""The scalar whose gradient explains an image, and what the forward that makes it tells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq._base.tracing import never_compiled, untraced
from captum_plq.errors import UninformativeWarning, places
from captum_plq.functional import clip_gradient, scale_quality
from captum_plq.network.state import outside_inference
from captum_plq.quality.model import QualityModel

__all__ = ["QualityScalar", "TargetScalar"]

TargetScalar = Literal["node", "serfiq"]
"""What the gradient is taken of: the quality node M_Q, or the SER-FIQ score itself."""


class QualityScalar:
    """One scalar per image for one gradient; called once, it keeps what that forward tells.

    The node's scale is left out of the scalar, and multiplied into the gradient afterwards:
    the same number, without underflow in half precision.

    Args:

        model (QualityModel): The quality node's model.
        target_scalar (str): ``"node"`` or ``"serfiq"``.
        by_feature (bool): Give the node's contributions by feature, (B, ...), for one to be
            picked, in place of their sum. Without meaning for ``"serfiq"``.
        standard_error (bool): Also work out the standard error of Q.

    Raises:
        ValueError: if ``target_scalar`` is unknown.
    """

    def __init__(
        self,
        model: QualityModel,
        target_scalar: TargetScalar,
        *,
        by_feature: bool = False,
        standard_error: bool = False,
    ) -> None:
        require_choice("target_scalar", target_scalar, TargetScalar)
        self._model = model
        self._target_scalar = target_scalar
        self._by_feature = by_feature
        self._standard_error = standard_error
        self._scale: Tensor | None = None
        self._told: tuple[Tensor, Tensor | None] | None = None

    def __call__(self, *given: object) -> Tensor:
        """The scalars (B,), or contributions (B, ...), under autograd.

        Args:

            given: What the model takes, the images first, (B, ...).
        """
        arguments = outside_inference(given)
        if self._target_scalar == "serfiq":
            _, quality, error = self._model.serfiq.assess(
                *arguments, differentiable=True, standard_error=self._standard_error
            )
            self._told = (quality.detach(), error)
            return scale_quality(quality, self._model.scaling)
        node = self._model.build(arguments, standard_error=self._standard_error)
        self._check_slope(node.embedding)
        self._told = (node.quality, node.standard_error)
        self._scale = node.scale
        contributions = node.direction * node.embedding
        return contributions if self._by_feature else contributions.flatten(1).sum(1)

    def finished(
        self, gradients: Sequence[Tensor], max_gradient_norm: float | None
    ) -> tuple[Tensor, ...]:
        """Gradients of the scalar made those of the node: scaled, clipped, contiguous.

        Args:

            gradients (sequence of Tensor): Each (k B, ...), k rows for each image in turn.
            max_gradient_norm (float, optional): Clip each image's gradient to this L2 norm.

        Warns:
            UninformativeWarning: if those of an image are zero everywhere, or not finite.
        """
        assert self._told is not None
        _warn_of_gradients(gradients, len(self._told[0]))
        return tuple(self._finished(gradient, max_gradient_norm) for gradient in gradients)

    def answer(self, attributions: object, quality: bool, standard_error: bool) -> Any:
        """What ``attribute`` returns: attributions, and on request what the forward told.

        Args:

            attributions (Tensor or tuple[Tensor, ...]): As they are to be returned.
            quality (bool): Also Q.
            standard_error (bool): Also its standard error, last.
        """
        assert self._told is not None
        wanted = [
            x for x, asked in zip(self._told, (quality, standard_error), strict=True) if asked
        ]
        return (attributions, *wanted) if wanted else attributions

    def _finished(self, gradient: Tensor, max_gradient_norm: float | None) -> Tensor:
        assert self._told is not None
        images = len(self._told[0])
        by_image = gradient.unflatten(0, (images, -1))
        if self._scale is not None:
            scale = self._scale.to(gradient.device).view(-1, *[1] * gradient.ndim)
            by_image = (by_image * scale).to(gradient.dtype)
        if max_gradient_norm is not None:
            by_image = clip_gradient(by_image, max_gradient_norm)
        finished: Tensor = by_image.flatten(0, 1).contiguous()
        return finished

    def _check_slope(self, embedding: Tensor) -> None:
        """Refuses the ``"l2"`` node on unit vectors, whose gradient is zero everywhere."""
        if self._model.weights != "l2":
            return
        lengths = embedding.detach().flatten(1).norm(dim=1)
        if self._model.normalize or bool(((lengths - 1).abs() < 1e-4).all()):
            raise ValueError(
                "weights='l2' on an embedding of unit length has gradient zero everywhere: the "
                "node looks along the embedding, which can only move across it. Use an "
                "embedding that is not normalised, or another weighting."
            )


@never_compiled
def _warn_of_gradients(gradients: Sequence[Tensor], images: int) -> None:
    """Warns of images whose gradients, over all that is attributed to, mean nothing."""
    with torch.no_grad(), untraced():
        by_image = [x.detach().unflatten(0, (images, -1)).flatten(1) for x in gradients]
        largest = torch.stack([x.abs().amax(1).double().to(by_image[0].device) for x in by_image])
        largest = largest.amax(0)  # NaN and infinity stay what they are
        usable = (largest > 0) & (largest < torch.inf)
        if bool(usable.all()):
            return
        zero = torch.nonzero(largest == 0).flatten().tolist()
        broken = torch.nonzero(~usable & (largest != 0)).flatten().tolist()
    for indices, what, why in (
        (zero, "zero everywhere", "does a step of the network, such as rounding, have no slope?"),
        (
            broken,
            "NaN or infinite in places",
            "does the network divide by 0, or take a root of it?",
        ),
    ):
        if indices:
            warnings.warn(
                f"The gradient of an image is {what}{places(indices, images)}, so its map means "
                f"nothing there: {why}",
                UninformativeWarning,
                stacklevel=4,
            )
