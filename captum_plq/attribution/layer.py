"""Pixel-level quality's gradient at an inner layer, as a Captum attribution method."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from captum.attr import LayerAttribution
from captum.log import log_usage
from torch import nn

from captum_plq._base.late import reads_once
from captum_plq._base.tracing import never_compiled
from captum_plq.attribution.quality_gradient import (
    Inputs,
    QualityCall,
    QualityGradient,
    TargetScalar,
)
from captum_plq.functional import NodeWeights, QualityScaling
from captum_plq.network.borrowed import original_of
from captum_plq.network.embedding_layer import named_layer
from captum_plq.network.leaves import LayerError, LayerLeaves
from captum_plq.quality.scores.base import QualityScore
from captum_plq.quality.serfiq import SERFIQ

__all__ = ["LayerPixelQuality"]


class LayerPixelQuality(QualityGradient, LayerAttribution):  # type: ignore[misc]
    r"""The gradient of a face image's quality at an inner layer.

    The gradient of :class:`~captum_plq.PixelQualityAttribution`, taken with respect to what
    an inner layer gives or takes in place of the pixels: Eq. 4 with
    :math:`\partial I` replaced by :math:`\partial A`. One forward of the network, and a
    backward that ends at the layer. Not in the paper.

    Args:

        model (nn.Module, SERFIQ or Callable): Embedding network, (B, C, H, W) → (B, d), a
            function around one, or a :class:`~captum_plq.SERFIQ` around it.
        layer (nn.Module): A module of ``model`` that runs once in a forward.
        device_ids (list[int], optional): As for Captum's layer methods: the devices of a
            ``DataParallel`` model, in the order in which it gives them their share of the batch.
            ``None``: in the order of their numbers.
        weights (str): As for :class:`~captum_plq.PixelQualityAttribution`.
        target_scalar (str): As there. ``"serfiq"`` has gradients only in front of the
            embedding layer, up to its input.
        scaling (QualityScaling, optional): α and r of Eq. 2. ``None``: Q̂ = Q.
        normalize (bool, optional): Scale the embedding to unit length within the gradient
            path.
        directions (int, optional): As for :class:`~captum_plq.PixelQualityAttribution`.

    Raises:
        TypeError: if ``layer`` is no ``nn.Module``.
        ValueError: as :class:`~captum_plq.PixelQualityAttribution`.

    Examples::

        >>> layer_plq = LayerPixelQuality(model, model.layer4)
        >>> attributions = layer_plq.attribute(images)  # (B, C', H', W')
        >>> maps = LayerPixelQuality.interpolate(
        ...     attributions.abs().mean(1, keepdim=True), (112, 112), "bilinear"
        ... )
    """

    def __init__(
        self,
        model: nn.Module | Callable[..., object],
        layer: nn.Module,
        device_ids: list[int] | None = None,
        *,
        weights: NodeWeights = "l1",
        target_scalar: TargetScalar = "node",
        scaling: QualityScaling | None = None,
        normalize: bool | None = None,
        directions: int | None = None,
    ) -> None:
        if not isinstance(layer, nn.Module):
            raise TypeError(
                f"layer must be a module of the model, but got {type(layer).__name__}. "
                "model.get_submodule(name) gives a module by its name."
            )
        for given in (model, target_scalar):
            if isinstance(given, QualityScore) and not isinstance(given, SERFIQ):
                raise ValueError(
                    f"LayerPixelQuality is of SER-FIQ, not of a {type(given).__name__}: take one "
                    "of Captum's layer methods, such as LayerGradientXActivation(score, layer)."
                )
        super().__init__(
            model,
            weights=weights,
            target_scalar=target_scalar,
            scaling=scaling,
            normalize=normalize,
            directions=directions,
        )
        LayerAttribution.__init__(self, self.quality_model, layer, device_ids)

    @log_usage()  # type: ignore[untyped-decorator]
    @never_compiled
    @reads_once
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        max_gradient_norm: float | None = None,
        return_quality: bool = False,
        return_standard_error: bool = False,
    ) -> Any:
        r"""Attribute the quality of each image to the layer's values.

        Args:

            inputs (Tensor or tuple[Tensor, ...]): Images (B, C, H, W), floating point, in
                the unit the model takes. The caller's tensors are left as they are.
            target (int, tuple, Tensor or list, optional): As in Captum, index into the
                embedding: only that feature then feeds the quality node.
            additional_forward_args (Any, optional): As in Captum, further arguments of the
                model.
            attribute_to_layer_input (bool): Attribute to what the layer takes, not to what
                it gives. Default: ``False``.
            max_gradient_norm (float, optional): Clip each image's gradient to this L2 norm.
            return_quality (bool): Also return Q. Default: ``False``.
            return_standard_error (bool): Also return the standard error of Q, last.

        Returns:
            *Tensor* or *tuple[Tensor, ...]* of **attributions**, or these followed by
            **quality**, **standard_error**, or both:

            - **attributions**: the shape of what the layer gives (takes) for B images,
              signed, in units of quality per unit of it; a tuple if the layer has several
              tensors, or gives a tuple.
            - **quality** (*Tensor*): Q (B,), before scaling, in (0, 1].
            - **standard_error** (*Tensor*): (B,), in units of Q.

        Raises:
            AssertionError: for a ``target`` that does not fit the embedding.
            TypeError: for integer images.
            ValueError: for NaN pixels; as :class:`~captum_plq.network.leaves.LayerError` for a
                layer that does not run exactly once or has no part in the quality.
        """
        call: QualityCall = QualityCall(
            self, inputs, target, additional_forward_args, return_standard_error
        )
        serfiq = self.quality_model.serfiq
        with torch.inference_mode(False), torch.enable_grad(), call:
            given = (*call.images, *call.extras)
            name = serfiq.prepare(*given)
            leaves = LayerLeaves(
                _copy_of(self.layer, call.network),
                named_layer(call.network, name),
                serfiq.masks.passes,
                of_input=attribute_to_layer_input,
                in_front=self.target_scalar == "serfiq",
                device_ids=self.device_ids,
            )
            values = call.values(given)
            attributions = call.attributions(
                values, partial(leaves.gradients, values), max_gradient_norm
            )
        return call.answer(attributions, leaves.in_tuple, return_quality, return_standard_error)


def _copy_of(layer: nn.Module, model: nn.Module) -> nn.Module:
    """Return the module of a copied model that stands for a layer of the original."""
    for module in model.modules():
        if original_of(module) is layer:
            return module
    raise LayerError(
        f"The layer {type(layer).__name__} was not found among the modules of the model: "
        "model.get_submodule(name) gives a module by its name."
    )
