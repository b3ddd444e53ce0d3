"""Pixel-level quality as a Captum attribution method."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from captum.log import log_usage
from torch import Tensor

from captum_plq._base.choices import require_choice
from captum_plq._base.late import apart, reads_once
from captum_plq._base.tracing import never_compiled
from captum_plq.attribution.quality_gradient import (
    Inputs,
    QualityCall,
    QualityGradient,
    TargetScalar,
)
from captum_plq.functional import QualityScaling
from captum_plq.network.state import differentiable_copies
from captum_plq.quality.scores.base import QualityScore

__all__ = ["PixelQualityAttribution", "scaling_factor"]


def scaling_factor(
    quality: Tensor,
    scaling: QualityScaling,
    target_scalar: TargetScalar | QualityScore = "node",
) -> Tensor:
    r"""Return the factor, one per image, by which Eq. 2 multiplies the gradient.

    Attributions made without α and r, times this, are those made with them. So one backward
    gives both, and α and r can be chosen afterwards.

    Args:

        quality (Tensor): Q, any shape, as ``attribute`` returns it.
        scaling (QualityScaling): α and r.
        target_scalar (str or QualityScore): Of the attribution: ``"node"``, whose weights hold Q̂
            in place of Q: Q̂/Q; ``"serfiq"`` or another score, by the chain rule: α Q̂ (1 - Q̂).

    Returns:
        *Tensor*: the shape of ``quality``, > 0; NaN where that is not finite.

    Raises:
        ValueError: if ``target_scalar`` is unknown.

    Examples::

        >>> attributions, quality = plq.attribute(images, return_quality=True)
        >>> factor = scaling_factor(quality, QualityScaling(130.0, 0.88))
        >>> maps = quality_map(attributions * factor.view(-1, 1, 1, 1), gamma=7.5)
    """
    if not isinstance(target_scalar, QualityScore):
        require_choice("target_scalar", target_scalar, TargetScalar)
    quality = quality.masked_fill(quality.isinf(), torch.nan)
    x = scaling.alpha * (quality - scaling.r)
    if target_scalar != "node":
        return scaling.alpha * torch.exp(F.logsigmoid(x) + F.logsigmoid(-x))
    return torch.sigmoid(x) / quality


class PixelQualityAttribution(QualityGradient):
    r"""Pixel-level face image quality (PLQ): how strongly each pixel influences the quality node.

    Terhörst et al., "Pixel-Level Face Image Quality Assessment for Explainable Face
    Recognition", IEEE T-BIOM 2023. The quality of an image for this network (SER-FIQ,
    Eq. 1) becomes a regression node on the network's embedding (Eq. 3); the attribution is
    the gradient of that node with respect to the pixels (Eq. 4). One forward and one
    backward of the network, no training.

    What comes back is the signed gradient S(I). The map P(I) in [0, 1] of Eqs. 5 and 6 is
    a function of it, :func:`~captum_plq.functional.quality_map`, which needs γ.

    Args:

        model (nn.Module, QualityScore or Callable): Embedding network, (B, C, H, W) → (B, d), a
            function around one, a :class:`~captum_plq.SERFIQ` around it with other than the
            paper's parameters, or another score of :mod:`captum_plq.quality.scores`, which then
            takes the place of Q in the node, with gradients or without.
        weights (str): Weights of the quality node: ``"l1"`` (the paper's, the default),
            ``"sum"`` (released code), ``"signed"`` or ``"l2"``; see
            :func:`~captum_plq.functional.node_weights`.
        target_scalar (str or QualityScore): ``"node"`` (the paper's, the default): the quality
            node. ``"serfiq"``: the SER-FIQ score itself, through the stochastic embeddings. A
            differentiable score of :mod:`captum_plq.quality.scores` of the same model: itself.
        scaling (QualityScaling, optional): α and r of Eq. 2. ``None``: Q̂ = Q.
        normalize (bool, optional): Scale the embedding to unit length within the gradient
            path; see :class:`~captum_plq.QualityModel`.
        directions (int, optional): ``None``, the paper's: the gradient of the node, which adds
            up the embedding's features. K: the root mean square of the gradients of K nodes
            whose weights have random signs, for one forward and K backwards. It estimates
            the node's weights times the length of ∂embedding/∂pixel, so nothing cancels
            between features; it is ≥ 0. See :mod:`captum_plq.functional.directions`.

    Raises:
        TypeError: if ``directions`` is not a whole number.
        ValueError: if ``weights`` or ``target_scalar`` is unknown, or a score of another network or
            without gradients; if ``directions`` is below 1 or given for another target than
            ``"node"``; or as :class:`~captum_plq.SERFIQ`.

    Examples::

        >>> plq = PixelQualityAttribution(model)
        >>> attributions, quality = plq.attribute(images, return_quality=True)
        >>> maps = quality_map(attributions, gamma=7.5)  # (B, H, W), 0 red to 1 green
        >>> all_features = PixelQualityAttribution(model, directions=4).attribute(images)
        >>> of_the_norm = PixelQualityAttribution(model, target_scalar=EmbeddingNorm(model))
    """

    @log_usage()  # type: ignore[untyped-decorator]
    @never_compiled
    @reads_once
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: object = None,
        max_gradient_norm: float | None = None,
        return_quality: bool = False,
        return_standard_error: bool = False,
    ) -> Any:
        r"""Attribute the quality of each image to its pixels.

        Args:

            inputs (Tensor or tuple[Tensor, ...]): Images (B, C, H, W), floating point, in
                the unit the model takes. The caller's tensors are left as they are.
            target (int, tuple, Tensor or list, optional): As in Captum, index into the
                embedding: only that feature then feeds the quality node. ``None``, the
                paper's method: all of them do.
            additional_forward_args (Any, optional): As in Captum, further arguments of the
                model, without attributions.
            max_gradient_norm (float, optional): Clip each image's gradient to this L2 norm
                (Sec. VI). ``None``: no clipping.
            return_quality (bool): Also return Q. Default: ``False``.
            return_standard_error (bool): Also return the standard error of Q, after Q if
                that is returned. It takes at least 3 passes. Default: ``False``.

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or these followed by
            **quality**, **standard_error**, or both:

            - **attributions**: S(I) of Eq. 4, the shape and dtype of ``inputs``, signed (but
              with ``directions``), in units of quality per unit of pixel value; a tuple if
              ``inputs`` was one.
            - **quality** (*Tensor*): Q (B,), before scaling, in (0, 1]; or the score's value.
            - **standard_error** (*Tensor*): (B,), Q's sampling error, in units of Q.

        Raises:
            AssertionError: for a ``target`` that does not fit the embedding.
            TypeError: for integer images.
            ValueError: for a node whose gradient vanishes by construction, or a ``target`` where
                there are ``directions``; as :class:`~captum_plq.errors.UnusableImagesError`,
                which names the images, for NaN pixels and embeddings that tell nothing.

        Warns:
            UninformativeWarning: if an image's gradient is zero everywhere or not finite, or its
                embedding is not moved by dropout at all.
            PixelScaleWarning: for 0–1 pixels where the network takes 0–255.
        """
        call: QualityCall = QualityCall(
            self, inputs, target, additional_forward_args, return_standard_error
        )
        with torch.inference_mode(False), torch.enable_grad(), call:
            leaves: tuple[Tensor, ...] = differentiable_copies(call.images)
            values = call.values((*leaves, *call.extras))
            attributions = call.attributions(
                values,
                partial(_gradients, values, leaves),
                max_gradient_norm,
            )
        in_tuple = isinstance(inputs, tuple)
        return call.answer(attributions, in_tuple, return_quality, return_standard_error)


def _gradients(
    values: Tensor, leaves: tuple[Tensor, ...], selection: Tensor, again: bool
) -> tuple[Tensor, ...]:
    with apart():  # a backward runs hooks of the network
        return torch.autograd.grad(values, leaves, selection, again)
