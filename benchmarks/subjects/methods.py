"""One registry of the methods that are compared, all on the same target scalar.

The scalar is the paper's quality node M_Q (Eq. 3) of the image that is explained, except
where a description says otherwise. PLQ finds the node on its way. Every other method is
given it, built once beforehand, so none of them is charged for SER-FIQ: Saliency here is
one plain forward and backward of the network, the least any gradient can cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from captum import attr
from torch import Tensor

from benchmarks.subjects import captum_methods as captum
from benchmarks.subjects.captum_methods import CELLS, SAMPLES, SHAP_SAMPLES, STEPS
from benchmarks.subjects.references import reference
from benchmarks.subjects.subject import Attribute, Build, Subject
from captum_plq import PixelQualityAttribution

__all__ = ["METHODS", "REFERENCE", "REPEATED", "Method", "select_methods"]

REFERENCE, REPEATED = "saliency", "saliency-again"
"""What every ratio is to, and the same once more: it tells how far ratios can be trusted."""


@dataclass(frozen=True)
class Method:
    """One method of the comparison.

    Args:

        name (str): As on the command line.
        kind (str): ``"plq"`` (this package), ``"other"`` (another method), ``"control"``
            or ``"reference"`` (the same result, computed naively).
        build (Callable): Makes it for a network. Raises whatever speaks against it.
        description (str): Its parameters, and what a reader must know.
        slow (bool): Whether it takes tens of forwards.
        gives (str): ``"attribution"``, or ``"quality"`` alone.
    """

    name: str
    kind: Literal["plq", "other", "control", "reference"]
    build: Build
    description: str
    slow: bool = False
    gives: Literal["attribution", "quality"] = "attribution"


def select_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """The methods of these names, in the registry's order, and always the two Saliencies.

    Args:

        names (sequence of str): Names, or ``"all"``, or ``"fast"`` (all but the slow ones).

    Returns:
        *tuple[Method, ...]*

    Raises:
        ValueError: if a name is unknown.
    """
    unknown = sorted(set(names) - set(METHODS) - {"all", "fast"})
    if unknown:
        raise ValueError(f"Unknown methods {unknown}; there are {', '.join(METHODS)}.")
    wanted = {REFERENCE, REPEATED, *names}
    return tuple(
        method
        for name, method in METHODS.items()
        if name in wanted or "all" in wanted or ("fast" in wanted and not method.slow)
    )


def _plq(target_scalar: Literal["node", "serfiq"] = "node", **options: Any) -> Build:
    def build(subject: Subject) -> Attribute:
        plq = PixelQualityAttribution(subject.serfiq(**options), target_scalar=target_scalar)
        return lambda images, node: cast("Tensor", plq.attribute(images))

    return build


_BLACK = "black baseline"
_RELU = "rule only at nn.ReLU: at other activations the plain gradient"

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("plq", "plq", _plq(), "m sampled passes, Q included"),
        Method("plq-balanced", "plq", _plq(estimator="balanced"), "m passes in balanced groups"),
        Method("plq-closed-form", "plq", _plq(estimator="closed-form"), "no sampling"),
        Method("plq-serfiq-target", "plq", _plq("serfiq"), "gradient of the SER-FIQ score itself"),
        Method(
            REFERENCE,
            "control",
            captum.plain(attr.Saliency, abs=False),
            "one forward, one backward",
        ),
        Method(REPEATED, "control", captum.plain(attr.Saliency, abs=False), "the same once more"),
        Method("input-x-gradient", "other", captum.plain(attr.InputXGradient), ""),
        Method("guided-backprop", "other", captum.plain(attr.GuidedBackprop), _RELU),
        Method("deconvolution", "other", captum.plain(attr.Deconvolution), _RELU),
        Method("deep-lift", "other", captum.deep_lift, f"{_BLACK}; no rule for PReLU and GELU"),
        Method(
            "layer-gradcam", "other", captum.layer_gradcam, "last spatial convolution, scaled up"
        ),
        Method("guided-gradcam", "other", captum.guided_gradcam, "last spatial convolution"),
        Method(
            "smoothgrad", "other", captum.smoothgrad, f"{SAMPLES} samples, sd 0.1 of range", True
        ),
        Method(
            "gradient-shap", "other", captum.gradient_shap, f"{SAMPLES} samples, {_BLACK}", True
        ),
        Method(
            "integrated-gradients", "other", captum.integrated_gradients, f"{STEPS} steps", True
        ),
        Method(
            "occlusion",
            "other",
            captum.occlusion,
            f"window 1/{CELLS} of the side, stride half",
            True,
        ),
        Method(
            "feature-ablation", "other", captum.feature_ablation, f"{CELLS}×{CELLS} cells", True
        ),
        Method(
            "kernel-shap",
            "other",
            captum.kernel_shap,
            f"{CELLS}×{CELLS} cells, {SHAP_SAMPLES} samples",
            True,
        ),
        Method(
            "naive-plq",
            "reference",
            reference(whole_network=False),
            "SER-FIQ, then forward and backward",
        ),
        Method(
            "official-serfiq",
            "reference",
            reference(whole_network=True),
            "m copies through the whole network; quality only",
            True,
            "quality",
        ),
    )
}
"""All methods by name."""
