"""Captum's methods, each with its parameters fixed, on the quality node as target."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, cast

import torch
from captum import attr
from torch import Tensor, nn

from benchmarks.subjects.subject import Attribute, Build, Subject
from captum_plq import QualityModel

__all__ = [
    "CELLS",
    "SAMPLES",
    "SHAP_SAMPLES",
    "STEPS",
    "deep_lift",
    "feature_ablation",
    "gradient_shap",
    "grid_of_cells",
    "guided_gradcam",
    "integrated_gradients",
    "kernel_shap",
    "last_spatial_convolution",
    "layer_gradcam",
    "occlusion",
    "plain",
    "smoothgrad",
]

STEPS = 50
"""Of IntegratedGradients."""
SAMPLES = 10
"""Of SmoothGrad and GradientShap."""
SHAP_SAMPLES = 100
"""Of KernelShap."""
CELLS = 7
"""Superpixels along each side, and windows of Occlusion."""


def plain(make: Callable[[QualityModel], Any], **options: Any) -> Build:
    """A method that needs the images and the node, and nothing that depends on the batch."""

    def build(subject: Subject) -> Attribute:
        method = make(subject.quality_model)

        def attribute(images: Tensor, node: Tensor) -> Tensor:
            return _tensor(method.attribute(images, additional_forward_args=(node,), **options))

        return attribute

    return build


def integrated_gradients(subject: Subject) -> Attribute:
    """IntegratedGradients from black to the image."""
    method = attr.IntegratedGradients(subject.quality_model)
    return lambda images, node: _tensor(
        method.attribute(
            images,
            baselines=subject.low,
            n_steps=STEPS,
            internal_batch_size=max(subject.rows, len(images)),
            additional_forward_args=(node,),
        )
    )


def smoothgrad(subject: Subject) -> Attribute:
    """NoiseTunnel around Saliency; the noise's sd is a tenth of the range of the pixels."""
    method = attr.NoiseTunnel(attr.Saliency(subject.quality_model))
    return lambda images, node: _tensor(
        method.attribute(
            images,
            nt_type="smoothgrad",
            nt_samples=SAMPLES,
            nt_samples_batch_size=min(SAMPLES, subject.at_once(images)),
            stdevs=0.1 * (subject.high - subject.low),
            abs=False,
            additional_forward_args=(node,),
        )
    )


def gradient_shap(subject: Subject) -> Attribute:
    """GradientShap with black as its only baseline."""
    method = attr.GradientShap(subject.quality_model)
    return lambda images, node: _tensor(
        method.attribute(
            images,
            baselines=torch.full_like(images[:1], subject.low),
            n_samples=SAMPLES,
            additional_forward_args=(node,),
        )
    )


def deep_lift(subject: Subject) -> Attribute:
    """DeepLift against black; refuses networks that use one activation twice."""
    method = attr.DeepLift(subject.quality_model)
    return lambda images, node: _tensor(
        method.attribute(images, baselines=subject.low, additional_forward_args=(node,))
    )


def layer_gradcam(subject: Subject) -> Attribute:
    """LayerGradCam of the last spatial convolution, scaled up to the images, (B, C, H, W)."""
    layers = _SpatialLayer(subject.model)

    def attribute(images: Tensor, node: Tensor) -> Tensor:
        method = attr.LayerGradCam(subject.quality_model, layers.of(images))
        small = _tensor(method.attribute(images, additional_forward_args=(node,)))
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return _tensor(attr.LayerAttribution.interpolate(small, size, "bilinear")).expand_as(images)

    return attribute


def guided_gradcam(subject: Subject) -> Attribute:
    """GuidedGradCam of the last spatial convolution."""
    layers = _SpatialLayer(subject.model)

    def attribute(images: Tensor, node: Tensor) -> Tensor:
        method = attr.GuidedGradCam(subject.quality_model, layers.of(images))
        return _tensor(method.attribute(images, additional_forward_args=(node,)))

    return attribute


def occlusion(subject: Subject) -> Attribute:
    """Occlusion by black windows of 1/7 of the side, half a window apart."""
    method = attr.Occlusion(subject.quality_model)

    def attribute(images: Tensor, node: Tensor) -> Tensor:
        window = max(2, images.shape[-1] // CELLS)
        return _tensor(
            method.attribute(
                images,
                sliding_window_shapes=(images.shape[1], window, window),
                strides=(images.shape[1], window // 2, window // 2),
                baselines=subject.low,
                perturbations_per_eval=subject.at_once(images),
                additional_forward_args=(node,),
            )
        )

    return attribute


def feature_ablation(subject: Subject) -> Attribute:
    """FeatureAblation of the cells of a grid, to black."""
    method = attr.FeatureAblation(subject.quality_model)
    return lambda images, node: _tensor(
        method.attribute(
            images,
            baselines=subject.low,
            feature_mask=grid_of_cells(images),
            perturbations_per_eval=subject.at_once(images),
            additional_forward_args=(node,),
        )
    )


def kernel_shap(subject: Subject) -> Attribute:
    """KernelShap on the cells of a grid, to black; needs scikit-learn."""
    if importlib.util.find_spec("sklearn") is None:
        raise ImportError("scikit-learn is not installed, and Captum's KernelShap needs it")
    method = attr.KernelShap(subject.quality_model)
    return lambda images, node: _tensor(
        method.attribute(
            images,
            baselines=subject.low,
            feature_mask=grid_of_cells(images),
            n_samples=SHAP_SAMPLES,
            perturbations_per_eval=subject.rows,
            additional_forward_args=(node,),
        )
    )


def grid_of_cells(images: Tensor, cells: int = CELLS) -> Tensor:
    """Superpixels: a grid of ``cells`` × ``cells``, numbered from 0, (1, C, H, W)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) * cells // height
    columns = torch.arange(width, device=images.device) * cells // width
    return (rows[:, None] * cells + columns).expand(1, images.shape[1], height, width)


class _SpatialLayer:
    """:func:`last_spatial_convolution` of a network, found at the first images."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.found: nn.Module | None = None

    def of(self, images: Tensor) -> nn.Module:
        if self.found is None:
            self.found = last_spatial_convolution(self.model, images)
        return self.found


def last_spatial_convolution(model: nn.Module, images: Tensor) -> nn.Module:
    """The last 2-D convolution to run whose output has more than one position.

    MobileFaceNets end in a convolution over the whole map: its output is 1×1 and tells no place.

    Args:

        model (nn.Module): The network.
        images (Tensor): (B, C, H, W); the first is put through.

    Raises:
        ValueError: if the network runs none.
    """
    ran: list[nn.Module] = []

    def note(layer: nn.Module, _: Any, output: Tensor) -> None:
        if output.shape[-2] * output.shape[-1] > 1:
            ran.append(layer)

    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    handles = [layer.register_forward_hook(note) for layer in convolutions]
    try:
        with torch.no_grad():
            model(images[:1])
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ValueError("the network has no 2-D convolution with an output of more than 1×1")
    return ran[-1]


def _tensor(attributions: Any) -> Tensor:
    return cast("Tensor", attributions.detach())
