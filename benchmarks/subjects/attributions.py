"""The registry of attribution methods, all on the same target scalar.

The scalar is the paper's quality node M_Q (Eq. 3) of the image that is explained, except where a
description says otherwise. PLQ finds the node on its way. The other methods take it from
``ExplainedNetwork.node``, which computes it once per batch, so that none of them is charged for
SER-FIQ: Saliency is one plain forward and backward of the network, the least any gradient can cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from captum import attr
from torch import Tensor, nn

from benchmarks.subjects.methods import Attribute, Build, Method, select
from benchmarks.subjects.naive import naive_plq, official_serfiq
from benchmarks.subjects.network import ExplainedNetwork, layers_that_ran
from captum_plq import LocalQuality, PixelQualityAttribution
from captum_plq.network.output import select_embedding

REFERENCE, REPEATED = "saliency", "saliency-again"
"""What every ratio is to, and the same once more: it shows how far ratios can be trusted."""

_STEPS, _SAMPLES, _SHAP_SAMPLES, _CELLS = 50, 10, 100, 7
"""Steps of IntegratedGradients; samples of SmoothGrad and GradientShap, and of KernelShap;
cells along each side, and windows of Occlusion."""


def select_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods of these names, as :func:`select` does, and always both Saliencies."""
    return select(METHODS, names, (REFERENCE, REPEATED))


def grid_of_cells(images: Tensor, cells: int = _CELLS) -> Tensor:
    """Return superpixels: a grid of ``cells`` × ``cells``, numbered from 0, (1, C, H, W)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) * cells // height
    columns = torch.arange(width, device=images.device) * cells // width
    return (rows[:, None] * cells + columns).expand(1, images.shape[1], height, width)


def last_spatial_convolution(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the last 2-D convolution to run whose output has more than one position.

    MobileFaceNets end in a convolution over the whole map, whose 1×1 output names no place.

    Args:

        model (nn.Module): The network.
        images (Tensor): (B, C, H, W); only the first is put through.

    Raises:
        ValueError: if the network runs none.
    """
    ran = layers_that_ran(model, images[:1], nn.Conv2d)
    spatial = [layer for layer, output in ran if output.shape[-2] * output.shape[-1] > 1]
    if not spatial:
        raise ValueError("the network has no 2-D convolution with an output of more than 1×1")
    return spatial[-1]


def plq(exact: bool = False, serfiq: dict[str, Any] | None = None, **options: Any) -> Build:
    """Return PLQ as a method.

    Args:

        exact (bool): Whether it fails on networks without the closed form that is asked for.
        serfiq (dict, optional): Arguments of :class:`~captum_plq.SERFIQ`.
        options: Of :class:`~captum_plq.PixelQualityAttribution`.
    """

    def build(network: ExplainedNetwork) -> Attribute:
        quality = network.serfiq(**(serfiq or {}))
        method = PixelQualityAttribution(quality, **options)

        def attribute(images: Tensor) -> Tensor:
            found = cast("Tensor", method.attribute(images))
            if exact and quality.fallback_reason is not None:
                raise ValueError(f"no closed form on this network: {quality.fallback_reason}")
            return found

        return attribute

    return build


def local(network: ExplainedNetwork) -> Attribute:
    """Return local quality as a method: places of an image against the image's own quality."""
    method = LocalQuality(network.serfiq())
    return lambda images: cast("Tensor", method.attribute(images))


def sum_gradient(network: ExplainedNetwork) -> Attribute:
    """Return the gradient of the embedding's sum as a method: no quality is in it."""
    method = attr.Saliency(lambda x: select_embedding(network.model(x)).flatten(1).sum(1))
    return lambda images: cast("Tensor", method.attribute(images, abs=False).detach())


def _captum(make: Callable[..., Any], **options: Any) -> Build:
    """A method of Captum on M_Q; an option may be a function of network and images."""

    def build(network: ExplainedNetwork) -> Attribute:
        method = make(network.quality_model)

        def attribute(images: Tensor) -> Tensor:
            given = {k: v(network, images) if callable(v) else v for k, v in options.items()}
            return _attribute(method, network, images, **given)

        return attribute

    return build


def _gradcam(make: Callable[..., Any]) -> Build:
    """A method of the last spatial convolution, upsampled to the images where it is smaller."""

    def build(network: ExplainedNetwork) -> Attribute:
        found: list[nn.Module] = []

        def attribute(images: Tensor) -> Tensor:
            if not found:
                found.append(last_spatial_convolution(network.model, images))
            method = make(network.quality_model, found[0])
            small = _attribute(method, network, images)
            if small.shape == images.shape:
                return small
            size = (int(images.shape[-2]), int(images.shape[-1]))
            large = cast("Tensor", attr.LayerAttribution.interpolate(small, size, "bilinear"))
            return large.detach().expand_as(images)

        return attribute

    return build


def _attribute(method: Any, network: ExplainedNetwork, images: Tensor, **options: Any) -> Tensor:
    node = network.node(images)
    found = method.attribute(images, additional_forward_args=(node,), **options)
    return cast("Tensor", found.detach())


def _black(network: ExplainedNetwork, images: Tensor) -> float:
    return network.low


def _cells(_: ExplainedNetwork, images: Tensor) -> Tensor:
    return grid_of_cells(images)


def _window(network: ExplainedNetwork, images: Tensor, parts: int = 1) -> tuple[int, int, int]:
    """1/7 of the side or a part of that, over all channels."""
    side = max(2, images.shape[-1] // _CELLS) // parts
    return images.shape[1], side, side


_LAYER, _DEEP_LIFT = "last spatial convolution", "black baseline; no rule for PReLU and GELU"
_RELU = "rule only at nn.ReLU: at other activations the plain gradient"
_saliency = _captum(attr.Saliency, abs=False)
_smoothgrad = _captum(
    lambda target: attr.NoiseTunnel(attr.Saliency(target)),
    nt_type="smoothgrad",
    nt_samples=_SAMPLES,
    nt_samples_batch_size=lambda network, images: min(_SAMPLES, network.at_once(images)),
    stdevs=lambda network, images: 0.1 * (network.high - network.low),
    abs=False,
)
_gradient_shap = _captum(
    attr.GradientShap,
    baselines=lambda network, images: torch.full_like(images[:1], network.low),
    n_samples=_SAMPLES,
)
_integrated_gradients = _captum(
    attr.IntegratedGradients,
    baselines=_black,
    n_steps=_STEPS,
    internal_batch_size=lambda network, images: max(network.rows, len(images)),
)
_occlusion = _captum(
    attr.Occlusion,
    sliding_window_shapes=_window,
    strides=partial(_window, parts=2),
    baselines=_black,
    perturbations_per_eval=ExplainedNetwork.at_once,
)
_feature_ablation = _captum(
    attr.FeatureAblation,
    baselines=_black,
    feature_mask=_cells,
    perturbations_per_eval=ExplainedNetwork.at_once,
)
_kernel_shap = _captum(
    attr.KernelShap,
    baselines=_black,
    feature_mask=_cells,
    n_samples=_SHAP_SAMPLES,
    perturbations_per_eval=lambda network, images: network.rows,
)

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("plq", "plq", plq(), "m sampled passes, Q included"),
        Method("plq-balanced", "plq", plq(serfiq={"estimator": "balanced"}),
               "m passes in balanced groups"),
        Method("plq-closed-form", "plq", plq(serfiq={"estimator": "closed-form"}), "no sampling"),
        Method("plq-serfiq-target", "plq", plq(target_scalar="serfiq"),
               "gradient of the SER-FIQ score itself"),
        Method("local", "plq", local, "local quality: one forward, Q included"),
        Method(REFERENCE, "control", _saliency, "one forward, one backward"),
        Method(REPEATED, "control", _saliency, "the same once more"),
        Method("input-x-gradient", "other", _captum(attr.InputXGradient), as_map="relative"),
        Method("guided-backprop", "other", _captum(attr.GuidedBackprop), _RELU, as_map="relative"),
        Method("deconvolution", "other", _captum(attr.Deconvolution), _RELU),
        Method("deep-lift", "other", _captum(attr.DeepLift, baselines=_black), _DEEP_LIFT),
        Method("layer-gradcam", "other", _gradcam(attr.LayerGradCam), f"{_LAYER}, scaled up",
               as_map="relative"),
        Method("guided-gradcam", "other", _gradcam(attr.GuidedGradCam), _LAYER),
        Method("smoothgrad", "other", _smoothgrad, f"{_SAMPLES} samples, sd 0.1 of range",
               slow=True, as_map="relative"),
        Method("integrated-gradients", "other", _integrated_gradients, f"{_STEPS} steps",
               slow=True, as_map="relative"),
        Method("gradient-shap", "other", _gradient_shap, f"{_SAMPLES} samples, black baseline",
               slow=True, as_map="plain"),
        Method("occlusion", "other", _occlusion, f"window 1/{_CELLS} of the side, stride half",
               slow=True, as_map="plain"),
        Method("feature-ablation", "other", _feature_ablation, f"{_CELLS}×{_CELLS} cells",
               slow=True),
        Method("kernel-shap", "other", _kernel_shap,
               f"{_CELLS}×{_CELLS} cells, {_SHAP_SAMPLES} samples", slow=True),
        Method("naive-plq", "reference", naive_plq, "SER-FIQ, then forward and backward"),
        Method("official-serfiq", "reference", official_serfiq,
               "m copies through the whole network; quality only", slow=True, gives="quality"),
    )
}  # fmt: skip
"""All methods by name."""
