"""Captum attribution methods, one class a file."""

from captum_plq.attribution.layer import LayerPixelQuality
from captum_plq.attribution.local import LocalQuality
from captum_plq.attribution.local_score import LocalScore
from captum_plq.attribution.pixel import PixelQualityAttribution, scaling_factor
from captum_plq.attribution.quality_gradient import Inputs, TargetScalar

__all__ = [
    "Inputs",
    "LayerPixelQuality",
    "LocalQuality",
    "LocalScore",
    "PixelQualityAttribution",
    "TargetScalar",
    "scaling_factor",
]
