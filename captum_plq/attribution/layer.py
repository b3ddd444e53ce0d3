"""Pixel-level quality's gradient at an inner layer, as a Captum attribution method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_plq.attribution.pixel import Inputs, TargetScalar
from captum_plq.functional import NodeWeights, QualityScaling
from captum_plq.network.borrowed import original_of
from captum_plq.network.embedding_layer import named_layer
from captum_plq.network.leaves import LayerError, LayerLeaves
from captum_plq.network.state import check_images, outside_inference
from captum_plq.quality.model import QualityModel, borrowed_quality_model
from captum_plq.quality.scalar import QualityScalar

__all__ = ["LayerPixelQuality"]


class LayerPixelQuality(LayerAttribution, GradientAttribution):  # type: ignore[misc]
    r"""Where in a layer the quality of a face image is decided.

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
    ) -> None:
        if not isinstance(layer, nn.Module):
            raise TypeError(
                f"layer must be a module of the model, but got {type(layer).__name__}. "
                "model.get_submodule(name) gives a module by its name."
            )
        self.quality_model = QualityModel(
            model, weights=weights, scaling=scaling, normalize=normalize
        )
        QualityScalar(self.quality_model, target_scalar)  # refuses an unknown word here and now
        self.target_scalar: TargetScalar = target_scalar
        LayerAttribution.__init__(self, self.quality_model, layer, device_ids)
        GradientAttribution.__init__(self, self.quality_model)

    @log_usage()  # type: ignore[untyped-decorator]
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
        r"""Attributes the quality of each image to the layer's values.

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
        images: tuple[Tensor, ...] = inputs if isinstance(inputs, tuple) else (inputs,)
        check_images(images)
        extras: tuple[object, ...] = ()
        if additional_forward_args is not None:
            extra = additional_forward_args
            extras = extra if isinstance(extra, tuple) else (extra,)
        quality_model = borrowed_quality_model(self.quality_model)
        scalar = QualityScalar(
            quality_model,
            self.target_scalar,
            by_feature=target is not None,
            standard_error=return_standard_error,
        )
        serfiq = quality_model.serfiq
        with torch.inference_mode(False), torch.enable_grad():
            given = outside_inference((*images, *extras))
            name = self.quality_model.serfiq.prepare(*given)
            leaves = LayerLeaves(
                _copy_of(self.layer, serfiq.model),
                named_layer(serfiq.model, name),
                of_input=attribute_to_layer_input,
                in_front=self.target_scalar == "serfiq",
                device_ids=self.device_ids,
            )
            with leaves.planted():
                scalars = scalar(*given)
            selection = self._selection(scalars, target)
            gradients, is_tuple = leaves.gradients(
                scalars, selection, serfiq.masks.passes, len(images[0])
            )
            attributions = scalar.finished(gradients, max_gradient_norm)
        result = attributions if is_tuple else attributions[0]
        return scalar.answer(result, return_quality, return_standard_error)

    def attribute_future(self) -> None:
        """Not implemented, as for Captum's layer methods."""
        raise NotImplementedError("attribute_future is not implemented for pixel-level quality.")

    @property
    def multiplies_by_inputs(self) -> bool:
        """``False``: the attribution is a gradient."""
        return False

    def has_convergence_delta(self) -> bool:
        """``False``: a gradient does not sum to a difference of outputs."""
        return False

    def _selection(self, scalars: Tensor, target: Any) -> Tensor:
        """What Captum picks of ``scalars`` for a target: the gradient of its own pick."""
        leaf = scalars.detach().requires_grad_()
        (selection,) = self.gradient_func(lambda x: x, (leaf,), target)
        return cast(Tensor, selection)


def _copy_of(layer: nn.Module, model: nn.Module) -> nn.Module:
    """The module of a copied model that stands for a layer of the original."""
    for module in model.modules():
        if original_of(module) is layer:
            return module
    raise LayerError(
        f"The layer {type(layer).__name__} was not found among the modules of the model: "
        "model.get_submodule(name) gives a module by its name."
    )
