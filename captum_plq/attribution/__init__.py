"""Captum attribution methods, one class a file."""

from captum_plq.attribution.layer import LayerPixelQuality
from captum_plq.attribution.pixel import (
    Inputs,
    PixelQualityAttribution,
    TargetScalar,
    scaling_factor,
)

__all__ = [
    "Inputs",
    "LayerPixelQuality",
    "PixelQualityAttribution",
    "TargetScalar",
    "scaling_factor",
]
