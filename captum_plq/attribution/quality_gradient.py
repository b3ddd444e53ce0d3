"""What the attribution methods share: one forward, a scalar per image, its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from captum._utils.gradient import compute_gradients
from captum.attr import GradientAttribution
from torch import Tensor, nn

from captum_plq._base.choices import require_choice
from captum_plq._base.late import look
from captum_plq._base.tracing import untraced
from captum_plq.errors import UninformativeWarning, places, warn_caller
from captum_plq.functional import NodeWeights, QualityScaling, clip_gradient, scale_quality
from captum_plq.functional.directions import root_mean_square, signs_on
from captum_plq.network.borrowed import borrowed
from captum_plq.network.forward_function import as_module
from captum_plq.network.independence import largest_of_each
from captum_plq.network.state import check_images, outside_inference
from captum_plq.quality.model import QualityModel
from captum_plq.quality.scores.base import QualityScore
from captum_plq.quality.serfiq import SERFIQ, Assessment

__all__ = ["Inputs", "QualityCall", "QualityGradient", "TargetScalar", "extra_arguments"]

Inputs = TypeVar("Inputs", Tensor, tuple[Tensor, ...])

TargetScalar = Literal["node", "serfiq"]
"""What the gradient is taken of: the quality node M_Q, or the SER-FIQ score itself.

In the place of these words, methods take another score, an object.
"""


class QualityGradient(GradientAttribution):  # type: ignore[misc]
    """Base class of the methods that differentiate an image's quality."""

    def __init__(
        self,
        model: nn.Module | QualityScore | Callable[..., object],
        *,
        weights: NodeWeights = "l1",
        target_scalar: TargetScalar | QualityScore = "node",
        scaling: QualityScaling | None = None,
        normalize: bool | None = None,
        directions: int | None = None,
    ) -> None:
        if isinstance(target_scalar, QualityScore):
            model = _score_of(model, target_scalar)
            if isinstance(target_scalar, SERFIQ):
                target_scalar = "serfiq"
        else:
            require_choice("target_scalar", target_scalar, TargetScalar)
            _refuse_serfiq_of(model, target_scalar)
        _check_directions(directions, target_scalar)
        self.quality_model = QualityModel(
            model, weights=weights, scaling=scaling, normalize=normalize
        )
        self.target_scalar: TargetScalar | QualityScore = target_scalar
        self.directions = directions
        GradientAttribution.__init__(self, self.quality_model)

    def attribute_future(self) -> None:
        """Not implemented, as for Captum's Saliency."""
        raise NotImplementedError("attribute_future is not implemented for pixel-level quality.")


class QualityCall:
    """One call of ``attribute``: the quality of its images, and gradients of it.

    A context manager, in which the network is lent.

    Args:

        method (QualityGradient): What is called.
        inputs, target, additional_forward_args: As in Captum.
        standard_error (bool): Estimate the standard error of Q as well.

    Raises:
        TypeError, ValueError: as ``attribute``.
    """

    def __init__(
        self,
        method: QualityGradient,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any,
        additional_forward_args: object,
        standard_error: bool,
    ) -> None:
        self.images = inputs if isinstance(inputs, tuple) else (inputs,)
        check_images(self.images, method.quality_model.serfiq.model)
        if target is not None and method.directions is not None:
            raise ValueError(
                "target picks one feature of the embedding, directions combine all: give one of "
                "the two."
            )
        self.extras = extra_arguments(additional_forward_args)
        self.model = method.quality_model
        self._lent = ExitStack()
        self._method, self._target, self._standard_error = method, target, standard_error
        self._scale: Tensor | None = None

    def __enter__(self) -> QualityCall:
        """Get a copy of the network, whose parameters require no grad."""
        if self.model.score is None:
            serfiq = self.model.serfiq
            self.network = self._lent.enter_context(serfiq.lender.lend(serfiq.model)).network
        else:
            self.model = borrowed(self.model, frozen=True)
            self.network = self.model.serfiq.model
        return self

    def __exit__(self, *raised: Any) -> None:
        """Give the copy back."""
        self._lent.__exit__(*raised)

    def values(self, given: Sequence[object]) -> Tensor:
        """Run the network once.

        Args:

            given (sequence): What the model takes, the images first, (B, ...).

        Returns:
            *Tensor*: (B,), or (B, ...) contributions of the embedding's features of which a
            target or directions select. The node's scale is left out, and multiplied into the
            gradient afterwards: the same number, without underflow in half precision.
        """
        given, target = outside_inference(given), self._method.target_scalar
        if self.model.score is None:
            assessed = self.model.serfiq.assess_through(
                self.network,
                *given,
                differentiable=target == "serfiq",
                standard_error=self._standard_error,
            )
        elif target == "node":
            assessed = self.model.assess(*given, standard_error=self._standard_error)
        else:
            if self._standard_error:
                raise ValueError("Only SER-FIQ is sampled: other scores have no standard error.")
            quality = self.model.score(*given)
            assessed = Assessment(quality, quality, None)
        self._told = assessed.quality.detach(), assessed.standard_error
        if target != "node":
            return scale_quality(assessed.quality, self.model.scaling)
        embedding, direction, self._scale = self.model.node_on(assessed)
        if self.model.weights == "l2":
            _refuse_unit_length(embedding, self.model.normalize)
        ones = self.model.weights in ("l1", "sum")  # the direction is
        values = embedding if ones else direction * embedding
        by_feature = self._target is not None or self._method.directions is not None
        return values if by_feature else values.flatten(1).sum(1)

    def attributions(
        self,
        values: Tensor,
        differentiate: Callable[[Tensor, bool], tuple[Tensor, ...]],
        max_gradient_norm: float | None,
    ) -> tuple[Tensor, ...]:
        """Differentiate what :meth:`values` gave.

        Args:

            values (Tensor): Under autograd.
            differentiate (Callable): From weights of the values, and whether another backward
                follows, to gradients, each (k B, ...), k rows for each image in turn.
            max_gradient_norm (float, optional): Clip each image's gradient to this L2 norm.

        Returns:
            *tuple[Tensor, ...]*: gradients of the quality, scaled, clipped and contiguous.
        """
        method = self._method
        if method.directions is None:
            if self._target is None and method.gradient_func is compute_gradients:
                selection = torch.ones_like(values)  # what it gives
            else:
                leaf = values.detach().requires_grad_()
                (selection,) = method.gradient_func(lambda x: x, (leaf,), self._target)
            gradients = differentiate(selection, False)
        else:
            seed, last = self.model.serfiq.masks.seed, method.directions - 1
            shape = method.directions, tuple(values.shape[1:])
            signs = signs_on(*shape, seed, values.device).to(values.dtype)
            gradients = root_mean_square(
                differentiate(s.expand_as(values), k < last) for k, s in enumerate(signs)
            )
        _warn_of_gradients(gradients, len(self._told[0]))
        return tuple(self._finished(gradient, max_gradient_norm) for gradient in gradients)

    def answer(
        self, attributions: tuple[Tensor, ...], in_tuple: bool, quality: bool, standard_error: bool
    ) -> Any:
        """Return attributions, and on request Q and its standard error, as ``attribute`` does."""
        asked = zip(self._told, (quality, standard_error), strict=True)
        told = [x for x, wanted in asked if wanted]
        answer = attributions if in_tuple else attributions[0]
        return (answer, *told) if told else answer

    def _finished(self, gradient: Tensor, max_gradient_norm: float | None) -> Tensor:
        by_image = gradient.unflatten(0, (len(self._told[0]), -1))
        if self._scale is not None:
            scale = self._scale.to(gradient.device).view(-1, *[1] * gradient.ndim)
            by_image = (by_image * scale).to(gradient.dtype)
        if max_gradient_norm is not None:
            by_image = clip_gradient(by_image, max_gradient_norm)
        finished: Tensor = by_image.flatten(0, 1).contiguous()
        return finished


def extra_arguments(additional_forward_args: object) -> tuple[object, ...]:
    """Return Captum's further arguments of a model as a tuple; ``None``: there are none."""
    if isinstance(additional_forward_args, tuple):
        return additional_forward_args
    return () if additional_forward_args is None else (additional_forward_args,)


def _score_of(model: object, score: QualityScore) -> Any:
    """Return the score, if it is of this model and has gradients."""
    name = type(score).__name__
    own = model.model if isinstance(model, QualityScore) else as_module(model)
    if own is not score.model:
        raise ValueError(
            f"target_scalar is a {name} of another network than the model: make it of the same."
        )
    if not score.differentiable:
        raise ValueError(
            f"{name} has no gradient with respect to the images. Pass it for the model, so that "
            "it takes the place of Q in the quality node: PixelQualityAttribution(score)."
        )
    return score


def _refuse_serfiq_of(model: object, target_scalar: TargetScalar) -> None:
    """Raise where SER-FIQ would be differentiated in place of the score that was given."""
    other = isinstance(model, QualityScore) and not isinstance(model, SERFIQ)
    if target_scalar == "serfiq" and other:
        raise ValueError(
            f"The model is a {type(model).__name__}, but target_scalar='serfiq' is the gradient of "
            "SER-FIQ: pass the score itself, target_scalar=score."
        )


def _check_directions(directions: object, target_scalar: object) -> None:
    if directions is None:
        return
    if isinstance(directions, bool) or not isinstance(directions, int):
        raise TypeError(f"directions must be a whole number or None, but got {directions!r}.")
    if directions < 1:
        raise ValueError(f"directions must be at least 1, but got {directions}.")
    if target_scalar != "node":
        raise ValueError(
            "directions are of the quality node's weights: they need target_scalar='node'."
        )


def _refuse_unit_length(embedding: Tensor, normalized: bool) -> None:
    """Raise for the ``"l2"`` node on unit vectors, whose gradient is zero everywhere."""

    def judge(lengths: list[float]) -> None:
        if all(abs(length - 1) < 1e-4 for length in lengths):
            raise ValueError(
                "weights='l2' on an embedding of unit length has gradient zero everywhere: the "
                "node looks along the embedding, which can only move across it. Use an "
                "embedding that is not normalised, or another weighting."
            )

    if normalized:
        judge([])
    look((embedding.detach().flatten(1).norm(dim=1),), judge)


def _warn_of_gradients(gradients: Sequence[Tensor], images: int) -> None:
    """Warn of images whose gradients, over all that is attributed to, mean nothing."""
    with torch.no_grad(), untraced():
        largest = [largest_of_each(x.detach().unflatten(0, (images, -1))) for x in gradients]
        look([x.to(largest[0].device) for x in largest], partial(_judge_gradients, images))


def _judge_gradients(images: int, numbers: list[float]) -> None:
    if all(0 < x < math.inf for x in numbers):
        return
    of_each = [numbers[place::images] for place in range(images)]  # one for each tensor
    unusable = [not all(x < math.inf for x in own) for own in of_each]
    for bad, what, why in (
        ([not any(own) for own in of_each], "zero everywhere",
         "does a step, such as rounding, have no slope?"),
        (unusable, "NaN or infinite", "does it divide by 0, or take a root of 0?"),
    ):  # fmt: skip
        indices = [place for place, is_bad in enumerate(bad) if is_bad]
        if indices:
            warn_caller(
                f"The gradient of an image is {what}{places(indices, images)}, so its map means "
                f"nothing there. Look at the network: {why}",
                UninformativeWarning,
            )
